"""The worker: its composition root, loop, publishing, champion and metrics."""
