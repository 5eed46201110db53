"""The result of a check: a finding with status, observation and remedy. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Status = Literal["ok", "warning", "problem", "not checked"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor's report."""

    check: str  # what is checked
    subject: str  # topic, group or setting; empty if there is only one
    status: Status
    seen: str
    remedy: str = ""  # empty if there is nothing to do


def ok(check: str, seen: str, subject: str = "") -> Finding:
    """The check passed."""
    return Finding(check=check, subject=subject, status="ok", seen=seen)


def warning(check: str, seen: str, remedy: str, subject: str = "") -> Finding:
    """It works now, but fails under some conditions."""
    return Finding(check=check, subject=subject, status="warning", seen=seen, remedy=remedy)


def problem(check: str, seen: str, remedy: str, subject: str = "") -> Finding:
    """It loses data, stops a program or exposes something."""
    return Finding(check=check, subject=subject, status="problem", seen=seen, remedy=remedy)


def not_checked(check: str, why: str, remedy: str = "", subject: str = "") -> Finding:
    """The check could not be made."""
    return Finding(check=check, subject=subject, status="not checked", seen=why, remedy=remedy)


def merge_passed(findings: Iterable[Finding]) -> list[Finding]:
    """Merge passed checks with the same observation into one line, so that problems stand out. Keeps the order.

    >>> [f.subject for f in merge_passed([ok("retention", "7 days", "a"), ok("retention", "7 days", "b")])]
    ['a, b']
    """
    rows: dict[tuple[object, ...], list[Finding]] = {}
    for number, finding in enumerate(findings):
        alone = finding.status != "ok" or not finding.subject
        rows.setdefault((number,) if alone else (finding.check, finding.seen), []).append(finding)
    return [
        msgspec.structs.replace(row[0], subject=", ".join(finding.subject for finding in row)) for row in rows.values()
    ]
