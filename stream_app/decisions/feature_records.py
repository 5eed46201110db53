"""Records of the feature log: the values of the profile features of a batch, one record for each decision. Pure."""

from collections.abc import Sequence

from scoring.arrays import Flags, Ints, Matrix
from scoring.profiles.feature_log import encode_features
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.batch_records import IncomingRecord, OutgoingRecord


def feature_records(
    plan: ProfilePlan,
    records: Sequence[IncomingRecord],
    ids: Sequence[str],
    event_time_ms: Ints,
    values: Matrix,
    complete: Flags,
) -> list[OutgoingRecord]:
    """The records to write with the decisions, for the m accepted transactions of a batch.

    records: the accepted transactions, in the order of the other arguments, each of which has m elements or rows.
    ids: of their decisions. values, complete: as in `scoring.profiles.profile_fold.ProfileBatch`.
    """
    encoded = encode_features(
        plan,
        ids=ids,
        event_time_ms=event_time_ms,
        offsets=[record.offset for record in records],
        matrix=values,
        complete=complete,
    )
    return [
        OutgoingRecord(record.partition, record.key, value, []) for record, value in zip(records, encoded, strict=True)
    ]
