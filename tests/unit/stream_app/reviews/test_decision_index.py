"""The index of decisions finds the last ones of a card, as a list of all of them would."""

from hypothesis import given
from hypothesis import strategies as st

from stream_app.reviews.decision_index import DecisionIndex

BATCHES = st.lists(st.tuples(st.integers(0, 2), st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=9)))


@given(BATCHES, st.integers(1, 20), st.integers(1, 5))
def test_it_finds_the_last_decisions_of_a_card_newest_first(
    batches: list[tuple[int, list[bytes | None]]], size: int, n: int
) -> None:
    index = DecisionIndex(size)
    whole: list[tuple[bytes, tuple[int, int]]] = []
    offset = 0
    for partition, keys in batches:
        index.update(partition, keys, range(offset, offset + len(keys)))
        whole += [(key, (partition, offset + i)) for i, key in enumerate(keys) if key is not None]
        offset += len(keys)
    for wanted in (b"a", b"b", b"c", b"unknown"):
        expected = [place for key, place in reversed(whole[-size:]) if key == wanted][:n]
        assert index.places(wanted, n) == expected
