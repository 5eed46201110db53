"""Columns of byte strings for compiled loops, and compiled writers of single values. Pure.

A writer stores a value at a position of an array of bytes and returns the position after it. It does not check the
array's length: `MAX_*` state how many bytes a value can take.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.arrays import Bytes, Ints, ShortHashes
from scoring.compilation import compiled, compiled_inline
from scoring.decision import DECISION_IDS

MAX_VARINT_BYTES = 10
MAX_INTEGER_BYTES = 20
UUID_BYTES = 36
TIME_BYTES = 24
MAX_ESCAPED_BYTES = 6  # of one byte of a text in JSON

_NAMESPACE = np.frombuffer(DECISION_IDS.bytes, np.uint8)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_SHA1_BLOCK_BYTES = 64
_U5, _U30, _U1, _U2, _U27, _U31 = (np.uint32(n) for n in (5, 30, 1, 2, 27, 31))


def _short_escapes() -> Bytes:
    letters = np.zeros(256, np.uint8)
    for character, letter in zip('"\\\b\t\n\f\r', '"\\btnfr', strict=True):
        letters[ord(character)] = ord(letter)
    return letters


_SHORT_ESCAPES = _short_escapes()  # by byte: the letter after the backslash, 0 if there is none


class ByteColumn(NamedTuple):
    """Byte strings one after another."""

    data: Bytes
    ends: Ints  # of each string; negative for None: -1 - end

    @property
    def size(self) -> int:
        """Length of all strings, in bytes."""
        return len(self.data)


def byte_column(values: Sequence[bytes | None]) -> ByteColumn:
    """Join byte strings.

    >>> byte_column([b"ab", None, b"c"]).ends.tolist()
    [2, -3, 3]
    """
    if None in values:
        present = [value or b"" for value in values]
        ends = np.array([len(value) for value in present], np.int64).cumsum()
        ends[[value is None for value in values]] = -1 - ends[[value is None for value in values]]
        return ByteColumn(np.frombuffer(b"".join(present), np.uint8), ends)
    lengths = np.array([len(value) for value in values], np.int64)  # type: ignore[arg-type]
    return ByteColumn(np.frombuffer(b"".join(values), np.uint8), lengths.cumsum())  # type: ignore[arg-type]


@compiled_inline
def put(out: Bytes, at: int, source: Bytes, start: int, end: int) -> int:
    """Copy a part of another array."""
    for i in range(end - start):
        out[at + i] = source[start + i]
    return at + end - start


@compiled
def put_varint(out: Bytes, at: int, number: int) -> int:
    """Write a number in the variable-length format of Kafka's records (zigzag)."""
    bits = np.uint64((number << 1) ^ (number >> 63))
    while bits > np.uint64(127):
        out[at] = np.uint8((bits & np.uint64(127)) | np.uint64(128))
        bits >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(bits)
    return at + 1


@compiled
def varint_size(number: int) -> int:
    """Length of a number in that format, in bytes."""
    bits = np.uint64((number << 1) ^ (number >> 63))
    size = 1
    while bits > np.uint64(127):
        bits >>= np.uint64(7)
        size += 1
    return size


@compiled
def put_nullable(out: Bytes, at: int, source: Bytes, start: int, end: int) -> int:
    """Write a byte string with its length before it. start, end: of a `ByteColumn`."""
    if end < 0:
        out[at] = 1  # -1: null
        return at + 1
    at = put_varint(out, at, end - start)
    return put(out, at, source, start, end)


@compiled
def put_length(out: Bytes, start: int, end: int, room: int) -> int:
    """Write the length of bytes before them, after `room` bytes were left for it; moves them if it needs more or less.

    Returns the position after them.
    """
    size = varint_size(end - start)
    if size > room:
        for i in range(end - 1, start - 1, -1):
            out[i + size - room] = out[i]
    elif size < room:
        for i in range(start, end):
            out[i + size - room] = out[i]
    put_varint(out, start - room, end - start)
    return end + size - room


@compiled_inline
def start_of(ends: Ints, row: int) -> int:
    """Start of a string of a `ByteColumn`."""
    if row == 0:
        return 0
    end: int = ends[row - 1]
    return end if end >= 0 else -1 - end


@compiled
def put_integer(out: Bytes, at: int, number: int) -> int:
    """Write a number in decimal digits."""
    if number < 0:
        out[at] = 45
        at += 1
        left = ~np.uint64(number) + np.uint64(1)
    else:
        left = np.uint64(number)
    digits, rest = 1, left
    while rest >= np.uint64(10):
        rest //= np.uint64(10)
        digits += 1
    for i in range(digits - 1, -1, -1):
        out[at + i] = np.uint8(np.uint64(48) + left % np.uint64(10))
        left //= np.uint64(10)
    return at + digits


@compiled
def put_json_text(out: Bytes, at: int, source: Bytes, start: int, end: int) -> int:
    """Write UTF-8 text as a JSON string, escaped as msgspec does."""
    out[at] = 34
    at += 1
    for i in range(start, end):
        byte = source[i]
        if byte >= 32 and byte != 34 and byte != 92:
            out[at] = byte
            at += 1
            continue
        out[at] = 92
        letter = _SHORT_ESCAPES[byte]
        if letter:
            out[at + 1] = letter
            at += 2
        else:
            out[at + 1], out[at + 2], out[at + 3] = 117, 48, 48
            out[at + 4], out[at + 5] = _HEX[byte >> 4], _HEX[byte & 15]
            at += 6
    out[at] = 34
    return at + 1


@compiled
def put_base64(out: Bytes, at: int, source: Bytes, start: int, end: int) -> int:
    """Write bytes in base64, padded."""
    while start + 2 < end:
        bits = (np.int64(source[start]) << 16) | (np.int64(source[start + 1]) << 8) | np.int64(source[start + 2])
        out[at], out[at + 1] = _BASE64[bits >> 18], _BASE64[(bits >> 12) & 63]
        out[at + 2], out[at + 3] = _BASE64[(bits >> 6) & 63], _BASE64[bits & 63]
        start += 3
        at += 4
    if start < end:
        bits = np.int64(source[start]) << 16
        if start + 1 < end:
            bits |= np.int64(source[start + 1]) << 8
        out[at], out[at + 1] = _BASE64[bits >> 18], _BASE64[(bits >> 12) & 63]
        out[at + 2] = _BASE64[(bits >> 6) & 63] if start + 1 < end else 61
        out[at + 3] = 61
        at += 4
    return at


@compiled
def _put_digits(out: Bytes, at: int, number: int, digits: int) -> int:
    for i in range(digits - 1, -1, -1):
        out[at + i] = 48 + number % 10
        number //= 10
    return at + digits


@compiled
def put_time(out: Bytes, at: int, time_ms: int) -> int:
    """Write a time of the years 0 to 9999 as RFC 3339, UTC, with milliseconds."""
    days, rest = time_ms // DAY_MS, time_ms % DAY_MS
    # Years from March on, so that a leap day is the last of its year: "chrono-compatible low-level date algorithms".
    shifted = days + 719_468
    era, day_of_era = shifted // 146_097, shifted % 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    at = _put_digits(out, at, era * 400 + year_of_era + (1 if month <= 2 else 0), 4)
    out[at] = 45
    at = _put_digits(out, at + 1, month, 2)
    out[at] = 45
    at = _put_digits(out, at + 1, day_of_year - (153 * month_from_march + 2) // 5 + 1, 2)
    out[at] = 84
    at = _put_digits(out, at + 1, rest // HOUR_MS, 2)
    out[at] = 58
    at = _put_digits(out, at + 1, rest // MINUTE_MS % 60, 2)
    out[at] = 58
    at = _put_digits(out, at + 1, rest // 1_000 % 60, 2)
    out[at] = 46
    at = _put_digits(out, at + 1, rest % 1_000, 3)
    out[at] = 90
    return at + 1


@compiled
def _sha1_block(message: Bytes, at: int, words: ShortHashes, state: ShortHashes) -> None:
    for i in range(16):
        j = at + 4 * i
        words[i] = (
            (np.uint32(message[j]) << np.uint32(24))
            | (np.uint32(message[j + 1]) << np.uint32(16))
            | (np.uint32(message[j + 2]) << np.uint32(8))
            | np.uint32(message[j + 3])
        )
    for i in range(16, 80):
        mixed = np.uint32(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16])
        words[i] = np.uint32(mixed << _U1) | np.uint32(mixed >> _U31)
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for i in range(80):
        if i < 20:
            chosen, constant = np.uint32((b & c) | (~b & d)), np.uint32(0x5A827999)
        elif i < 40:
            chosen, constant = np.uint32(b ^ c ^ d), np.uint32(0x6ED9EBA1)
        elif i < 60:
            chosen, constant = np.uint32((b & c) | (b & d) | (c & d)), np.uint32(0x8F1BBCDC)
        else:
            chosen, constant = np.uint32(b ^ c ^ d), np.uint32(0xCA62C1D6)
        rotated = np.uint32(np.uint32(a << _U5) | np.uint32(a >> _U27))
        mixed = np.uint32(rotated + chosen + e + constant + words[i])
        e, d, c, b, a = d, c, np.uint32(np.uint32(b << _U30) | np.uint32(b >> _U2)), a, mixed
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


@compiled
def put_decision_id(
    out: Bytes,
    at: int,
    source: Bytes,
    start: int,
    end: int,
    message: Bytes,
    words: ShortHashes,
    state: ShortHashes,
) -> int:
    """Write `scoring.decision.decision_id` of a transaction id in UTF-8.

    message, words, state: scratch space of `message_size` bytes, 80 and 5 words.
    """
    size = len(_NAMESPACE) + end - start
    put(message, 0, _NAMESPACE, 0, len(_NAMESPACE))
    put(message, len(_NAMESPACE), source, start, end)
    message[size] = 128
    total = (size + 9 + _SHA1_BLOCK_BYTES - 1) // _SHA1_BLOCK_BYTES * _SHA1_BLOCK_BYTES
    for i in range(size + 1, total - 8):
        message[i] = 0
    for i in range(8):
        message[total - 1 - i] = ((8 * size) >> (8 * i)) & 255
    state[0], state[1], state[2] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
    state[3], state[4] = 0x10325476, 0xC3D2E1F0
    for block in range(0, total, _SHA1_BLOCK_BYTES):
        _sha1_block(message, block, words, state)
    for i in range(16):
        byte = (state[i >> 2] >> np.uint32(24 - 8 * (i & 3))) & np.uint32(255)
        if i == 6:
            byte = (byte & np.uint32(0x0F)) | np.uint32(0x50)  # version 5
        elif i == 8:
            byte = (byte & np.uint32(0x3F)) | np.uint32(0x80)  # variant of RFC 9562
        if i == 4 or i == 6 or i == 8 or i == 10:
            out[at] = 45
            at += 1
        out[at], out[at + 1] = _HEX[byte >> np.uint32(4)], _HEX[byte & np.uint32(15)]
        at += 2
    return at


@compiled_inline
def message_size(size: int) -> int:
    """Bytes of scratch space for the id of a transaction whose id has at most `size` bytes."""
    return size + len(_NAMESPACE) + 9 + _SHA1_BLOCK_BYTES
