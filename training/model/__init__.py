"""Fitting, search, calibration, operating points, and the reproduction of a run."""
