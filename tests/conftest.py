"""Fixtures that several test files share."""

from pathlib import Path

import pytest

REAL_CSV = Path(__file__).parent.parent.parent / "shared" / "data" / "card_transactions.csv"


@pytest.fixture(scope="session")
def real_csv() -> Path:
    """The real card data set; it is not ours to publish, so whoever lacks it skips the tests that need it."""
    if not REAL_CSV.is_file():
        pytest.skip("the real data set stands beside the project, not in it")
    return REAL_CSV
