"""Counting of scored transactions: bins, panes by event time, watermarks and sliding windows."""
