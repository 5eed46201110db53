"""Record batches as fetched: their bytes become columns or records."""
