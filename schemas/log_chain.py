"""Hash chain of a log: each entry names its predecessor, so that a reader detects an edit or a deletion.

    1 <- 2 <- 3 <- 4      each arrow: number and SHA-256 of the preceding entry
         2 <- 3'          written at the same time as 3, and later in order: invalid

A chain alone does not protect its last entries. So the head of the log is also stored elsewhere: in a tag of the log's
registered model, and by every program that has read the log.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from schemas.json_codec import decode


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Number and SHA-256 of an entry."""

    number: int = 0
    sha256: str = ""


START = Head()  # before the first entry


def entry_sha256(number: int, text: str) -> str:
    """SHA-256 of an entry's number and text, in lower-case hexadecimal. text: the value of its tag."""
    return hashlib.sha256(f"{number}\n{text}".encode(errors="surrogatepass")).hexdigest()


def find_damage(digests: Mapping[int, str], after: Mapping[int, Head], heads: Iterable[Head] = ()) -> dict[int, str]:
    """Edits and deletions: one line each, by number of the first affected entry.

    digests: SHA-256 of the present entries by number, ascending. after: the predecessor that each entry names.
    heads: remembered entries, each the last one at some time.

    >>> chain = {2: Head(number=1, sha256="a"), 3: Head(number=2, sha256="b")}
    >>> find_damage({1: "a", 2: "b", 3: "c"}, chain)
    {}
    >>> find_damage({1: "a", 3: "c"}, chain)
    {2: 'entry 2 is missing'}
    >>> find_damage({1: "x", 2: "b"}, chain, [Head(number=4, sha256="d")])
    {1: 'entry 1 was changed after it was written (it is x now)', 3: 'entries 3 to 4 are missing'}
    """
    found: dict[int, str] = {}
    last = 0
    for number in digests:
        if number > last + 1:
            found[last + 1] = _missing(last + 1, number - 1)
        last = number
    known = [*after.values(), *heads]
    if (furthest := max((h.number for h in known), default=0)) > last:
        found[last + 1] = _missing(last + 1, furthest)
    for head in known:
        digest = digests.get(head.number)
        if digest is not None and digest != head.sha256:
            found[head.number] = f"entry {head.number} was changed after it was written (it is {digest[:12]} now)"
    return dict(sorted(found.items()))


def fingerprint(damages: Mapping[int, str]) -> str:
    """SHA-256 of a set of damages; a person who accepts them signs this value."""
    return hashlib.sha256("\n".join(damages.values()).encode()).hexdigest()


def read_head(text: str | None) -> Head:
    """Decode a head from a tag's value; START if there is none or it is invalid."""
    try:
        return decode((text or "").encode(), Head)
    except msgspec.DecodeError:
        return START


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
