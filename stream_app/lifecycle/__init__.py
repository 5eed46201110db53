"""Logging, watchdog and stop deadline of a long-running program."""
