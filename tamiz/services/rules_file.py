"""Reads a file of rules, and of the values of a list."""

import tomllib
from pathlib import Path

import msgspec

from schemas.dataset.type_faults import Tables, type_fault
from schemas.errors import RuleError
from schemas.rules import Exploration, Rule, RulesFile

_TABLES: Tables = {"": (RulesFile, ""), "rules": (Rule, "id"), "explore": (Exploration, "")}
MAX_FILE_BYTES = 3 * 1024 * 1024  # the record of a ruleset must fit into `schemas.topics.MAX_RECORD_BYTES`


def read_rules_file(path: Path) -> RulesFile:
    """The content of a TOML file of rules. It is not compiled yet.

    Raises RuleError, one line that names the rule, the value and the remedy.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RuleError(f"{path}: cannot be read ({error.strerror}); give the path of a TOML file of rules") from None
    if len(content) > MAX_FILE_BYTES:
        raise RuleError(f"{path}: {len(content):,} bytes; a ruleset has at most {MAX_FILE_BYTES:,}")
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RuleError(f"{path}: not a TOML file: {error}") from None
    try:
        return msgspec.convert(values, RulesFile)
    except msgspec.ValidationError as error:
        raise RuleError(f"{path}: {type_fault(str(error), values, _TABLES)}") from None
