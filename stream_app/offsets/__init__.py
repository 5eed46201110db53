"""Where each partition starts, and whether an offset fits its log."""
