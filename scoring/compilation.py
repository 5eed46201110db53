"""Compilation of loops by Numba, with a cache that depends on all of their sources.

Numba caches compiled functions next to their source file, or in the user's cache directory, and compiles again when
that file changes. It inlines functions of other files but does not notice when those change. So the cache key of every
compiled function includes the sources of every module of `scoring`, and of the function's own package, that compiles
functions.
"""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

IMPORT = b"from scoring.compilation import"
Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def compiled(function: Compiled) -> Compiled:
    """Compile a function when it is first called with arguments of new types."""
    return cast(Compiled, _cached(function))


def compiled_inline(function: Compiled) -> Compiled:
    """As `compiled`, but always inlined: for small functions in the innermost loops."""
    return cast(Compiled, _cached(function, inline="always"))


def compiled_without_allocation(function: Compiled) -> Compiled:
    """As `compiled`, for functions that create no array: arrays that they pass on are not counted as references."""
    return cast(Compiled, _cached(function, _nrt=False, forceinline=True))


def _cached(function: Any, **options: Any) -> Any:
    try:
        dispatcher = njit(cache=True, **options)(function)
        dispatcher._cache._cache_file._source_stamp = source_stamp(function.__module__.partition(".")[0])
    except RuntimeError:  # no writable place for a cache: every process compiles
        return njit(**options)(function)
    return dispatcher


@cache
def source_stamp(package: str) -> str:
    """Digest of the modules of `scoring` and of another imported package that compile functions."""
    folders = {str(Path(__file__).parent), *getattr(sys.modules[package], "__path__", ())}
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        if IMPORT in (source := path.read_bytes()):
            digest.update(source)
    return digest.hexdigest()
