"""One sub-command a file; each has `register(app)`."""
