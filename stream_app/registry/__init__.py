"""Read access to the MLflow registry: versions, promotion history, bundles."""
