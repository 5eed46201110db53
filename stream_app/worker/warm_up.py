"""Warm-up: a worker decides sample transactions with the real handler before it is ready.

Numba compiles a function when it is first called, and keeps the result for the next start. So nothing is compiled while
transactions wait. A champion that replaces another one needs nothing new: the compiled functions take arrays, whose
types do not depend on the model.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import numba
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from filelock import FileLock, Timeout

import scoring
from monitoring.counting.monitored_model import MonitoredModel
from schemas.records import Label
from schemas.rules import Rule, RulesFile
from schemas.time_units import DAY_MS
from schemas.transaction_ids import TRANSACTION_ID_HEADER
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.shared.label_inputs import label_inputs
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import compile_ruleset
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.decisions.probe import EVENT_TIME, RECORD_TIME_MS, Probe, good_payload
from stream_app.kafka.aiokafka_patch import FetchedBatches
from stream_app.kafka.batches.record_columns import BatchColumns, FetchedRecord, RecordColumns
from stream_app.output.batch_writer import record_batches

log = logging.getLogger("tamiz.worker")
MIN_LOGGED_S = 1.0  # loading what is compiled takes less
LOCK_TIMEOUT_S = 300.0
GZIP = 1  # number of the codec
DAYS = 4  # of the sample transactions: tiles of profiles close
# Payloads that are read in another way than a good one.
OTHER_PAYLOADS = (None, b"", b"{}", b"not JSON", b'{"a": "\\u00e9", "b": [1], "a": null}')


def warm_up(model: MonitoredModel, policy: HandlerPolicy) -> None:
    """Decide samples, so that all compiled code is loaded, and compiled if necessary."""
    started = time.monotonic()
    with compilation_lock(), _notice():
        read_sample()
        profiles = _profiles(policy)
        state = HandlerState(RecentIds(), profiles, _rules(policy))
        for records in _batches(policy):
            list(record_batches(handle(records, model, policy, state).decisions))
        if profiles is not None:
            _use_profiles(profiles)
        model.contributions(np.array([model.manifest.golden[0].features], dtype=np.float32))
    if (seconds := time.monotonic() - started) > MIN_LOGGED_S:
        log.info("the code that decides transactions is compiled, in %.1f s; the next start uses the result", seconds)


def read_sample() -> Sequence[FetchedRecord]:
    """Read records as they come from a broker: of a plain batch, and of a compressed one."""
    batches: list[BatchColumns] = []
    for codec in (0, GZIP):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1_024)
        builder.append(0, RECORD_TIME_MS, None, b"{}", [(TRANSACTION_ID_HEADER, b"probe")])
        batches += FetchedBatches(bytes(builder.build())).next_batch()
    records = RecordColumns.of_partition("probe", 0, batches)
    list(records)
    return records


def _batches(policy: HandlerPolicy) -> list[list[Probe]]:
    """Batches of one good payload, of none, and of both kinds, in the order of their offsets and days."""
    good = [good_payload(policy.dataset, EVENT_TIME + timedelta(days=day)) for day in range(DAYS)]
    unknown = msgspec.json.decode(good[0]) | {policy.dataset.event_time.parts[0]: "no date"}
    others = *OTHER_PAYLOADS, msgspec.json.encode(unknown)
    batches: list[list[bytes | None]] = [[good[0]], [*others], [good[1], *others, *good[2:]]]
    offsets = itertools.count()
    return [
        [
            Probe(
                value=payload,
                offset=next(offsets),
                timestamp=RECORD_TIME_MS + DAYS * DAY_MS,
                key=b"probe",
                headers=[(TRANSACTION_ID_HEADER, b"probe")],
            )
            for payload in batch
        ]
        for batch in batches
    ]


def _profiles(policy: HandlerPolicy) -> ProfileFold | None:
    if not policy.dataset.profiles:
        return None
    fold = ProfileFold(policy.dataset, [0])
    fold.assign(0, PartitionProfiles(fold.plan))
    return fold


def _rules(policy: HandlerPolicy) -> RuleState:
    """A ruleset, because one can arrive at any time. The compiled loop is the same for all rules."""
    rule = Rule(id="probe", version=1, when="score >= 0", effect="review", reason="", mode="live")
    return RuleState(1, compile_ruleset(RulesFile(rules=(rule,)), policy.dataset), ListState())


def _use_profiles(profiles: ProfileFold) -> None:
    """What else is done with profiles: labels are added, old rows merged, a snapshot is taken and restored."""
    plan, shared = profiles.plan, profiles.shared
    entities = {profile.entity: "probe" for profile in plan.profiles}
    label = Label(
        transaction_id="probe",
        fraud=True,
        event_time_ms=RECORD_TIME_MS,
        reported_at_ms=RECORD_TIME_MS + DAY_MS,
        entities=entities,
    )
    shared.add_labels(label_inputs(plan, [label]))
    shared.compact()
    copying = profiles.partitions[0].begin_copy()
    copying.copy_events()
    PartitionProfiles.from_arrays(plan, copying.finish().to_arrays())


@contextlib.contextmanager
def compilation_lock() -> Iterator[None]:
    """Let one process compile at a time: the next one uses the result, and Numba's files are written by one."""
    folder = Path(numba.config.CACHE_DIR or Path(scoring.__file__).parent / "__pycache__")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, Timeout):  # a read-only folder; a process that hangs
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / "compilation.lock", timeout=LOCK_TIMEOUT_S))
        yield


@contextlib.contextmanager
def _notice() -> Iterator[None]:
    """Log why the start takes long, while it does."""
    timer = threading.Timer(MIN_LOGGED_S, log.info, ("compiling the code that decides transactions, once",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
