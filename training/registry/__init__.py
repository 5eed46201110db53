"""The model registry on MLflow: versions, the log of their transitions, aliases, and promotion."""
