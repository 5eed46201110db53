"""The topic `rules`: its history read back, and changes by people, from commands and from the page.

A writer appends its record after the head that it has read, and reads the topic again: of two writers at once, the
later one finds its record refused.
"""

import logging
import time
from collections.abc import Callable

import msgspec

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import RuleError, TamizError
from schemas.rules import Rule, RulesetRecord, RulesEvidence, RulesFile, ruleset_key
from schemas.time_units import DAY_MS
from scoring.rules.ruleset import compile_ruleset
from scoring.rules.ruleset_log import LoggedRuleset, RulesetLog, ruleset_head
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import read_to_end
from stream_app.rules.record_writer import MAX_REQUEST_BYTES, write_records

log = logging.getLogger("tamiz.rules")
NO_RULES = 0  # `RulesetRecord.restores` of a rollback to the time before the first ruleset


class RulesetRefusedError(TamizError):
    """A change of the rules was not made, because the history does not allow it (any more)."""


def read_ruleset_log(settings: Settings, dataset: Dataset) -> RulesetLog:
    """The history as it is now. Raises BrokerError if no broker responds or the topic does not exist."""
    intake = RecordIntake(settings, log, log_text="skipped, not a valid ruleset")
    found = RulesetLog()
    for records in read_to_end(settings.bootstrap, settings.rules_topic, keep_bytes=MAX_REQUEST_BYTES):
        for record in records:
            if (ruleset := intake.read(record, RulesetRecord)) is not None:
                found = found.updated(
                    ruleset,
                    record.value or b"",
                    second_person=settings.rules_second_person,
                    compile_fault=compile_fault(dataset),
                )
    intake.log_summary(at_once=True)
    return found


def compile_fault(dataset: Dataset) -> Callable[[RulesFile], str | None]:
    """Why a content does not compile for a data set, in one line; None if it does."""

    def fault(content: RulesFile) -> str | None:
        try:
            compile_ruleset(content, dataset)
        except RuleError as error:
            return str(error)
        return None

    return fault


def activate_ruleset(
    settings: Settings,
    dataset: Dataset,
    content: RulesFile,
    *,
    reason: str,
    by: str,
    evidence: RulesEvidence | None = None,
    force: str | None = None,
) -> RulesetRecord:
    """Put a ruleset in force, or propose it where a second person must approve (`rules_second_person`).

    evidence: of a test of exactly these rules. force: a person's reason to activate new live rules without a test.
    Raises RuleError if it does not compile or is not tested, RulesetRefusedError if the history does not allow it,
    BrokerError if the topic cannot be read or written.
    """
    compile_ruleset(content, dataset)
    now = read_ruleset_log(settings, dataset)
    current = RulesFile() if now.in_force is None else now.in_force.record.content
    if now.in_force is not None and content == current:
        raise RulesetRefusedError(f"these rules are in force already, as record {now.in_force.record.number}")
    if fault := _version_fault(content, now):
        raise RuleError(fault)
    if (fault := evidence_fault(current, content, evidence, settings.rules_min_test_days)) and force is None:
        raise RuleError(fault)
    if force is not None:
        evidence, reason = None, f"{reason} (without a test: {force})"
    return _append(settings, dataset, now, content, reason=reason, by=by, evidence=evidence)


def approve_ruleset(settings: Settings, dataset: Dataset, number: int, *, reason: str, by: str) -> RulesetRecord:
    """Put a proposal in force. number: of its record.

    Raises RulesetRefusedError if it waits no longer, or `by` proposed it and a second person is required; BrokerError
    as `activate_ruleset`.
    """
    now = read_ruleset_log(settings, dataset)
    waiting = now.open_proposals()
    proposal = next((e.record for e in waiting if e.record.number == number), None)
    if proposal is None:
        numbers = ", ".join(str(e.record.number) for e in waiting) or "none"
        raise RulesetRefusedError(f"record {number} is no proposal that waits for approval; waiting: {numbers}")
    if settings.rules_second_person and proposal.by == by:
        raise RulesetRefusedError(f"{by} proposed record {number}; another person must approve it")
    return _append(
        settings,
        dataset,
        now,
        proposal.content,
        reason=reason,
        by=by,
        evidence=proposal.evidence,
        proposal=number,
        restores=proposal.restores,
    )


def roll_back_ruleset(settings: Settings, dataset: Dataset, *, reason: str, by: str) -> RulesetRecord:
    """Put the ruleset before the current one in force again; before the first one, there are no rules.

    Where a second person must approve, this is a proposal. Raises as `activate_ruleset`.
    """
    now = read_ruleset_log(settings, dataset)
    line = activation_line(now)
    if not line:
        raise RulesetRefusedError("no rules are in force: there is nothing to roll back")
    if len(line) == 1:
        return _append(settings, dataset, now, RulesFile(), reason=reason, by=by, restores=NO_RULES)
    before = line[-2].record
    return _append(
        settings,
        dataset,
        now,
        before.content,
        reason=reason,
        by=by,
        evidence=before.evidence,
        restores=before.number,
    )


def activation_line(found: RulesetLog) -> list[LoggedRuleset]:
    """The stack of rulesets for rollback, the current one last; two rollbacks go back two rulesets."""
    line: list[LoggedRuleset] = []
    for entry in found.entries:
        if entry.refused is not None or entry.record.change != "activated":
            continue
        if (restores := entry.record.restores) is None:
            line.append(entry)
        else:
            while line and line[-1].record.number != restores:
                line.pop()
    return line


def evidence_fault(current: RulesFile, content: RulesFile, evidence: RulesEvidence | None, min_days: int) -> str | None:
    """Why a ruleset needs a test, or a longer one, before it is activated; None if it does not.

    Rules in shadow and rules that are live already need none. Nor does less: a rule that is off or removed.
    """
    live = {(r.id, r.version): r for r in current.rules if r.mode == "live"}
    new = [r.id for r in content.rules if r.mode == "live" and (r.id, r.version) not in live]
    if not new:
        return None
    remedy = "run `tamiz rules test`, activate them in shadow first, or state why not with --force REASON"
    named = f"{', '.join(new[:5])}{' and others' if len(new) > 5 else ''}: live without a test"
    if evidence is None:
        return f"{named}; {remedy}"
    days = (evidence.until_ms - evidence.from_ms) / DAY_MS
    if days < min_days:
        return f"{named} of {min_days} days (rules_min_test_days): it covers {days:.1f}; {remedy}"
    return None


def _version_fault(content: RulesFile, now: RulesetLog) -> str | None:
    """A rule that has the version of another condition or effect in the history."""
    known: dict[tuple[str, int], tuple[Rule, int]] = {}
    for entry in now.entries:
        if entry.refused is None:
            known |= {(rule.id, rule.version): (rule, entry.record.number) for rule in entry.record.content.rules}
    for rule in content.rules:
        before, number = known.get((rule.id, rule.version), (rule, 0))
        for field in ("when", "effect"):
            if getattr(before, field) != getattr(rule, field):
                newest = max(version for name, version in known if name == rule.id)
                return (
                    f"rule {rule.id!r}: version {rule.version} has another {field} in record {number}; raise its "
                    f"version to {newest + 1}"
                )
    return None


def _append(
    settings: Settings,
    dataset: Dataset,
    now: RulesetLog,
    content: RulesFile,
    *,
    reason: str,
    by: str,
    evidence: RulesEvidence | None = None,
    proposal: int | None = None,
    restores: int | None = None,
) -> RulesetRecord:
    proposes = settings.rules_second_person and proposal is None
    record = RulesetRecord(
        number=now.head.number + 1,
        change="proposed" if proposes else "activated",
        content=content,
        by=by,
        at_ms=int(time.time() * 1000),
        reason=reason,
        evidence=evidence,
        proposal=proposal,
        restores=restores,
        after=now.head,
    )
    value = msgspec.json.encode(record)
    try:
        msgspec.json.decode(value, type=RulesetRecord)
    except msgspec.ValidationError as error:
        raise RuleError(f"the change cannot be recorded: {error}") from None
    own = ruleset_head(record, value)
    write_records(settings, settings.rules_topic, [(ruleset_key(own.number, own.sha256), value)])
    written = next((e for e in read_ruleset_log(settings, dataset).entries if e.head == own), None)
    if written is None:
        raise RulesetRefusedError(f"{settings.rules_topic} does not hold record {own.number}; repeat the change")
    if written.refused is not None:
        raise RulesetRefusedError(f"no effect: {written.refused}; see `tamiz rules list` and repeat the change")
    return record
