"""What the page knows of rules and lists: a fold over `rules`, `lists` and `rule-statistics`. Pure."""

from collections import OrderedDict
from collections.abc import Callable

from schemas.rule_report import RuleReport
from schemas.rules import ListEntry, RulesetRecord, RulesFile, list_entry_key
from scoring.rules.ruleset_log import LoggedRuleset, RulesetLog
from stream_app.dashboard.rule_messages import ListSummary, ListsView, RuleRow, RulesetRow, RulesView

MAX_HISTORY = 50  # records that are shown
MAX_ENTRIES = 200_000  # of lists; the oldest are cut
MAX_DIFFERENCES = 20


class RuleBoard:
    """The fold. Not thread-safe: callers hold a lock."""

    def __init__(self, *, second_person: bool, max_entries: int = MAX_ENTRIES) -> None:
        """second_person: setting `rules_second_person`."""
        self._second_person = second_person
        self._max_entries = max_entries
        self._log = RulesetLog()
        self._entries: OrderedDict[str, ListEntry] = OrderedDict()  # by key, oldest change first
        self._report: RuleReport | None = None
        self.cut = 0

    def add_ruleset(
        self, record: RulesetRecord, value: bytes, compile_fault: Callable[[RulesFile], str | None]
    ) -> None:
        """Add a record of `rules`. value: its bytes. compile_fault: as for `RulesetLog.updated`."""
        self._log = self._log.updated(record, value, second_person=self._second_person, compile_fault=compile_fault)

    def add_entry(self, entry: ListEntry) -> None:
        """Add a record of `lists`."""
        key = list_entry_key(entry)
        self._entries.pop(key, None)
        if entry.removed:
            return
        self._entries[key] = entry
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
            self.cut += 1

    def add_report(self, report: RuleReport) -> None:
        """Add a record of `rule-statistics`."""
        if self._report is None or report.until_ms >= self._report.until_ms:
            self._report = report

    @property
    def in_force(self) -> RulesetRecord | None:
        """The record of the ruleset in force."""
        return None if self._log.in_force is None else self._log.in_force.record

    def rules(self) -> RulesView:
        """The ruleset in force with its statistics, proposals and history."""
        record = self.in_force
        counts = () if self._report is None else self._report.rules
        by_rule = {(c.name, c.version, c.mode): c for c in counts if c.kind == "rule"}
        explore = None if record is None else record.content.explore
        return RulesView(
            number=None if record is None else record.number,
            rules=tuple(
                RuleRow(rule=rule, statistics=by_rule.get((rule.id, rule.version, rule.mode)))  # type: ignore[arg-type]
                for rule in (() if record is None else record.content.rules)
            ),
            exploration=None
            if explore is None
            else f"{100 * explore.share:g} % of the declines below {explore.below:g} go to review, to learn",
            proposals=tuple(self._row(entry) for entry in reversed(self._log.open_proposals())),
            history=tuple(self._row(entry) for entry in reversed(self._log.entries[-MAX_HISTORY:])),
            list_statistics=tuple(c for c in counts if c.kind == "list"),
            counted_until_ms=None if self._report is None else self._report.until_ms,
        )

    def lists(self, name: str, value: str, limit: int, key: str | None) -> ListsView:
        """All lists, and the newest entries. name: of a list; empty for all. value: part of a value.

        key: field of the card.
        """
        sizes: dict[str, int] = {}
        for entry in self._entries.values():
            sizes[entry.list] = sizes.get(entry.list, 0) + 1
        found = [e for e in self._entries.values() if name in ("", e.list) and value.casefold() in e.value.casefold()]
        return ListsView(
            lists=tuple(ListSummary(name=name, entries=n) for name, n in sorted(sizes.items())),
            entries=tuple(found[::-1][:limit]),
            matching=len(found),
            cut=self.cut,
            key=key,
        )

    def _row(self, entry: LoggedRuleset) -> RulesetRow:
        record = entry.record
        return RulesetRow(
            number=record.number,
            change=record.change,
            by=record.by,
            at_ms=record.at_ms,
            reason=record.reason,
            refused=entry.refused,
            proposal=record.proposal,
            restores=record.restores,
            evidence=record.evidence,
            differences=differences(self._content_before(entry), record.content),
        )

    def _content_before(self, entry: LoggedRuleset) -> RulesFile:
        before = RulesFile()
        for other in self._log.entries:
            if other is entry:
                break
            if other.refused is None and other.record.change == "activated":
                before = other.record.content
        return before


def differences(before: RulesFile, after: RulesFile) -> tuple[str, ...]:
    """What a ruleset changes, a sentence each."""
    old = {rule.id: rule for rule in before.rules}
    new = {rule.id: rule for rule in after.rules}
    found = [
        f"{rule.id} v{rule.version} is new, {rule.mode}: {rule.effect}" for id_, rule in new.items() if id_ not in old
    ]
    for id_, rule in new.items():
        was = old.get(id_, rule)
        if was.version != rule.version:
            found.append(f"{id_}: v{was.version} becomes v{rule.version}")
        if was.mode != rule.mode:
            found.append(f"{id_}: {was.mode} becomes {rule.mode}")
        elif was != rule and was.version == rule.version:
            found.append(f"{id_}: its description changes")
    found += [f"{id_} is removed" for id_ in old if id_ not in new]
    if before.explore != after.explore:
        found.append("exploration changes")
    rest = len(found) - MAX_DIFFERENCES
    return (*found[:MAX_DIFFERENCES], *([f"{rest} more"] if rest > 0 else []))
