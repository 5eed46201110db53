"""The chain of a log: each entry names the entry before it, so that an edit or a deletion is found on reading.

    1 <- 2 <- 3 <- 4      every arrow: number and SHA-256 of the entry before
         2 <- 3'          written at the same time as 3, and later in order: it does not hold

A chain alone does not show what happens to its last entries. So the log's head is remembered elsewhere, too: in a tag
of the log's registered model, and by every program that has read it.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from schemas.json_codec import decode


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """An entry by number and content."""

    number: int = 0
    sha256: str = ""


START = Head()  # before the first entry


def entry_sha256(number: int, text: str) -> str:
    """What an entry is known by. text: as its tag holds it."""
    return hashlib.sha256(f"{number}\n{text}".encode(errors="surrogatepass")).hexdigest()


def damages(digests: Mapping[int, str], after: Mapping[int, Head], heads: Iterable[Head] = ()) -> dict[int, str]:
    """What was edited or deleted: by number of the first entry that it befell, a line.

    digests: of the entries that are there, by number, ascending. after: what an entry names as the one before.
    heads: entries that were the last one at some time.

    >>> chain = {2: Head(number=1, sha256="a"), 3: Head(number=2, sha256="b")}
    >>> damages({1: "a", 2: "b", 3: "c"}, chain)
    {}
    >>> damages({1: "a", 3: "c"}, chain)
    {2: 'entry 2 is missing'}
    >>> damages({1: "x", 2: "b"}, chain, [Head(number=4, sha256="d")])
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


def fingerprint(found: Mapping[int, str]) -> str:
    """What damages are known by, as a person accepts them."""
    return hashlib.sha256("\n".join(found.values()).encode()).hexdigest()


def read_head(text: str | None) -> Head:
    """A head as a tag holds it; START where it holds none, or something else."""
    try:
        return decode((text or "").encode(), Head)
    except msgspec.DecodeError:
        return START


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
