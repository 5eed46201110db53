"""The start offset of a partition, from its log, the committed offset, the outputs and the policy."""

import pytest
from faust.types import TP

from schemas.configuration.setting_types import OffsetReset
from stream_app.offsets.offset_validation import (
    CommittedOffset,
    Fault,
    OutputEnd,
    PartitionLog,
    commit_metadata,
    read_metadata,
    start_position,
)
from stream_app.offsets.output_offsets import OutputOffset, find_output_end
from stream_app.offsets.partition_positions import StableEnds

LOG = PartitionLog("now", 10, 50)
OURS = "now"


@pytest.mark.parametrize(
    ("committed", "output_end", "reset", "offset", "fault", "skipped", "is_paused"),
    [
        pytest.param(CommittedOffset(30, OURS), None, "stop", 30, None, 0, False, id="fits"),
        pytest.param(CommittedOffset(50, OURS), None, "stop", 50, None, 0, False, id="at the end"),
        pytest.param(None, None, "stop", 10, None, 0, False, id="a new group"),
        pytest.param(CommittedOffset(51, OURS), None, "stop", 10, "beyond-end", 0, True, id="truncated"),
        pytest.param(
            CommittedOffset(51, OURS), None, "skip-and-count", 50, "beyond-end", 40, False, id="truncated, skip"
        ),
        pytest.param(
            CommittedOffset(51, OURS), None, "from-beginning", 10, "beyond-end", 0, False, id="truncated, again"
        ),
        pytest.param(CommittedOffset(7, OURS), None, "stop", 10, "retention", 0, True, id="retention"),
        pytest.param(CommittedOffset(7, OURS), None, "skip-and-count", 10, "retention", 3, False, id="retention, skip"),
        pytest.param(
            CommittedOffset(7, OURS), None, "from-beginning", 10, "retention", 3, False, id="retention, again"
        ),
        pytest.param(
            CommittedOffset(30, "old"), None, "stop", 10, "topic-recreated", 0, True, id="another incarnation"
        ),
        pytest.param(
            CommittedOffset(30, "old"), None, "skip-and-count", 50, "topic-recreated", 40, False, id="another, skip"
        ),
        pytest.param(
            CommittedOffset(30, "old"), None, "from-beginning", 10, "topic-recreated", 0, False, id="another, again"
        ),
        pytest.param(None, OutputEnd(99, "old"), "stop", 10, "topic-recreated", 0, True, id="another, by its output"),
        pytest.param(None, OutputEnd(30, OURS), "stop", 30, "expired", 0, False, id="expired"),
        pytest.param(None, OutputEnd(30, OURS), "from-beginning", 10, "expired", 0, False, id="expired, again"),
        pytest.param(None, OutputEnd(7, OURS), "stop", 10, "retention", 0, True, id="expired, then retention"),
        pytest.param(
            CommittedOffset(30, None), OutputEnd(30, OURS), "stop", 30, None, 0, False, id="foreign, the same"
        ),
        pytest.param(
            CommittedOffset(40, None), OutputEnd(30, OURS), "stop", 40, "foreign-offset", 10, False, id="forwards"
        ),
        pytest.param(
            CommittedOffset(20, None), OutputEnd(30, OURS), "stop", 20, "foreign-offset", 0, False, id="backwards"
        ),
        pytest.param(
            CommittedOffset(20, None), OutputEnd(30, "old"), "stop", 20, None, 0, False, id="by a person, recreated"
        ),
        pytest.param(CommittedOffset(60, None), None, "stop", 10, "beyond-end", 0, True, id="foreign, beyond the end"),
    ],
)
def test_a_fitting_offset_is_used_and_another_handled_by_policy(
    committed: CommittedOffset | None,
    output_end: OutputEnd | None,
    reset: OffsetReset,
    offset: int,
    fault: Fault | None,
    skipped: int,
    is_paused: bool,
) -> None:
    found = start_position("t-0", LOG, committed, output_end, reset)
    assert (found.offset, found.fault, found.skipped, found.is_paused) == (offset, fault, skipped, is_paused)
    assert found.message.startswith("t-0: ") == (fault is not None)
    assert "\n" not in found.message
    assert ("offset_reset" in found.message) == (is_paused or (fault == "expired" and reset == "from-beginning"))


def test_without_topic_ids_no_topic_counts_as_recreated() -> None:
    assert start_position("t-0", LOG._replace(topic_id=""), CommittedOffset(30, "now"), None, "stop").fault is None
    assert start_position("t-0", LOG, CommittedOffset(30, ""), None, "stop").fault is None


@pytest.mark.parametrize("text", ["", None, "by another program", "topic_id=x"])
def test_commits_of_other_programs_are_recognised(text: str | None) -> None:
    assert read_metadata(text) is None
    assert read_metadata(commit_metadata("")) == ""


#  offsets      0 1 2 3 4 5 6 7
#  incarnation  old: output for 5, 6, 7; now: output for 0, 1, written later
def test_the_output_of_the_latest_incarnation_counts() -> None:
    outputs = [OutputOffset(1, "old", o) for o in (5, 6, 7)] + [OutputOffset(2, "now", o) for o in (0, 1)]
    assert find_output_end(outputs, begin=0, exactly_once=True, batch_max_records=10) == OutputEnd(2, "now")
    assert find_output_end([], begin=0, exactly_once=True, batch_max_records=10) is None


#  s             0       30      60     90     100
#  stable end    5       5       5      9      9
#  log's end     8       9       9      9      12
#  reported                      4 behind 5
def test_an_open_transaction_is_reported_once() -> None:
    partition = TP("t", 0)
    ends = [(5, 8), (5, 9), (5, 9), (5, 9), (9, 9), (9, 12)]
    stable_ends = StableEnds()
    reported = [stable_ends.update(30.0 * i, {partition: end}) for i, end in enumerate(ends)]
    assert reported == [[], [], [(partition, 5, 4)], [], [], []]
