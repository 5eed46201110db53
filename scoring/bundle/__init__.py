"""The files of a model version: manifest, validation, and a first load in a child process."""
