"""The review queue: flagged transactions that wait for a person's verdict, and what the person needs to give it."""
