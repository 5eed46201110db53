"""Drafts of declarations, inferred from a sample of a file, and what a declaration makes of a file."""
