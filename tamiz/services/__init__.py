"""Services around the worker, and what commands and services share."""
