"""The worker: its parts put together, the Faust app, loop, publishing, champion and metrics."""
