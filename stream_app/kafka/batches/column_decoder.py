"""The interface of a decoder that reads all records of a batch at once, for readers that have one."""

from collections.abc import Callable
from typing import Protocol, Self


class DecodedColumns(Protocol):
    """The records of a batch, of at least one (`stream_app.kafka.batches.record_columns.BatchColumns`)."""

    @property
    def n_headers(self) -> int:
        """Number of headers of all records."""

    def since(self, offset: int) -> Self | None:
        """The records from an offset on; None if there are none."""


# Arguments: decompressed records, their number, first and last offset of the batch, its time, whether that is the time
# of all records, and the size of the largest value. Returns None if a record is not ordinary.
ColumnDecoder = Callable[[bytes, int, int, int, int, bool, int], DecodedColumns | None]
