"""State of profiles in the worker: snapshots, and restore of a partition that is assigned."""
