"""A seeded chaos run: transactions are produced while workers are killed, paused and added and the broker restarts."""

import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from uuid import uuid4

import msgspec
from kafka import KafkaConsumer, TopicPartition

from chaos.auditor import AuditResult, audit
from chaos.input_log import InputProducer
from chaos.log_faults import commit_beyond_the_end, delete_unread, forget_offsets
from chaos.rule_changes import RuleChanges
from chaos.worker_pool import WorkerPool, wait_until
from schemas.configuration.setting_types import OffsetReset
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.topic_admin import create_topics
from training.registry import version_transitions

Fault = Callable[[], None]
# Session timeout of stream_app/worker/faust_app.py. A pause is longer, so that the partition is reassigned.
SESSION_TIMEOUT_S = 30.0
SNAPSHOT_INTERVAL_S = 2
PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "1d", "7d"]
features = ["count", "sum(monto)", "std(monto)", "zscore(monto)", "distinct(ciudad)", "seconds_since_last"]

[[profiles]]
entity = "establecimiento"
windows = ["1h", "1d"]
features = ["count", "mean(monto)"]
"""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Input of a run and the number of faults of each kind."""

    transactions: int
    kills: int = 0
    pauses: int = 0
    rebalances: int = 0  # a worker is added and later removed
    restarts: int = 0  # of the broker
    promotions: int = 0
    registry_outages: int = 0
    full_disks: int = 0
    retentions: int = 0  # unread records are deleted while the workers are paused
    expiries: int = 0  # of the group's offsets, while no worker runs
    truncations: int = 0  # the group's offsets are beyond the end of the log
    offset_reset: OffsetReset = "stop"
    seed: int = 0
    workers: int = 2
    partitions: int = 4
    rate: float = 4_000.0
    invalid_share: float = 0.002
    outage_s: float = 3.0
    pause_s: float = SESSION_TIMEOUT_S + 6
    calm_s: float = 4.0  # time between two faults, for the workers to recover
    kill_at: tuple[str, ...] = ()  # STEP NTH: the first worker kills itself at the NTH visit of STEP
    settle_s: float = 180.0
    rule_changes_s: float | None = None  # mean time between two changes of rules and lists; None: no rules
    profiles: bool = True  # the data set declares profiles, so that workers hold state


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of a run and the result of its audit."""

    processing_guarantee: str
    seed: int
    faults: dict[str, int]
    deaths: dict[int, int]  # workers that ended, by exit code; negative for a signal
    seconds: float
    settled: bool  # whether every input was committed before the audit
    back_after_s: tuple[float, ...]  # per broker restart: time from its return to the next decision
    account: AuditResult

    @property
    def kept(self) -> bool:
        """Whether the processing guarantee was kept."""
        account = self.account
        exact = account.is_exact
        if "retention" in self.faults:  # deleted transactions cannot be recounted
            exact = account.is_whole and not account.repeats
        if (
            self.processing_guarantee == "at-least-once" or "truncation" in self.faults
        ):  # the policy `from-beginning` decides everything again
            exact = account.is_whole
        return self.settled and exact


def run_plan(
    settings: Settings,
    bootstrap: str,
    plan: RunPlan,
    *,
    restart: Callable[[float], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Run a plan and audit it.

    settings: of a registry with a champion; the run creates its own topics and group.
    restart: stops the broker for a number of seconds; required for a plan with restarts.
    """
    if plan.profiles:
        settings = with_profiles(settings)
    settings = msgspec.structs.replace(own_topics(settings, bootstrap, plan.partitions), offset_reset=plan.offset_reset)
    rng = random.Random(plan.seed)
    done: dict[str, int] = {}
    back_after: list[float] = []
    started = time.monotonic()
    feeding = InputProducer(
        settings, n=plan.transactions, seed=plan.seed, invalid_share=plan.invalid_share, rate=plan.rate
    )
    changes = None
    if plan.rule_changes_s is not None:
        changes = RuleChanges(settings, seed=plan.seed, interval_s=plan.rule_changes_s)
    with (
        tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder,
        WorkerPool(settings, Path(folder), plan.workers, plan.kill_at) as pool,
    ):
        feeding.start()
        if changes is not None:
            changes.start()
        drawn = _draw_faults(plan, settings, restart, pool, rng)
        if not wait_until(lambda: committed_transactions(settings) > 0, plan.settle_s):
            raise RuntimeError(f"no worker decided a transaction:\n{pool.tail()}")
        feeding.flow.set()
        for number, (name, fault) in enumerate(drawn, start=1):
            # Spread the faults over the input, so that each occurs while transactions arrive.
            due = rng.uniform(0.5, 1.0) * plan.transactions * number / (len(drawn) + 1)
            wait_until(lambda due=due: feeding.sent >= due or not feeding.is_alive(), plan.settle_s)  # type: ignore[misc]
            say(f"{time.monotonic() - started:6.1f} s  {name:16s} {feeding.sent:,} sent")
            fault()
            if name == "broker restart":
                back_after.append(_seconds_until_progress(settings, plan.settle_s))
            done[name] = done.get(name, 0) + 1
            time.sleep(plan.calm_s * rng.uniform(0.5, 1.5))
        feeding.join()
        if changes is not None:
            changes.stop()
            done["rule change"] = changes.changes
        for failed in (feeding.failed, None if changes is None else changes.failed):
            if failed is not None:
                raise failed
        settled = wait_until(lambda: lag(settings) == 0, plan.settle_s)
        deaths = dict(pool.deaths)
        if not settled:
            say(pool.tail())
    if plan.kill_at and -signal.SIGKILL not in deaths:
        raise RuntimeError(f"no worker was killed at {' '.join(plan.kill_at)}: the run tested nothing")
    return RunResult(
        processing_guarantee=settings.processing_guarantee,
        seed=plan.seed,
        faults=done,
        deaths=deaths,
        seconds=round(time.monotonic() - started, 1),
        settled=settled,
        back_after_s=tuple(back_after),
        account=audit(settings),
    )


def own_topics(settings: Settings, bootstrap: str, partitions: int) -> Settings:
    """Create topics for this run only; returns settings with these topics and a group of its own."""
    mark = uuid4().hex[:8]
    changed = msgspec.structs.replace(
        with_own_topics(settings, f"{mark}-"),
        bootstrap_servers=bootstrap,
        consumer_group=f"chaos-{mark}",
        partitions=partitions,
        web_port=0,
    )
    create_topics(bootstrap, topic_table(changed, load_dataset(changed.dataset).profiles), 1)
    return changed


def with_profiles(settings: Settings) -> Settings:
    """The settings with profiles in the declaration of the data set, and frequent snapshots of them."""
    shipped = resources.files("schemas.dataset").joinpath("card_transactions.toml").read_text(encoding="utf-8")
    path = settings.state_dir / "card_transactions_with_profiles.toml"
    path.write_text(shipped + PROFILES, encoding="utf-8")
    return msgspec.structs.replace(settings, dataset=str(path), profile_snapshot_seconds=SNAPSHOT_INTERVAL_S)


def lag(settings: Settings) -> int:
    """Number of transactions behind the committed offsets."""
    return sum(end - done for end, done in _progress(settings))


def committed_transactions(settings: Settings) -> int:
    """Number of transactions that the group has committed."""
    return sum(done for _, done in _progress(settings))


def _progress(settings: Settings) -> list[tuple[int, int]]:
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group, enable_auto_commit=False
    )
    try:
        partitions = [TopicPartition(settings.transactions_topic, p) for p in range(settings.partitions)]
        ends = consumer.end_offsets(partitions)
        return [(ends[p], consumer.committed(p) or 0) for p in partitions]
    finally:
        consumer.close()


def _seconds_until_progress(settings: Settings, most_s: float) -> float:
    started = time.monotonic()
    before = committed_transactions(settings)
    wait_until(lambda: committed_transactions(settings) > before or lag(settings) == 0, most_s)
    return round(time.monotonic() - started, 1)


def _draw_faults(
    plan: RunPlan,
    settings: Settings,
    restart: Callable[[float], None] | None,
    pool: WorkerPool,
    rng: random.Random,
) -> Sequence[tuple[str, Fault]]:
    def pause() -> None:
        number = rng.randrange(len(pool))
        pool.pause(number)
        time.sleep(plan.pause_s)
        pool.resume(number)

    def registry_away() -> None:
        kept = settings.state_dir / "mlflow.db"
        away = kept.with_suffix(".away")
        kept.rename(away)
        time.sleep(2)
        away.rename(kept)

    def disk_full() -> None:
        # No file of a worker can grow, including its log, while a new model must be downloaded.
        pool.limit_files(0)
        promote_other_version(settings)
        before = committed_transactions(settings)
        time.sleep(3 * plan.calm_s)
        if committed_transactions(settings) == before and lag(settings) > 0:
            raise RuntimeError("no transaction was decided while the disk was full")
        pool.limit_files(resource.RLIM_INFINITY)

    def outage() -> None:
        if restart is None:
            raise ValueError("a plan with broker restarts needs the argument `restart`")
        restart(plan.outage_s)

    def rebalance() -> None:
        pool.add()
        time.sleep(plan.calm_s)
        pool.remove()

    def retention() -> None:
        for number in range(len(pool)):
            pool.pause(number)
        time.sleep(plan.calm_s)
        delete_unread(settings)
        for number in range(len(pool)):
            pool.resume(number)

    def expiry() -> None:
        with pool.stopped_workers():
            forget_offsets(settings)

    def truncation() -> None:
        with pool.stopped_workers():
            commit_beyond_the_end(settings)

    faults = (
        ("retention", plan.retentions, retention),
        ("offsets expired", plan.expiries, expiry),
        ("truncation", plan.truncations, truncation),
        ("kill", plan.kills, lambda: pool.kill(rng.randrange(len(pool)))),
        ("pause", plan.pauses, pause),
        ("broker restart", plan.restarts, outage),
        ("promotion", plan.promotions, lambda: promote_other_version(settings)),
        ("registry away", plan.registry_outages, registry_away),
        ("rebalance", plan.rebalances, rebalance),
        ("disk full", plan.full_disks, disk_full),
    )
    drawn = [(name, fault) for name, n, fault in faults for _ in range(n)]
    rng.shuffle(drawn)
    return drawn


def promote_other_version(settings: Settings) -> None:
    """Promote the version that is not champion."""
    other = next(v.version for v in version_transitions.versions(settings) if v.status != "champion")
    version_transitions.promote(settings, other, "chaos")
