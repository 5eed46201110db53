"""Tokens of JSON in a buffer, compiled. A function returns the position after its token; -1 if there is none.

Strict: what is accepted here is accepted by msgspec. What is not may still be JSON; the general decoder reads it.
"""

import numpy as np

from scoring.arrays import Bytes
from scoring.compilation import compiled_without_allocation

HAS_ESCAPE, HAS_NON_ASCII = 1, 2  # flags of a string
MAX_DIGITS = 18  # of a number that no output uses; more digits may be out of range

QUOTE, BACKSLASH, COMMA, MINUS, POINT, COLON = 34, 92, 44, 45, 46, 58
ZERO, NINE = 48, 57
OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE = 91, 93, 123, 125
LOWER_T, LOWER_F, LOWER_N, LOWER_U = 116, 102, 110, 117
# Bytes of a string that are themselves, and not its end, an escape, a control character or part of another character.
_IS_PLAIN = np.array([32 <= c < 128 and c not in (QUOTE, BACKSLASH) for c in range(256)])
_SPACE, _TAB, _LINE_FEED, _RETURN = 32, 9, 10, 13


@compiled_without_allocation
def skip_space(buffer: Bytes, i: int, end: int) -> int:
    """The position after white space, of which there may be none."""
    while i < end and buffer[i] <= _SPACE:
        c = buffer[i]
        if c not in (_SPACE, _LINE_FEED, _RETURN, _TAB):
            break
        i += 1
    return i


@compiled_without_allocation
def scan_string(buffer: Bytes, i: int, end: int) -> tuple[int, int]:
    """The position after a string that starts at i, and its flags. Escapes and UTF-8 are not checked."""
    flags = 0
    i += 1
    while i < end:
        c = buffer[i]
        if _IS_PLAIN[c]:
            i += 1
            continue
        if c == QUOTE:
            return i + 1, flags
        if c < _SPACE:
            return -1, 0
        if c == BACKSLASH:
            flags |= HAS_ESCAPE
            i += 1
        else:
            flags |= HAS_NON_ASCII
        i += 1
    return -1, 0


@compiled_without_allocation
def skip_digits(buffer: Bytes, i: int, end: int) -> int:
    """The position after digits, of which there may be none."""
    while i < end and ZERO <= buffer[i] <= NINE:
        i += 1
    return i


@compiled_without_allocation
def scan_number(buffer: Bytes, i: int, end: int) -> tuple[int, int]:
    """The position after a number that starts at i, and about its number of digits; too many with an exponent."""
    first = i + 1 if buffer[i] == MINUS else i
    i = skip_digits(buffer, first, end)
    if i == first or (buffer[first] == ZERO and i > first + 1):
        return -1, 0
    if i < end and buffer[i] == POINT:
        mark = i
        i = skip_digits(buffer, mark + 1, end)
        if i == mark + 1:
            return -1, 0
    digits = i - first
    if i < end and (buffer[i] | 32) == 101:  # e
        digits = MAX_DIGITS + 1
        mark = i + 1 if i + 1 < end and (buffer[i + 1] == MINUS or buffer[i + 1] == 43) else i
        i = skip_digits(buffer, mark + 1, end)
        if i == mark + 1:
            return -1, 0
    return i, digits


@compiled_without_allocation
def scan_literal(buffer: Bytes, i: int, end: int) -> int:
    """The position after true, false or null, one of which starts at i."""
    c = buffer[i]
    length = 5 if c == LOWER_F else 4
    if i + length > end:
        return -1
    if c == LOWER_T:
        found = buffer[i + 1] == 114 and buffer[i + 2] == LOWER_U and buffer[i + 3] == 101
    elif c == LOWER_F:
        found = buffer[i + 1] == 97 and buffer[i + 2] == 108 and buffer[i + 3] == 115 and buffer[i + 4] == 101
    else:
        found = buffer[i + 1] == LOWER_U and buffer[i + 2] == 108 and buffer[i + 3] == 108
    return i + length if found else -1


@compiled_without_allocation
def scan_nested(buffer: Bytes, i: int, end: int) -> int:
    """The position after an object or array that starts at i. Only the nesting is followed: the text is not checked."""
    depth = 0
    while i < end:
        c = buffer[i]
        if c == QUOTE:
            i, _ = scan_string(buffer, i, end)
            if i < 0:
                return -1
            continue
        if c in (OPEN_BRACE, OPEN_BRACKET):
            depth += 1
        elif c in (CLOSE_BRACE, CLOSE_BRACKET):
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return -1


@compiled_without_allocation
def is_valid_text(buffer: Bytes, i: int, end: int) -> bool:
    """Whether the content of a string is UTF-8 and its escapes are those of JSON. Surrogates are not accepted."""
    while i < end:
        c = buffer[i]
        i += 1
        if c < 128:
            if c != BACKSLASH:
                continue
            c = buffer[i]
            i += 1
            if c == LOWER_U:
                if i + 4 > end:
                    return False
                code = 0
                for k in range(i, i + 4):
                    digit = buffer[k]
                    lower = digit | 32
                    if ZERO <= digit <= NINE:
                        code = 16 * code + digit - ZERO
                    elif 97 <= lower <= 102:
                        code = 16 * code + lower - 87
                    else:
                        return False
                if 0xD800 <= code <= 0xDFFF:
                    return False
                i += 4
            elif c not in (QUOTE, BACKSLASH, 47, 98, 102, 110, 114, 116):
                return False
            continue
        # The first byte of a character gives the number of the others and the range of the second.
        low, high = 0x80, 0xBF
        if 0xC2 <= c <= 0xDF:
            others = 1
        elif 0xE0 <= c <= 0xEF:
            others = 2
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif 0xF0 <= c <= 0xF4:
            others = 3
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        else:
            return False
        if i + others > end or not low <= buffer[i] <= high:
            return False
        for k in range(i + 1, i + others):
            if not 0x80 <= buffer[k] <= 0xBF:
                return False
        i += others
    return True
