"""A seeded storm: a ledger flows in while workers are killed, paused, added and removed and the broker goes away."""

import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
from kafka import KafkaConsumer, TopicPartition

from chaos.auditor import Account, audit
from chaos.input_log import Feeding
from chaos.log_faults import commit_beyond_the_end, delete_unread, forget_offsets
from chaos.worker_pool import Fleet, wait_until
from schemas.configuration.setting_types import OffsetReset
from schemas.configuration.settings import Settings
from schemas.topics import topic_table
from stream_app.kafka.topic_admin import create_topics
from training.registry import version_transitions

Fault = Callable[[], None]
SESSION_S = 30.0  # stream_app/worker/faust_app.py; a pause is longer, so that the partition goes to another


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what."""

    transactions: int
    kills: int = 0
    pauses: int = 0
    rebalances: int = 0  # a worker is added and later removed
    restarts: int = 0  # of the broker
    promotions: int = 0
    registry_outages: int = 0
    full_disks: int = 0
    retentions: int = 0  # passes workers that are paused: what they had not read is gone
    expiries: int = 0  # of the group's offsets, while nobody works
    truncations: int = 0  # the group's offsets lie beyond the end of what was sent by then
    offset_reset: OffsetReset = "stop"
    seed: int = 0
    workers: int = 2
    partitions: int = 4
    rate: float = 4_000.0
    invalid_share: float = 0.002
    outage_s: float = 3.0
    pause_s: float = SESSION_S + 6
    calm_s: float = 4.0  # between two faults, so that there is something to break again
    dying_at: tuple[str, ...] = ()  # STEP NTH: the first worker kills itself there
    settle_s: float = 180.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a storm did, and the audit."""

    processing_guarantee: str
    seed: int
    faults: dict[str, int]
    deaths: dict[int, int]  # workers that ended, by exit code; a signal's is negative
    seconds: float
    settled: bool  # every input was committed before the audit
    back_after_s: tuple[float, ...]  # each time the broker returned, until something was decided again
    account: Account

    @property
    def kept(self) -> bool:
        """Whether the guarantee was."""
        account = self.account
        exact = account.is_exact
        if "retention" in self.faults:  # what was counted of deleted transactions cannot be recounted
            exact = account.is_whole and not account.repeats
        if (
            self.processing_guarantee == "at-least-once" or "truncation" in self.faults
        ):  # there all is decided again, by policy
            exact = account.is_whole
        return self.settled and exact


def weather(
    settings: Settings,
    bootstrap: str,
    plan: RunPlan,
    *,
    restart: Callable[[float], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run a plan and audit it.

    settings: with a champion in the registry; topics and group are made here, new.
    restart: takes the broker away for so many seconds; needed by a plan with restarts.
    """
    settings = msgspec.structs.replace(own_topics(settings, bootstrap, plan.partitions), offset_reset=plan.offset_reset)
    rng = random.Random(plan.seed)
    done: dict[str, int] = {}
    back_after: list[float] = []
    started = time.monotonic()
    feeding = Feeding(settings, n=plan.transactions, seed=plan.seed, invalid_share=plan.invalid_share, rate=plan.rate)
    with (
        tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder,
        Fleet(settings, Path(folder), plan.workers, plan.dying_at) as fleet,
    ):
        feeding.start()
        drawn = _drawn(plan, settings, restart, fleet, rng)
        if not wait_until(lambda: committed(settings) > 0, plan.settle_s):
            raise RuntimeError(f"no worker began to decide:\n{fleet.tail()}")
        feeding.flow.set()
        for number, (name, fault) in enumerate(drawn, start=1):
            # Spread over the ledger, so that there is something to break each time.
            due = rng.uniform(0.5, 1.0) * plan.transactions * number / (len(drawn) + 1)
            wait_until(lambda due=due: feeding.sent >= due or not feeding.is_alive(), plan.settle_s)  # type: ignore[misc]
            say(f"{time.monotonic() - started:6.1f} s  {name:16s} {feeding.sent:,} sent")
            fault()
            if name == "broker restart":
                back_after.append(_seconds_until_progress(settings, plan.settle_s))
            done[name] = done.get(name, 0) + 1
            time.sleep(plan.calm_s * rng.uniform(0.5, 1.5))
        feeding.join()
        if feeding.failed is not None:
            raise feeding.failed
        settled = wait_until(lambda: lag(settings) == 0, plan.settle_s)
        deaths = dict(fleet.deaths)
        if not settled:
            say(fleet.tail())
    if plan.dying_at and -signal.SIGKILL not in deaths:
        raise RuntimeError(f"no worker died at {' '.join(plan.dying_at)}: nothing was tried")
    return Outcome(
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
    """The settings with topics and a group that nobody else uses, the topics made."""
    mark = uuid4().hex[:8]
    names = {f: f"{getattr(settings, f)}-{mark}" for f in settings.__struct_fields__ if f.endswith("_topic")}
    changed = msgspec.structs.replace(
        settings,
        bootstrap_servers=bootstrap,
        consumer_group=f"chaos-{mark}",
        partitions=partitions,
        web_port=0,
        **names,
    )
    create_topics(bootstrap, topic_table(changed), 1)
    return changed


def lag(settings: Settings) -> int:
    """Transactions whose offsets the group has not committed."""
    return sum(end - done for end, done in _progress(settings))


def committed(settings: Settings) -> int:
    """Transactions whose offsets the group has committed."""
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
    before = committed(settings)
    wait_until(lambda: committed(settings) > before or lag(settings) == 0, most_s)
    return round(time.monotonic() - started, 1)


def _drawn(
    plan: RunPlan,
    settings: Settings,
    restart: Callable[[float], None] | None,
    fleet: Fleet,
    rng: random.Random,
) -> Sequence[tuple[str, Fault]]:
    def pause() -> None:
        number = rng.randrange(len(fleet))
        fleet.pause(number)
        time.sleep(plan.pause_s)
        fleet.wake(number)

    def registry_away() -> None:
        kept = settings.state_dir / "mlflow.db"
        away = kept.with_suffix(".away")
        kept.rename(away)
        time.sleep(2)
        away.rename(kept)

    def disk_full() -> None:
        # No file of any worker can grow, its log included, while a model waits to be fetched.
        fleet.limit_files(0)
        promote_another(settings)
        before = committed(settings)
        time.sleep(3 * plan.calm_s)
        if committed(settings) == before and lag(settings) > 0:
            raise RuntimeError("nothing was decided while the disk was full")
        fleet.limit_files(resource.RLIM_INFINITY)

    def outage() -> None:
        if restart is None:
            raise ValueError("a plan with broker restarts needs a broker that can be restarted")
        restart(plan.outage_s)

    def rebalance() -> None:
        fleet.add()
        time.sleep(plan.calm_s)
        fleet.remove()

    def retention() -> None:
        for number in range(len(fleet)):
            fleet.pause(number)
        time.sleep(plan.calm_s)
        delete_unread(settings)
        for number in range(len(fleet)):
            fleet.wake(number)

    def expiry() -> None:
        with fleet.away():
            forget_offsets(settings)

    def truncation() -> None:
        with fleet.away():
            commit_beyond_the_end(settings)

    faults = (
        ("retention", plan.retentions, retention),
        ("offsets expired", plan.expiries, expiry),
        ("truncation", plan.truncations, truncation),
        ("kill", plan.kills, lambda: fleet.kill(rng.randrange(len(fleet)))),
        ("pause", plan.pauses, pause),
        ("broker restart", plan.restarts, outage),
        ("promotion", plan.promotions, lambda: promote_another(settings)),
        ("registry away", plan.registry_outages, registry_away),
        ("rebalance", plan.rebalances, rebalance),
        ("disk full", plan.full_disks, disk_full),
    )
    drawn = [(name, fault) for name, n, fault in faults for _ in range(n)]
    rng.shuffle(drawn)
    return drawn


def promote_another(settings: Settings) -> None:
    """Make the version champion that is not."""
    other = next(v.version for v in version_transitions.versions(settings) if v.status != "champion")
    version_transitions.promote(settings, other, "chaos")
