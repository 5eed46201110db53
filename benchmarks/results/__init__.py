"""Rows of results, their tables and bars, and charts."""
