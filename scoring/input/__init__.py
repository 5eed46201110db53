"""Decoding, parsing and cleaning: JSON payloads or file columns to typed columns; an invalid value rejects its row."""
