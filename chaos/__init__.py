"""Chaos tests: inject faults into running workers and audit their output. `python -m chaos --help`."""
