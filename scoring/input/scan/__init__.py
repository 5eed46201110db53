"""A compiled scan of JSON payloads: the usual rows of a batch, cleaned without a Python object for each value."""
