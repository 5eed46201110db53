"""docs/profiles.md: its example works as written, and its table is what can be declared."""

import re
from pathlib import Path

from schemas.dataset.declaration import load_dataset
from schemas.dataset.profile_checks import MAX_PROFILE_FEATURES
from schemas.dataset.profiles import AGGREGATES, BY_KIND, CATEGORY_AGGREGATES, NEW_AGGREGATES, NUMBER_AGGREGATES
from scoring.profiles.aggregates import SMOOTHING
from tests.helpers.documents.doc_runner import PAGES, DocRunner, blocks, environment

PAGE = PAGES["profiles.md"].read_text(encoding="utf-8")


def test_the_example_is_declared_and_checked_as_written(tmp_path: Path) -> None:
    """Up to the training, which takes half a minute; the tests of `tamiz train` cover it."""
    reader = DocRunner(tmp_path, "", environment("127.0.0.1:1", {}))
    written, declared, checked, *_ = [block for block in blocks("profiles.md") if block.language in ("sh", "toml")]
    for block in (written._replace(code=written.code.replace("--cards 300", "--cards 30")), declared):
        reader.run(block)
    assert "0 rejected" in reader.run(checked)
    dataset = load_dataset(str(tmp_path / "cards.toml"))
    assert [p.kind for p in dataset.profiles] == ["key", "labels"]
    for name in ("card_count_1d", "card_ratio_amount_7d", "card_seconds_since_last"):
        assert f"`{name}`" in PAGE
        assert name in {f.name for f in dataset.features}


def test_the_table_has_every_aggregate_with_its_kinds() -> None:
    rows = re.findall(r"^\| `(\w+)(?:\((\w+)\))?` \| (yes)? ?\| (yes)? ?\| (yes)? ?\|", PAGE, re.M)
    assert {row[0] for row in rows} == set(AGGREGATES)
    for aggregate, field, *kinds in rows:
        assert [bool(yes) for yes in kinds] == [aggregate in BY_KIND[kind] for kind in ("key", "tiles", "labels")]
        number, category = aggregate in NUMBER_AGGREGATES, aggregate in (*CATEGORY_AGGREGATES, *NEW_AGGREGATES)
        assert field == ("NUMBER" if number else "CATEGORY" if category else "")


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"at most {MAX_PROFILE_FEATURES} profile features" in PAGE
    assert f"(frauds + {SMOOTHING:g} × `base_rate`) / (labelled + {SMOOTHING:g})" in PAGE
