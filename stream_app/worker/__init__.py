"""The worker: its parts put together, Faust app, loop, publishers, champion cache, drift counter and metrics."""
