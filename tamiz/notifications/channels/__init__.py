"""Notification channels, one per file; `catalogue` lists them."""
