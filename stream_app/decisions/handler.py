"""Turns a batch of records into decisions and dead letters. Pure: no Kafka, no Faust, no clock, no network.

Every input record yields exactly one decision or one dead letter, in the order of its partition.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import msgspec
import numpy as np

from monitoring.counting.counted_features import encode_dead_letters, encode_transactions
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.panes import NO_TIME_MS
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.records import Rejection
from schemas.time_units import HOUR_MS, MINUTE_MS
from schemas.transaction_ids import sent_id, transaction_id
from scoring.arrays import Floats, Indices, Ints
from scoring.coded_columns import join_columns
from scoring.decision import OUTCOMES
from scoring.input.admission import MAX_KEY_BYTES, reject_records
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.input.record_times import NO_TIMESTAMP, RecordTimes
from scoring.profiles.feature_log import feature_columns
from scoring.profiles.profile_plan import ProfilePlan
from scoring.scorer import ScoredRows, decide
from stream_app.decisions import dead_letters
from stream_app.decisions.batch_records import IncomingRecord
from stream_app.decisions.decision_records import decision_records
from stream_app.decisions.feature_records import feature_records
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.decisions.probe import Probe, good_payload
from stream_app.decisions.rule_tally import RuleTally
from stream_app.kafka.batches.record_columns import RecordColumns, record_places
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecord, OutgoingRecords

if TYPE_CHECKING:  # imported only where a data set declares profiles, or rules are in force
    from scoring.profiles.profile_fold import ProfileBatch
    from scoring.profiles.shared.open_tiles import ClosedTiles
    from scoring.rules.rule_decision import RuleContext
    from scoring.rules.rule_state import RuleState


class ProfileSource(Protocol):
    """Gives the profile features of a batch: a worker's fold, or the feature log."""

    plan: ProfilePlan

    def features(self, cleaned: CleanedBatch, partitions: Indices, offsets: Ints) -> "ProfileBatch":
        """As `scoring.profiles.profile_fold.ProfileFold.features`."""


class ProfileStateError(Exception):
    """Profiles could not be folded. No record is the cause: the state must be restored."""


class CountedCodes(NamedTuple):
    """A batch coded for drift counting, one row per record."""

    codes: Indices  # shape (n, n_features of the model's layout)
    event_times_ms: Ints  # shape (n,); NO_TIME_MS for a dead letter


class HandlerResult(NamedTuple):
    """The output of a batch. `decisions` and `dead_letters` together have the length of the batch."""

    decisions: OutgoingRecords
    dead_letters: OutgoingRecords
    outcomes: dict[str, int]  # number of decisions by outcome
    rejections: list[Rejection]
    truncated_parts: Mapping[str, int]  # number by kind; trace headers that are not forwarded count as `trace`
    conflicts: Sequence[OutgoingRecord]  # decisions whose id an earlier, different payload has
    coded: CountedCodes | None  # None if the policy does not count
    features: OutgoingRecords = NO_RECORDS  # of the feature log, one for each decision; empty without profiles
    incomplete: int = 0  # decisions whose profile features lack tiles of a partition that is behind
    closed: "Mapping[int, Sequence[ClosedTiles]]" = MappingProxyType({})  # by partition: to be published with the batch
    rules: RuleTally | None = None  # None: the model decided alone


class HandlerState(NamedTuple):
    """What the decisions of a batch depend on in addition to the batch."""

    recent: RecentIds | None = None  # recently decided ids, to detect conflicts; updated with those of each batch
    profiles: ProfileSource | None = None  # with None, the values of profile features are missing
    rules: "RuleState | None" = None  # in force for every record of the batch; None: the model decides alone


NO_STATE = HandlerState()


class HandlerPolicy(NamedTuple):
    """Settings of the handler, constant from batch to batch."""

    dataset: Dataset
    consumer_group: str
    max_payload_bytes: int
    counting: bool  # whether to code the batch for drift counting
    max_letter_bytes: int = 4 * 1024 * 1024  # largest dead letter that its topic accepts
    topic_id: str = ""  # Kafka's id of the transactions topic
    max_event_time_ahead_ms: int = HOUR_MS  # after the record's timestamp; beyond that it is a dead letter

    @classmethod
    def from_settings(cls, settings: Settings, dataset: Dataset, *, counting: bool) -> Self:
        """The policy for these settings. The caller replaces the values that are read from the cluster."""
        return cls(
            dataset=dataset,
            consumer_group=settings.consumer_group,
            max_payload_bytes=settings.max_payload_bytes,
            counting=counting,
            max_event_time_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS,
        )


def clean_records(records: Sequence[IncomingRecord], policy: HandlerPolicy) -> tuple[CleanedBatch, list[Rejection]]:
    """Clean a batch: the accepted transactions, and the rejection of every other record."""
    inadmissible, payloads, timestamps = _admit(records, policy.max_payload_bytes)
    times = RecordTimes(timestamps, policy.max_event_time_ahead_ms)
    cleaned = clean_payloads(policy.dataset, payloads, max_payload_bytes=policy.max_payload_bytes, record_times=times)
    return cleaned, [inadmissible.get(r.row, r) for r in cleaned.rejections]


def _admit(
    records: Sequence[IncomingRecord], max_payload_bytes: int
) -> tuple[dict[int, Rejection], Sequence[bytes | None], Sequence[int] | Ints]:
    """Rejections by row, the payloads without those of rejected rows, and the records' timestamps."""
    if isinstance(records, RecordColumns):
        rows = records.unusual_rows(MAX_KEY_BYTES)
        found = reject_records(list(records.take(rows)), max_payload_bytes) if len(rows) else {}
        rejected = {int(rows[i]): msgspec.structs.replace(each, row=int(rows[i])) for i, each in found.items()}
        return rejected, records.payloads_without(list(rejected)), records.timestamps
    rejected = reject_records(records, max_payload_bytes)
    payloads = [None if row in rejected else record.value for row, record in enumerate(records)]
    # Records that were not consumed from a topic (probes) have no timestamp.
    return rejected, payloads, [getattr(r, "timestamp", NO_TIMESTAMP) for r in records]


def handle(
    records: Sequence[IncomingRecord],
    model: MonitoredModel,
    policy: HandlerPolicy,
    state: HandlerState = NO_STATE,
) -> HandlerResult:
    """Clean, score and decide a batch.

    records: of any partitions, each partition's in offset order.
    """
    profiles = state.profiles
    cleaned, rejections = clean_records(records, policy)
    fetched, records = records, list(records)  # from columns, one by one would be slow
    ids = [
        declared or transaction_id(records[row], policy.topic_id)
        for row, declared in zip(cleaned.rows.tolist(), cleaned.transaction_ids, strict=True)
    ]
    found = None if profiles is None else _profile_features(fetched, cleaned, profiles)
    columns = join_columns(cleaned.columns, _profile_columns(policy.dataset, len(ids), profiles, found))
    cleaned = cleaned._replace(columns=columns)
    decided = decide(model, cleaned, _rule_context(state.rules, policy.dataset, ids))
    counts = np.bincount(decided.ruling.outcomes, minlength=len(OUTCOMES)).tolist()
    truncated_parts: Counter[str] = Counter()
    accepted = [records[row] for row in cleaned.rows.tolist()]
    conflicts: Mapping[int, int] = {}
    if state.recent is not None:
        conflicts = _conflicts(accepted, ids, cleaned.transaction_ids, state.recent)
    decisions = decision_records(
        accepted,
        ids,
        cleaned.event_time_ms,
        decided,
        model,
        consumer_group=policy.consumer_group,
        topic_id=policy.topic_id,
        truncated_parts=truncated_parts,
        conflicts=conflicts,
    )
    features = NO_RECORDS
    if profiles is not None and found is not None:
        features = feature_records(profiles.plan, accepted, ids, cleaned.event_time_ms, found.values, found.complete)
    return HandlerResult(
        decisions=decisions,
        dead_letters=OutgoingRecords.of(_dead_letter(records[r.row], r, policy, truncated_parts) for r in rejections),
        outcomes=dict(zip(OUTCOMES, counts, strict=True)),
        rejections=rejections,
        coded=_encode(cleaned, model, decided) if policy.counting else None,
        truncated_parts=truncated_parts,
        conflicts=[decisions[row] for row in conflicts],
        features=features,
        incomplete=0 if found is None else int(np.count_nonzero(~found.complete)),
        closed={} if found is None else found.closed,
        rules=_rule_tally(state.rules, decided),
    )


def handle_with_isolation(
    records: Sequence[IncomingRecord],
    model: MonitoredModel,
    policy: HandlerPolicy,
    state: HandlerState = NO_STATE,
) -> HandlerResult:
    """As `handle`, but a record that triggers a bug does not stop its partition.

    A batch that raises is handled record by record; a record that still raises becomes a dead letter with code
    `internal-error`. If no record of the batch and no known-good payload can be handled with the same rules, the
    records are not the cause, and the exception is raised.
    """
    try:
        return handle(records, model, policy, state)
    except ProfileStateError:
        raise
    except Exception:
        parts = [_handle_one(r, model, policy, state) for r in records]
        if any(p.decisions for p in parts) or _handles_good_payload(model, policy, state):
            return concatenate_results(parts)
        raise


def _handles_good_payload(model: MonitoredModel, policy: HandlerPolicy, state: HandlerState) -> bool:
    probe = Probe(value=good_payload(policy.dataset))
    try:
        return bool(handle([probe], model, policy, HandlerState(rules=state.rules)).decisions)
    except Exception:
        return False


def _handle_one(
    record: IncomingRecord, model: MonitoredModel, policy: HandlerPolicy, state: HandlerState
) -> HandlerResult:
    try:
        return handle([record], model, policy, state)
    except ProfileStateError:
        raise
    except Exception as error:
        expected = "no change: this is a bug in Tamiz; please report it, then redrive the record"
        rejection = Rejection(row=0, code="internal-error", field=None, value=repr(error)[:100], expected=expected)
        coded = CountedCodes(encode_dead_letters(model.bins, 1), np.array([NO_TIME_MS])) if policy.counting else None
        truncated_parts: Counter[str] = Counter()
        letters = OutgoingRecords.of([_dead_letter(record, rejection, policy, truncated_parts)])
        result = HandlerResult(NO_RECORDS, letters, {}, [rejection], truncated_parts, (), coded)
        if state.profiles is None:
            return result
        # Profiles count the record already, or pass it over now. Tiles that it closed must be published.
        nothing = clean_payloads(policy.dataset, [None])
        return result._replace(closed=_profile_features([record], nothing, state.profiles).closed)


def concatenate_results(parts: Sequence[HandlerResult]) -> HandlerResult:
    """The results of the parts of a batch, in order."""
    outcomes: Counter[str] = Counter()
    truncated_parts: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part.outcomes)
        truncated_parts.update(part.truncated_parts)
    coded = [part.coded for part in parts if part.coded is not None]
    closed: dict[int, list[ClosedTiles]] = {}
    for part in parts:
        for partition, tiles in part.closed.items():
            closed.setdefault(partition, []).extend(tiles)
    return HandlerResult(
        decisions=OutgoingRecords.concatenate([part.decisions for part in parts]),
        dead_letters=OutgoingRecords.concatenate([part.dead_letters for part in parts]),
        outcomes=dict(outcomes),
        rejections=[r for part in parts for r in part.rejections],
        coded=CountedCodes(*(np.concatenate(arrays) for arrays in zip(*coded, strict=True))) if coded else None,
        truncated_parts=truncated_parts,
        conflicts=[c for part in parts for c in part.conflicts],
        features=OutgoingRecords.concatenate([part.features for part in parts]),
        incomplete=sum(part.incomplete for part in parts),
        closed=closed,
        rules=RuleTally.sum(tallies) if (tallies := [part.rules for part in parts if part.rules is not None]) else None,
    )


def _rule_context(state: "RuleState | None", dataset: Dataset, ids: Sequence[str]) -> "RuleContext | None":
    if state is None:
        return None
    from scoring.rules.rule_decision import RuleContext

    return RuleContext(state, dataset, ids)


def _rule_tally(state: "RuleState | None", decided: ScoredRows) -> RuleTally | None:
    if state is None:
        return None
    return RuleTally.of(decided.ruling, None if state.ruleset is None else state.ruleset.table)


def _profile_features(
    records: Sequence[IncomingRecord], cleaned: CleanedBatch, profiles: ProfileSource
) -> "ProfileBatch":
    places = record_places(records)
    try:
        return profiles.features(cleaned, *places)
    except Exception as error:
        raise ProfileStateError("the profiles of a batch failed; their state may be damaged") from error


def _profile_columns(
    dataset: Dataset, n: int, profiles: ProfileSource | None, found: "ProfileBatch | None"
) -> Mapping[str, Floats]:
    if profiles is None or found is None:
        return {feature.name: np.full(n, np.nan) for feature in dataset.profile_features}
    return feature_columns(profiles.plan.names, found.values)


def _encode(cleaned: CleanedBatch, model: MonitoredModel, decided: ScoredRows) -> CountedCodes:
    codes = encode_dead_letters(model.bins, cleaned.n)
    codes[cleaned.rows] = encode_transactions(
        model.bins, model.manifest, cleaned.columns, decided.matrix, decided.scores, decided.model_outcomes
    )
    times = np.full(cleaned.n, NO_TIME_MS, dtype=np.int64)
    times[cleaned.rows] = cleaned.event_time_ms
    return CountedCodes(codes, times)


def _conflicts(
    records: Sequence[IncomingRecord], ids: Sequence[str], declared: Sequence[str | None], recent: RecentIds
) -> dict[int, int]:
    """Row -> offset of an earlier transaction that has the same id and a different payload.

    ids: of the records. declared: the ids that the payloads give.
    """
    conflicts = {}
    for row, (record, transaction, sent) in enumerate(zip(records, ids, declared, strict=True)):
        # Only ids given by producers can conflict; a default id contains the offset.
        if sent or (record.headers and sent_id(record.headers)):
            first = recent.conflicting_offset(record.partition, transaction, record.value or b"", record.offset)
            if first is not None:
                conflicts[row] = first
    return conflicts


def _dead_letter(
    record: IncomingRecord, rejection: Rejection, policy: HandlerPolicy, truncated_parts: Counter[str]
) -> OutgoingRecord:
    own = dead_letters.headers(
        rejection,
        record,
        group=policy.consumer_group,
        transaction_id=transaction_id(record, policy.topic_id),
        topic_id=policy.topic_id,
    )
    letter = dead_letters.truncate(record.key, record.value, own, record.headers, policy.max_letter_bytes)
    truncated_parts.update(letter.truncated_parts)
    return OutgoingRecord(record.partition, letter.key, letter.value, letter.headers)
