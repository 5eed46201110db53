"""Declarations of data sets: the reader, and the TOML files that ship with Tamiz."""
