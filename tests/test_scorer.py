"""How fetches become batches."""

import asyncio

import pytest
from faust.types import TP

from stream_app.scorer import SPARSE, Scorer
from stream_app.transport import Fetched


def fetched(records: int) -> Fetched:
    return Fetched(1, {TP("transactions", 0): [object()] * records})


@pytest.mark.parametrize(
    ("last_size", "comes_first", "taken"),
    [
        (SPARSE + 1, 5, [5, 7]),  # small ones follow each other: what comes meanwhile belongs to the batch
        (SPARSE, 5, [5]),  # there is little to do: nobody waits
        (SPARSE + 1, 100, [100]),  # large enough
    ],
)
def test_small_batches_that_follow_each_other_wait_for_more_and_others_do_not(
    last_size: int, comes_first: int, taken: list[int]
) -> None:
    async def take() -> list[int]:
        scorer = Scorer.__new__(Scorer)
        scorer._queue = asyncio.Queue(maxsize=2)
        scorer._batch_max_records = 2_000
        scorer._last_size = last_size
        scorer._began = asyncio.get_running_loop().time()
        await scorer.put(fetched(comes_first))
        taking = asyncio.create_task(scorer._take())
        await asyncio.sleep(0)  # it has begun, and waits or is done
        await scorer.put(fetched(7))
        return [sum(map(len, f.records.values())) for f in await taking]

    assert asyncio.run(take()) == taken


def test_a_batch_ends_with_the_fetch_that_fills_it() -> None:
    async def take() -> int:
        scorer = Scorer.__new__(Scorer)
        scorer._queue = asyncio.Queue(maxsize=2)
        scorer._batch_max_records, scorer._last_size, scorer._began = 10, 0, 0.0
        await scorer.put(fetched(10))
        await scorer.put(fetched(1))
        return len(await scorer._take())

    assert asyncio.run(take()) == 1
