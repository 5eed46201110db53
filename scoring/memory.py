"""Gives memory that was freed back to the system."""

import ctypes


def trim_memory() -> None:
    """Return freed memory to the system: glibc keeps up to 64 MB of it, and more between blocks in use.

    Other C libraries than glibc have no such call, and nothing happens.
    """
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


_MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
