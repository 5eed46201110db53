"""Files of transactions: scored, or counted for drift, in one run."""
