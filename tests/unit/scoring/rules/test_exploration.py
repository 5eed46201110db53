"""Exploration sends a drawn share of the declines to review."""

import numpy as np
import pytest

from schemas.rules import Exploration
from scoring.decision import DECIDERS, OUTCOMES
from scoring.rules.exploration import explore
from scoring.rules.precedence import Ruling

APPROVE, REVIEW, DECLINE = (OUTCOMES.index(name) for name in ("approve", "review", "decline"))


def names(n: int) -> list[str]:
    return [f"t-{i}" for i in range(n)]


def test_the_share_of_explored_declines_is_the_declared_one() -> None:
    n = 20_000
    ruling = Ruling.of_model(np.full(n, DECLINE))
    explored = explore(ruling, Exploration(share=0.05, below=100.0), np.full(n, 10.0), names(n).__getitem__)
    drawn = explored.outcomes == REVIEW
    assert abs(drawn.mean() - 0.05) < 4 * (0.05 * 0.95 / n) ** 0.5
    assert [DECIDERS[by] for by in np.unique(explored.deciders[drawn])] == ["exploration"]
    assert explored.exploration_share == 0.05
    assert (explored.deciders[~drawn] == 0).all()
    assert (explored.outcomes[~drawn] == DECLINE).all()


def test_only_declines_below_the_amount_that_no_block_made_are_explored() -> None:
    outcomes = np.array([APPROVE, REVIEW, DECLINE, DECLINE, DECLINE, DECLINE])
    ruling = Ruling.of_model(outcomes)._replace(blocked=np.array([2]))
    amounts = np.array([1.0, 1.0, 1.0, np.nan, 50.0, 49.99])
    explored = explore(ruling, Exploration(share=1.0, below=50.0), amounts, names(6).__getitem__)
    assert explored.outcomes.tolist() == [APPROVE, REVIEW, DECLINE, DECLINE, DECLINE, REVIEW]


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_a_draw_depends_on_the_transaction_and_the_seed_and_not_on_the_batch(rows: int) -> None:
    ids = names(500)

    def drawn(seed: str, start: int, end: int) -> list[int]:
        ruling = Ruling.of_model(np.full(end - start, DECLINE))
        exploration = Exploration(share=0.2, below=10.0, seed=seed)
        return explore(ruling, exploration, np.ones(end - start), ids[start:end].__getitem__).outcomes.tolist()

    whole = drawn("a", 0, 500)
    assert [each for at in range(0, 500, rows) for each in drawn("a", at, min(at + rows, 500))] == whole
    assert drawn("b", 0, 500) != whole
