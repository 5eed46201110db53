"""Files of rules and of values for a list: what is wrong is one line with the place and the remedy."""

from pathlib import Path

import pytest

from schemas.errors import RuleError
from tamiz.services.list_file import ListRow, expiry_ms, read_list_file
from tamiz.services.rules_file import read_rules_file

GOOD = '[[rules]]\nid = "r"\nversion = 1\nwhen = "amount > 1"\neffect = "review"\nreason = "why"\n'


def test_a_rule_is_in_shadow_unless_its_file_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(GOOD)
    (rule,) = read_rules_file(tmp_path / "rules.toml").rules
    assert (rule.id, rule.mode, rule.effect) == ("r", "shadow", "review")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace("when", "wen"), "rule 'r': unknown key 'wen'; did you mean 'when'? Known are id, version, when"),
        (
            GOOD.replace('"review"', '"revew"'),
            "rule 'r', effect: 'revew' is not one of block, allow, decline, challenge",
        ),
        (GOOD.replace("version = 1", 'version = "1"'), "rule 'r', version: must be a whole number, and is a text"),
        (GOOD.replace('id = "r"', 'id = "Large amounts"'), "rule 'Large amounts', id: expected `str` matching regex"),
        (GOOD.replace('reason = "why"\n', ""), "rule 'r': 'reason' is missing"),
        (GOOD + "[explore]\nshare = 0.1\n", "explore: 'below' is missing"),
        ("[[rules]\n", "not a TOML file: "),
        ("\x00", "not a TOML file: "),
    ],
)
def test_a_fault_of_a_rules_file_is_one_line_that_names_the_rule(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(RuleError) as raised:
        read_rules_file(path)
    assert str(raised.value).startswith(f"{path}: {fault}")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (read_rules_file, lambda path: read_list_file(path, "card")):
        with pytest.raises(RuleError, match=r"none.toml: cannot be read \(No such file or directory\); give the path"):
            read(tmp_path / "none.toml")


def test_values_reasons_and_expiries_are_read_from_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "cards.csv"
    path.write_text("\ufeffuntil, card ,note\n2030-01-01, c1,x\n,c2\n", encoding="utf-8")
    assert read_list_file(path, "card") == [ListRow("c1", "", "2030-01-01"), ListRow("c2", "", "")]
    with pytest.raises(RuleError, match="no column 'terminal'; its first line names until, card, note"):
        read_list_file(path, "terminal")
    path.write_bytes(b"card\n\xff\n")
    with pytest.raises(RuleError, match="not a CSV file in UTF-8"):
        read_list_file(path, "card")


@pytest.mark.parametrize("text", ["", "1w", "tomorrow", "2030-13-01"])
def test_an_expiry_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match="is neither a duration nor a time; write 24h, 30d or 2026-12-31T00:00:00Z"):
        expiry_ms(text, 0)
