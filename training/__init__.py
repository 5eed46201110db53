"""Training: from labelled history to a registered model. `training.pipeline` has the steps in order."""
