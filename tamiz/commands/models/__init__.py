"""Commands for models and labelled history."""
