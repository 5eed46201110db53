"""Tests of rulesets that this installation has run, kept in `state_dir` until their activation."""

import hashlib
from pathlib import Path

import msgspec

from schemas.configuration.settings import Settings
from schemas.files.atomic_write import atomic_write
from schemas.files.private_files import private_folder
from schemas.json_codec import decode
from schemas.rules import RulesEvidence, RulesFile

FOLDER = "rule-tests"  # in `state_dir`


def keep_evidence(settings: Settings, content: RulesFile, evidence: RulesEvidence) -> None:
    """Keep the result of a test of these rules; it replaces an earlier one."""
    path = _path(settings, content)
    private_folder(path.parent)
    with atomic_write(path) as part:
        part.write_bytes(msgspec.json.encode(evidence))


def find_evidence(settings: Settings, content: RulesFile) -> RulesEvidence | None:
    """The last test of these rules; None if there is none, or its file cannot be read."""
    try:
        return decode(_path(settings, content).read_bytes(), RulesEvidence)
    except (OSError, msgspec.DecodeError):
        return None


def _path(settings: Settings, content: RulesFile) -> Path:
    """Which transactions match does not depend on effects, modes and reasons: a change of these needs no other test."""
    tested = sorted((rule.id, rule.version, rule.when, rule.valid_until) for rule in content.rules)
    return settings.state_dir / FOLDER / f"{hashlib.sha256(msgspec.json.encode(tested)).hexdigest()[:32]}.json"
