"""Tables of tokens that were parsed before: the bytes of a token to its values. A cache: results do not depend on it.

Each output of a scan has a table of bounded size. Bytes are compared, not only hashes, and a token is searched in a few
places only: a stream of tokens with one hash, or of tokens that never come again, costs time but no memory. A table
that is full is emptied, and learns again what is frequent.
"""

from typing import NamedTuple

import numpy as np

from scoring.arrays import Array, Bytes, Flags, Floats, Hashes, Ints
from scoring.compilation import compiled_without_allocation

MAX_TOKENS = 8_192  # of a table
N_SLOTS = 2 * MAX_TOKENS  # a power of two
POOL_BYTES = 64 * MAX_TOKENS
MAX_TOKEN_BYTES = 512  # a longer token is parsed each time
MAX_PROBES = 16
_PRIME = np.uint64(0x9E3779B97F4A7C15)


class TokenTables(NamedTuple):
    """One row per output; results have one row per column of the outputs."""

    slots: Array  # int32, shape (n_outputs, N_SLOTS): index of the token + 1; 0 if free
    hashes: Hashes  # shape (n_outputs, MAX_TOKENS)
    ends: Ints  # shape (n_outputs, MAX_TOKENS + 1): end of token k in the pool is element k + 1
    pool: Bytes  # shape (n_outputs, POOL_BYTES): bytes of the tokens
    counts: Ints  # shape (n_outputs,)
    results: Floats  # shape (n_columns, MAX_TOKENS)


def empty_tables(n_outputs: int, n_columns: int) -> TokenTables:
    """Tables without tokens. Pages of memory are used when tokens are added."""
    return TokenTables(
        slots=np.zeros((n_outputs, N_SLOTS), np.int32),
        hashes=np.empty((n_outputs, MAX_TOKENS), np.uint64),
        ends=np.zeros((n_outputs, MAX_TOKENS + 1), np.int64),
        pool=np.empty((n_outputs, POOL_BYTES), np.uint8),
        counts=np.zeros(n_outputs, np.int64),
        results=np.empty((n_columns, MAX_TOKENS)),
    )


def clear_table(tables: TokenTables, output: int) -> None:
    """Forget the tokens of an output."""
    tables.slots[output] = 0
    tables.counts[output] = 0


@compiled_without_allocation
def hash_token(buffer: Bytes, start: int, end: int) -> np.uint64:
    """A hash of a token: FNV-1a of groups of four bytes, then of single ones, mixed."""
    h = np.uint64(0xCBF29CE484222325)
    i = start
    while i + 4 <= end:
        low = np.uint64(buffer[i]) | np.uint64(buffer[i + 1]) << np.uint64(8)
        high = np.uint64(buffer[i + 2]) | np.uint64(buffer[i + 3]) << np.uint64(8)
        h = (h ^ (low | high << np.uint64(16))) * _PRIME
        h ^= h >> np.uint64(32)
        i += 4
    while i < end:
        h = (h ^ np.uint64(buffer[i])) * _PRIME
        i += 1
    return h ^ (h >> np.uint64(29))


@compiled_without_allocation
def find_token(tables: TokenTables, output: int, buffer: Bytes, start: int, end: int) -> int:
    """Index of a token in the table of an output; -1 if it is not there."""
    h = hash_token(buffer, start, end)
    slot = np.int64(h & np.uint64(N_SLOTS - 1))
    for _ in range(MAX_PROBES):
        token = np.int64(tables.slots[output, slot]) - 1
        if token < 0:
            return -1
        if tables.hashes[output, token] == h:
            first = tables.ends[output, token]
            if tables.ends[output, token + 1] - first == end - start:
                same = True
                for k in range(end - start):
                    if tables.pool[output, first + k] != buffer[start + k]:
                        same = False
                        break
                if same:
                    return int(token)
        slot = (slot + 1) & (N_SLOTS - 1)
    return -1


@compiled_without_allocation
def learn_tokens(
    tables: TokenTables,
    output: int,
    first_column: int,
    buffer: Bytes,
    starts: Ints,
    ends: Ints,
    results: Floats,
    known: Flags,
) -> bool:
    """Add tokens to the table of an output; returns whether it is full.

    starts, ends: places of m tokens in the buffer. results: shape (n_columns of the output, m). known: which of the
    tokens have results.
    """
    for t in range(len(starts)):
        size = ends[t] - starts[t]
        if not known[t] or size > MAX_TOKEN_BYTES or find_token(tables, output, buffer, starts[t], ends[t]) >= 0:
            continue
        token = tables.counts[output]
        first = tables.ends[output, token]
        if token == MAX_TOKENS or first + size > POOL_BYTES:
            return True
        h = hash_token(buffer, starts[t], ends[t])
        slot = np.int64(h & np.uint64(N_SLOTS - 1))
        for _ in range(MAX_PROBES):
            if tables.slots[output, slot] == 0:
                for k in range(size):
                    tables.pool[output, first + k] = buffer[starts[t] + k]
                for c in range(results.shape[0]):
                    tables.results[first_column + c, token] = results[c, t]
                tables.hashes[output, token] = h
                tables.ends[output, token + 1] = first + size
                tables.counts[output] = token + 1
                tables.slots[output, slot] = token + 1
                break
            slot = (slot + 1) & (N_SLOTS - 1)
    return False
