"""Breaking Tamiz on purpose, and counting what came of it. `python -m chaos --help`."""
