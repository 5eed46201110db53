"""The load side of the stream benchmarks: sends transactions on schedule and reads their decisions."""
