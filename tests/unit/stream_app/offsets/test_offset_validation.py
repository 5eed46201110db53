"""The start offset of a partition, from its log, the committed offset, the outputs and the policy."""

import pytest
from faust.types import TP

from schemas.configuration.setting_types import OffsetReset
from stream_app.offsets.offset_validation import Answered, Committed, Fault, Log, metadata, read_metadata, start
from stream_app.offsets.output_offsets import LastAnswer, answered_until
from stream_app.offsets.partition_positions import StableEnds

LOG = Log("now", 10, 50)
OURS = "now"


@pytest.mark.parametrize(
    ("committed", "answered", "reset", "offset", "fault", "skipped", "held"),
    [
        pytest.param(Committed(30, OURS), None, "stop", 30, None, 0, False, id="fits"),
        pytest.param(Committed(50, OURS), None, "stop", 50, None, 0, False, id="at the end"),
        pytest.param(None, None, "stop", 10, None, 0, False, id="a new group"),
        pytest.param(Committed(51, OURS), None, "stop", 10, "beyond-end", 0, True, id="truncated"),
        pytest.param(Committed(51, OURS), None, "skip-and-count", 50, "beyond-end", 40, False, id="truncated, skip"),
        pytest.param(Committed(51, OURS), None, "from-beginning", 10, "beyond-end", 0, False, id="truncated, again"),
        pytest.param(Committed(7, OURS), None, "stop", 10, "retention", 0, True, id="retention"),
        pytest.param(Committed(7, OURS), None, "skip-and-count", 10, "retention", 3, False, id="retention, skip"),
        pytest.param(Committed(7, OURS), None, "from-beginning", 10, "retention", 3, False, id="retention, again"),
        pytest.param(Committed(30, "old"), None, "stop", 10, "topic-recreated", 0, True, id="another incarnation"),
        pytest.param(
            Committed(30, "old"), None, "skip-and-count", 50, "topic-recreated", 40, False, id="another, skip"
        ),
        pytest.param(
            Committed(30, "old"), None, "from-beginning", 10, "topic-recreated", 0, False, id="another, again"
        ),
        pytest.param(None, Answered(99, "old"), "stop", 10, "topic-recreated", 0, True, id="another, by its answers"),
        pytest.param(None, Answered(30, OURS), "stop", 30, "expired", 0, False, id="expired"),
        pytest.param(None, Answered(30, OURS), "from-beginning", 10, "expired", 0, False, id="expired, again"),
        pytest.param(None, Answered(7, OURS), "stop", 10, "retention", 0, True, id="expired, then retention"),
        pytest.param(Committed(30, None), Answered(30, OURS), "stop", 30, None, 0, False, id="foreign, the same"),
        pytest.param(Committed(40, None), Answered(30, OURS), "stop", 40, "foreign-offset", 10, False, id="forwards"),
        pytest.param(Committed(20, None), Answered(30, OURS), "stop", 20, "foreign-offset", 0, False, id="backwards"),
        pytest.param(Committed(20, None), Answered(30, "old"), "stop", 20, None, 0, False, id="a person's, made anew"),
        pytest.param(Committed(60, None), None, "stop", 10, "beyond-end", 0, True, id="foreign, beyond the end"),
    ],
)
def test_an_offset_is_used_where_it_fits_and_otherwise_by_the_policy(
    committed: Committed | None,
    answered: Answered | None,
    reset: OffsetReset,
    offset: int,
    fault: Fault | None,
    skipped: int,
    held: bool,
) -> None:
    found = start("t-0", LOG, committed, answered, reset)
    assert (found.offset, found.fault, found.skipped, found.is_paused) == (offset, fault, skipped, held)
    assert found.message.startswith("t-0: ") == (fault is not None)
    assert "\n" not in found.message
    assert ("offset_reset" in found.message) == (held or (fault == "expired" and reset == "from-beginning"))


def test_a_broker_without_topic_ids_makes_no_topic_look_new() -> None:
    assert start("t-0", LOG._replace(topic_id=""), Committed(30, "now"), None, "stop").fault is None
    assert start("t-0", LOG, Committed(30, ""), None, "stop").fault is None


@pytest.mark.parametrize("text", ["", None, "by another program", "topic_id=x"])
def test_a_commit_of_another_program_is_told_from_ours(text: str | None) -> None:
    assert read_metadata(text) is None
    assert read_metadata(metadata("")) == ""


#  offsets      0 1 2 3 4 5 6 7
#  incarnation  old: 5, 6, 7 answered; now: 0, 1 answered later
def test_answers_of_the_incarnation_that_was_answered_last_count() -> None:
    answers = [LastAnswer(1, "old", o) for o in (5, 6, 7)] + [LastAnswer(2, "now", o) for o in (0, 1)]
    assert answered_until(answers, begin=0, exactly_once=True, batch_max_records=10) == Answered(2, "now")
    assert answered_until([], begin=0, exactly_once=True, batch_max_records=10) is None


#  s             0       30      60     90     100
#  stable end    5       5       5      9      9
#  log's end     8       9       9      9      12
#  said                          4 behind 5
def test_a_transaction_that_stays_open_is_said_once() -> None:
    partition = TP("t", 0)
    ends = [(5, 8), (5, 9), (5, 9), (5, 9), (9, 9), (9, 12)]
    looks = StableEnds()
    said = [looks.update(30.0 * i, {partition: end}) for i, end in enumerate(ends)]
    assert said == [[], [], [(partition, 5, 4)], [], [], []]
