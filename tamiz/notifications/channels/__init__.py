"""One file for each channel of notifications; `catalogue` lists them."""
