"""Settings of all programs, and the connections that follow from them."""
