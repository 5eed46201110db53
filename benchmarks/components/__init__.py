"""One part alone: batch scoring of a file, codecs, parsers, a profile of the worker, the start of the monitor."""
