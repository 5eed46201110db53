"""Turns consumed records into decisions and dead letters, and explains a decision."""
