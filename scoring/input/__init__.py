"""From JSON payloads to typed columns; a bad value is a fault of its row."""
