"""Unseen and missing levels: their score is that of a row whose level is unknown, not an extreme."""

import numpy as np
import pytest

from schemas.dataset.declaration import load_dataset
from scoring.bundle.manifest import FeatureEncoding
from scoring.features import MIN_LEVEL_ROWS, featurize, fit_encoding
from training.model.fit import FitConfig, Part, fit, predict
from training.model.level_mask import MASKED_SHARE, mask_levels

DATASET = load_dataset("card_transactions")
COUNTRIES = ("XX", "AR", "BR", "CL", "MX", "PE")
RISKY, SHARE_OF_RISKY = "XX", 0.2


def traffic(n: int, base_rate: float, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A fifth of the rows have the risky country, where fraud is 16 times as frequent. The amount matters as well."""
    random = np.random.default_rng(seed)
    risky = random.random(n) < SHARE_OF_RISKY
    safe_rate = base_rate / 4
    risky_rate = (base_rate - (1 - SHARE_OF_RISKY) * safe_rate) / SHARE_OF_RISKY
    country = np.where(risky, RISKY, random.choice(COUNTRIES[1:], n)).astype(object)
    amount = random.normal(size=n)
    odds = np.where(risky, risky_rate / (1 - risky_rate), safe_rate / (1 - safe_rate)) * np.exp(0.8 * amount - 0.3)
    columns = {f.name: np.zeros(n) if f.kind != "category" else np.full(n, None, object) for f in DATASET.features}
    return columns | {"ciudad": country, "monto": amount}, (random.random(n) < odds / (1 + odds)).astype(np.float64)


@pytest.mark.parametrize("base_rate", [0.155, 0.03])
@pytest.mark.parametrize("seed", range(3))
def test_an_unseen_or_missing_level_scores_near_the_base_rate(base_rate: float, seed: int) -> None:
    (train, fraud), (live, _) = (traffic(6_000, base_rate, 10 * seed + i) for i in range(2))
    encoding = fit_encoding(DATASET, train)
    booster = fit(Part(matrix=featurize(encoding, train), fraud=fraud), encoding, FitConfig(), rounds=30)

    def mean_score(level: str | None) -> float:
        columns = live | {"ciudad": np.full(6_000, level, dtype=object)}
        return float(predict(booster, featurize(encoding, columns)).mean()) / base_rate

    assert mean_score(RISKY) > 2.5
    assert max(mean_score(level) for level in COUNTRIES[1:]) < 0.6
    assert 0.6 < mean_score("XX ltd.") < 1.4
    assert 0.6 < mean_score(None) < 1.4


ENCODING = (
    FeatureEncoding(name="amount", kind="number", mean=1.0),
    FeatureEncoding(name="country", kind="category", levels=("AR", "BR")),
    FeatureEncoding(name="shop", kind="category", levels=("a", "b", "c")),
)


def coded(n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    matrix = np.column_stack([random.normal(size=n), random.integers(0, 2, n), random.integers(0, 3, n)])
    return matrix.astype(np.float32), (random.random(n) < 0.1).astype(np.float64)


def test_other_and_missing_get_their_share_of_rows_with_the_fraud_rate_of_all() -> None:
    matrix, fraud = coded()
    masked = mask_levels(matrix, fraud, ENCODING, seed=0)
    assert masked[:, 0].tolist() == matrix[:, 0].tolist()
    for column, other in ((1, 2), (2, 3)):
        for code in (other, other + 1):
            rows = masked[:, column] == code
            assert rows.sum() == pytest.approx(MASKED_SHARE * len(fraud), abs=2)
            assert fraud[rows].mean() == pytest.approx(fraud.mean(), abs=0.005)
        kept = masked[:, column] < other
        assert masked[kept, column].tolist() == matrix[kept, column].tolist()
    assert (masked[:, 1] == 2).tolist() != (masked[:, 2] == 3).tolist()


def test_evidence_on_unseen_levels_is_not_diluted() -> None:
    matrix, fraud = coded()
    honest = np.flatnonzero(fraud == 0)
    matrix[honest[:300], 1] = 2
    matrix[honest[300:390], 1] = 3
    masked = mask_levels(matrix, fraud, ENCODING, seed=0)
    assert np.flatnonzero(masked[:, 1] == 2).tolist() == honest[:300].tolist()  # more than 5 %: as it was
    assert (masked[:, 1] == 3).sum() == pytest.approx(200, abs=2)  # 90 rows, filled up to 5 %
    assert fraud[masked[:, 1] == 3].sum() == pytest.approx(0.1 * 110, abs=2)


def test_masking_repeats_and_leaves_its_input_alone() -> None:
    matrix, fraud = coded()
    before = matrix.copy()
    first, again, other = (mask_levels(matrix, fraud, ENCODING, seed) for seed in (0, 0, 1))
    assert matrix.tobytes() == before.tobytes()
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_a_few_frauds_are_not_masked_to_none() -> None:
    matrix, fraud = coded(400)
    fraud[:] = 0
    fraud[:6] = 1
    masked = mask_levels(matrix, fraud, ENCODING, seed=0)
    assert [int(fraud[masked[:, 1] == code].sum()) for code in (2, 3)] == [1, 1]


def test_levels_with_too_few_rows_are_other() -> None:
    columns, _ = traffic(1_000, 0.1, seed=0)
    columns["ciudad"][:MIN_LEVEL_ROWS] = "enough"
    columns["ciudad"][100 : 100 + MIN_LEVEL_ROWS - 1] = "too few"
    encoding = fit_encoding(DATASET, columns)
    city = next(i for i, f in enumerate(encoding) if f.name == "ciudad")
    assert set(encoding[city].levels) == {*COUNTRIES, "enough"}
    assert featurize(encoding, columns)[100, city] == len(encoding[city].levels)
