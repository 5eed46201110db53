"""Which records of `rules` are in the history, and which of them is in force: a fold over the topic. Pure.

    1 <- 2 <- 3 <- 4      each arrow: `RulesetRecord.after`
         2 <- 3'          written at the same time as 3, and later in order: refused

A record that follows another one than the head is refused, and the chain continues without it. If the first records
were deleted from the topic, the chain begins with the first one left. A record of the chain takes effect if it is an
activation that compiles and, where a second person is required, approves a proposal of equal content by another person.
Otherwise the one before stays in force. The chain does not depend on settings or on the declaration, so a change of
either breaks no later record.
"""

from collections.abc import Callable
from typing import NamedTuple

from schemas.log_chain import START, Head, entry_sha256
from schemas.rules import RulesetRecord, RulesFile


class LoggedRuleset(NamedTuple):
    """A record of the topic, and whether it takes effect."""

    record: RulesetRecord
    head: Head  # its own number and SHA-256
    refused: str | None  # why it does not take effect, in one line; None for a valid proposal or activation
    in_chain: bool  # whether the next record may follow it


class RulesetLog(NamedTuple):
    """All records so far."""

    entries: tuple[LoggedRuleset, ...] = ()
    head: Head = START  # of the chain
    in_force: LoggedRuleset | None = None

    def updated(
        self,
        record: RulesetRecord,
        value: bytes,
        *,
        second_person: bool,
        compile_fault: Callable[[RulesFile], str | None],
    ) -> "RulesetLog":
        """With the next record of the topic. value: its bytes.

        second_person: setting `rules_second_person`. compile_fault: why a content does not compile; None if it does.
        """
        own = ruleset_head(record, value)
        if (refused := self._conflict(record)) is not None:
            return self._replace(entries=(*self.entries, LoggedRuleset(record, own, refused, in_chain=False)))
        refused = self._approval_fault(record, required=second_person) or compile_fault(record.content)
        entry = LoggedRuleset(record, own, refused, in_chain=True)
        takes_effect = refused is None and record.change == "activated"
        return RulesetLog((*self.entries, entry), own, entry if takes_effect else self.in_force)

    def at(self, number: int) -> LoggedRuleset | None:
        """The record of the chain with this number."""
        return next((e for e in self.entries if e.in_chain and e.record.number == number), None)

    def open_proposals(self) -> list[LoggedRuleset]:
        """Proposals that can be approved: of those after the last activation, oldest first."""
        found: list[LoggedRuleset] = []
        for entry in self.entries:
            if not entry.in_chain or entry.refused is not None:
                continue
            found = [*found, entry] if entry.record.change == "proposed" else []
        return found

    def _conflict(self, record: RulesetRecord) -> str | None:
        if record.after == self.head and record.number == self.head.number + 1:
            return None
        if not self.entries and record.number > 1:
            return None  # those before it were deleted from the topic
        return (
            f"follows record {record.after.number}, but record {self.head.number} is the last: two people wrote at once"
        )

    def _approval_fault(self, record: RulesetRecord, *, required: bool) -> str | None:
        if record.change != "activated":
            return None
        if record.proposal is None:
            return "not approved by a second person (rules_second_person)" if required else None
        proposal = self.at(record.proposal)
        if proposal is None or proposal.record.change != "proposed":
            return f"approves record {record.proposal}, which is no proposal"
        if proposal.record.content != record.content:
            return f"its content differs from proposal {record.proposal}"
        if required and proposal.record.by == record.by:
            return f"{record.by} proposed it, and another person must approve it (rules_second_person)"
        return None


def ruleset_head(record: RulesetRecord, value: bytes) -> Head:
    """Number and SHA-256 of a record, as the record after it names them. value: its bytes on the topic."""
    return Head(number=record.number, sha256=entry_sha256(record.number, value.decode(errors="surrogateescape")))
