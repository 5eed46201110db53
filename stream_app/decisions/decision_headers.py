"""Names of the headers of a decision."""

OFFSET_HEADER = "tamiz-offset"  # offset of the transaction, decimal
GROUP_HEADER = "tamiz-group"  # consumer group of the worker
# Trace headers that are forwarded, the first of each, and their largest lengths in bytes (W3C).
TRACE_HEADERS = {"traceparent": 55, "tracestate": 512}
