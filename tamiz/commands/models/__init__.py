"""Commands on models and labelled history."""
