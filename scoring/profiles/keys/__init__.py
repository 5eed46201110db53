"""Exact profiles of the key: its transactions, in arrays, and the loops over them."""
