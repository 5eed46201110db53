"""Start positions of input partitions, and checks that an offset fits its log."""
