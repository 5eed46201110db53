"""Model fitting: trees, hyperparameter search, probability calibration, operating points, baseline, reproduction."""
