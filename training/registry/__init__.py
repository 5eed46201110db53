"""The model registry: versions, their transitions, and promotion."""
