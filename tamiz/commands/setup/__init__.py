"""Commands to set up and check an installation."""
