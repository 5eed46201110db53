"""The demo: everything from end to end."""
