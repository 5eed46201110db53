"""What profiles add, and whether a worker computes what training computed: `python -m benchmarks.profile_gain`.

Simulated transactions at terminals. Two models are trained on the same days, with and without profiles, and compared
on later days. A worker with the first of them then decides all days from Kafka: its decisions of the held-out days are
compared with the scores from the file.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.json_codec import decode
from schemas.records import Decision
from schemas.topics import topic_table, with_own_topics
from scoring.arrays import Floats, Indices
from scoring.features import featurize
from stream_app.kafka.replay import Message, connected, send
from stream_app.kafka.topic_admin import create_topics
from stream_app.kafka.topic_reader import read_to_end
from tamiz.demo.demo_services import service_process
from tamiz.demo.profile_comparison import DATASET, LABEL_DELAY_DAYS, WITHOUT_PROFILES, split_days, write_history
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.simulator import attainable_auc
from tamiz.simulation.terminal_files import keyed_labels, keyed_transactions
from tamiz.simulation.terminal_simulator import (
    TerminalTraffic,
    TerminalTransactions,
    simulate_terminals,
    transaction_ids,
)
from training.data.history import read_history
from training.evaluation.review_metrics import ReviewEvaluation, evaluate_reviews
from training.evaluation.review_ranking import ReviewPlan, ReviewRows, review_rows
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle

TIMEOUT_S = 900
MAX_DIFFERENCE = 0.005  # of card precision, between the worker and the file
MIN_GAIN = 2.0  # of card precision, by profiles


class ComparedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model and its scores of the held-out transactions."""

    settings: Settings  # of its registry, model name and data set
    scores: Floats  # (n,)
    held_out: ReviewRows  # n rows

    def reviews(self, scores: Floats | None = None) -> ReviewEvaluation:
        """What a review team finds on the held-out days. scores: other scores of the same rows."""
        per_day = self.settings.reviews_per_day
        return evaluate_reviews(self.held_out, self.scores if scores is None else scores, per_day)


def main() -> None:
    """Print a table, and fail if the worker differs from the file or profiles do not gain enough."""
    parser = argparse.ArgumentParser(prog="benchmarks.profile_gain", description=__doc__)
    parser.add_argument("--cards", type=int, default=5_000)
    parser.add_argument("--days", type=int, default=66, help="of traffic, with the held-out days and the 7 before them")
    parser.add_argument("--held-out", type=int, default=14, help="days")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    console = Console()
    traffic = TerminalTraffic(days=args.days, cards=args.cards, seed=args.seed)
    simulated = simulate_terminals(traffic)
    with TemporaryDirectory(prefix="tamiz-bench-") as scratch, EmbeddedBroker() as broker:
        folder = Path(scratch)
        settings = msgspec.structs.replace(
            with_own_topics(load({}), "bench-"),
            bootstrap_servers=broker.bootstrap_servers,
            state_dir=folder / "state",
            web_port=free_port(),
        )
        history = write_history(traffic, folder)
        with timed(console, "training and scoring without profiles"):
            without = compare_model(settings, history, args.held_out, profiles=False)
        with timed(console, "training and scoring with profiles"):
            profiled = compare_model(settings, history, args.held_out, profiles=True)
        rows = np.arange(len(simulated.labels) - len(profiled.scores), len(simulated.labels))
        with timed(console, f"{len(simulated.labels):,} transactions through Kafka"):
            decided = decided_scores(profiled.settings, folder, simulated, rows)
    found = {
        "without profiles, from the file": without.reviews(),
        "with profiles, from the file": profiled.reviews(),
        "with profiles, through Kafka": profiled.reviews(decided),
        "oracle that knows the frauds' causes": profiled.reviews(simulated.probability[rows]),
    }
    table = Table("held-out days", *(metric.name for metric in profiled.reviews().metrics))
    for name, reviews in found.items():
        table.add_row(name, *(f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})" for m in reviews.metrics))
    console.print(table)
    equal = int((decided == profiled.scores).sum())
    console.print(f"scores through Kafka equal to those from the file: {equal:,} of {len(rows):,}")
    console.print(f"attainable ROC AUC {attainable_auc(simulated.probability[rows]):.4f}")
    plain, file, worker, _ = (reviews.metric("card_precision").value or 0.0 for reviews in found.values())
    if abs(worker - file) > MAX_DIFFERENCE or file < MIN_GAIN * plain:
        raise SystemExit(f"card precision: {plain:.3f} without profiles, {file:.3f} with, {worker:.3f} through Kafka")


@contextmanager
def timed(console: Console, step: str) -> Iterator[None]:
    """Context manager: print a step and how long it took."""
    begun = time.monotonic()
    yield
    console.print(f"{step}: {time.monotonic() - begun:.0f} s")


def compare_model(settings: Settings, path: Path, held_out_days: int, *, profiles: bool) -> ComparedModel:
    """Train a model and score the last days of a history with it.

    settings: of the registry. path: a file of `write_history`. profiles: whether the model sees profile features.
    """
    name = "with-profiles" if profiles else "without-profiles"
    settings = msgspec.structs.replace(
        settings,
        dataset=DATASET if profiles else str(path.parent / WITHOUT_PROFILES),
        model_name=f"{settings.model_name}-{name}",
        promotion="automatic",
    )
    dataset = load_dataset(settings.dataset)
    whole = read_history(path, dataset)
    known, rows = split_days(whole, held_out_days)
    history = whole._replace(
        columns=whole.columns_at(known),
        event_time_ms=whole.event_time_ms[known],
        fraud=whole.fraud[known],
        keys=whole.keys[known],
    )
    version = train(settings, history, force="a benchmark compares it on later days").version
    model = MonitoredModel.load(download_bundle(settings, version, path.parent / name), version)
    scores = model.score(featurize(model.encoding, whole.columns_at(rows)))
    plan = ReviewPlan(per_day=settings.reviews_per_day, label_delay_days=LABEL_DELAY_DAYS, amount=dataset.amount)
    return ComparedModel(settings=settings, scores=scores, held_out=review_rows(whole, rows, plan))


def decided_scores(settings: Settings, folder: Path, simulated: TerminalTransactions, rows: Indices) -> Floats:
    """Scores of some transactions, by a worker that decides all of them.

    Labels are sent first: one that is reported later than a transaction does not count for it.
    """
    create_topics(settings.bootstrap, topic_table(settings), settings.replication_factor)
    with connected(settings.bootstrap) as producer:
        for topic, records in (
            (settings.labels_topic, keyed_labels(simulated)),
            (settings.transactions_topic, keyed_transactions(simulated)),
        ):
            send(producer, topic, (Message(key, value, None) for key, value in records))
    with service_process("worker", settings, folder / "worker.log"):
        wait_for_outputs(settings, len(simulated.labels))
    by_id: dict[str, float] = {}
    for records in read_to_end(settings.bootstrap, settings.decisions_topic):
        for record in records:
            decision = decode(record.value or b"", Decision)
            by_id[decision.transaction_id] = decision.score
    ids = transaction_ids(simulated)
    return np.array([by_id[ids[row]] for row in rows.tolist()])


def wait_for_outputs(settings: Settings, expected: int) -> None:
    """Wait until there is a decision or a dead letter for each transaction."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, enable_auto_commit=False)
    topics = settings.decisions_topic, settings.dead_letters_topic
    places = [TopicPartition(t, p) for t in topics for p in range(settings.partitions)]
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while (seen := sum(consumer.end_offsets(places).values())) < expected:
            if time.monotonic() > deadline:
                raise SystemExit(f"{seen:,} of {expected:,} transactions were decided within {TIMEOUT_S} s")
            time.sleep(1)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
