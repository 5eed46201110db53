"""What a check says. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Status = Literal["ok", "warning", "problem", "not checked"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor's report."""

    check: str  # what is checked
    subject: str  # of which topic, group or setting; empty where there is only one
    status: Status
    seen: str
    remedy: str = ""  # empty where nothing is to be done


def ok(check: str, seen: str, subject: str = "") -> Finding:
    """Nothing to do."""
    return Finding(check=check, subject=subject, status="ok", seen=seen)


def warning(check: str, seen: str, remedy: str, subject: str = "") -> Finding:
    """It works, and will hurt under some conditions."""
    return Finding(check=check, subject=subject, status="warning", seen=seen, remedy=remedy)


def problem(check: str, seen: str, remedy: str, subject: str = "") -> Finding:
    """It loses, stops or exposes something."""
    return Finding(check=check, subject=subject, status="problem", seen=seen, remedy=remedy)


def not_checked(check: str, why: str, remedy: str = "", subject: str = "") -> Finding:
    """It could not be seen whether all is well."""
    return Finding(check=check, subject=subject, status="not checked", seen=why, remedy=remedy)


def folded(found: Iterable[Finding]) -> list[Finding]:
    """What is well of several subjects as one line, so that what is not is seen; the order is kept.

    >>> [f.subject for f in folded([ok("retention", "7 days", "a"), ok("retention", "7 days", "b")])]
    ['a, b']
    """
    rows: dict[tuple[object, ...], list[Finding]] = {}
    for number, finding in enumerate(found):
        alone = finding.status != "ok" or not finding.subject
        rows.setdefault((number,) if alone else (finding.check, finding.seen), []).append(finding)
    return [
        msgspec.structs.replace(row[0], subject=", ".join(finding.subject for finding in row)) for row in rows.values()
    ]
