"""The state of rules: the ruleset in force and all lists, as a fold over the records of `rules` and `lists`. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.dataset.declaration import Dataset
from schemas.errors import RuleError
from schemas.rules import ListEntry, RulesetRecord, RulesFile
from scoring.rules.list_state import ListState
from scoring.rules.ruleset import CompiledRuleset, compile_ruleset
from scoring.rules.ruleset_log import LoggedRuleset, RulesetLog


class RuleState(NamedTuple):
    """What rules and lists say at one moment. Immutable."""

    number: int | None  # of the record of the ruleset in force; None: no ruleset
    ruleset: CompiledRuleset | None
    lists: ListState

    @property
    def is_empty(self) -> bool:
        """Whether no rule and no entry can match."""
        return (self.ruleset is None or not self.ruleset.rules) and not self.lists.n_entries


class RuleFold:
    """Folds the records of `rules` and `lists`, each topic's in order. Not thread-safe; its states are."""

    def __init__(self, dataset: Dataset, *, second_person: bool) -> None:
        """second_person: setting `rules_second_person`."""
        self._dataset = dataset
        self._second_person = second_person
        self.log = RulesetLog()
        self._compiled: CompiledRuleset | None = None  # of the ruleset in force
        self._lists = ListState()

    @property
    def state(self) -> RuleState:
        """The state after all records so far."""
        in_force = self.log.in_force
        return RuleState(None if in_force is None else in_force.record.number, self._compiled, self._lists)

    def add_rulesets(self, records: Sequence[tuple[RulesetRecord, bytes]]) -> list[LoggedRuleset]:
        """Add records of `rules` with their values. Returns them with the reasons of those that are refused.

        Of several activations only the last one that compiles is compiled, since a history may hold thousands.
        """
        before, n = self.log, len(self.log.entries)
        for record, value in records:
            self.log = self.log.updated(
                record, value, second_person=self._second_person, compile_fault=lambda content: None
            )
        entries = list(self.log.entries[n:])
        for place in reversed(range(len(entries))):
            entry = entries[place]
            if entry.refused is not None or entry.record.change != "activated":
                continue
            compiled = self._compile(entry.record.content)
            if isinstance(compiled, CompiledRuleset):
                self._compiled = compiled
                self.log = self.log._replace(in_force=entry)
                break
            entries[place] = entry._replace(refused=compiled)
        else:
            self.log = self.log._replace(in_force=before.in_force)
        self.log = self.log._replace(entries=(*before.entries, *entries))
        return entries

    def add_entries(self, entries: Sequence[ListEntry]) -> None:
        """Add records of `lists`."""
        if entries:
            self._lists = self._lists.updated(entries)

    def forget_rulesets(self) -> None:
        """Forget all records of `rules`."""
        self.log, self._compiled = RulesetLog(), None

    def forget_entries(self) -> None:
        """Forget all records of `lists`."""
        self._lists = ListState()

    def with_ruleset(self, number: int | None, lists: ListState) -> RuleState | None:
        """The state with the ruleset of a record, which was in force earlier; None if it cannot be had any more."""
        if number is None:
            return RuleState(None, None, lists)
        if (entry := self.log.at(number)) is None:
            return None
        compiled = self._compile(entry.record.content)
        return RuleState(number, compiled, lists) if isinstance(compiled, CompiledRuleset) else None

    def _compile(self, content: RulesFile) -> CompiledRuleset | str:
        """The compiled ruleset, or why it does not compile."""
        try:
            return compile_ruleset(content, self._dataset)
        except RuleError as error:
            return str(error)
