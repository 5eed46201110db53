"""From labelled history to a registered model."""
