"""The drift monitor as a service."""
