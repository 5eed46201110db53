"""The demo: everything end to end."""
