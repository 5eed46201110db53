"""Counts of what was scored: bins, panes by event time, watermarks and sliding windows."""
