"""Who takes part in the stream benchmark, its environment, and a run of each contender."""
