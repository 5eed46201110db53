"""The contenders of the stream benchmarks: Tamiz and its peers, each with its settings."""

import msgspec

TODAY = "2f0ac41"  # the commit whose loop by hand is the mark to beat: its handler differs from the present one
RATES = (200, 1_000, 2_000, 5_000, 10_000, 20_000)


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """A contender and its settings."""

    name: str
    title: str
    program: str  # `tamiz`, or a module of `benchmarks.peers`
    settings: str  # in words
    guarantee: str = "at-least-once"
    partitions: int = 4
    profiles: bool = False
    rules: bool = False
    commit: str | None = None  # None: this tree
    options: tuple[str, ...] = ()
    rates: tuple[int, ...] = RATES
    rounds: bool = True  # whether full load is measured in every round, or only in the first


TAMIZ = Contender(name="tamiz", title="Tamiz", program="tamiz", settings="drift counting on; acks=all, idempotent")
LOOP = Contender(
    name="loop",
    title="confluent-kafka by hand",
    program="confluent_loop",
    settings="batches of up to 1,000 within 5 ms, flush, commit; acks=all, idempotent",
)
PIPELINE = Contender(
    name="pipeline",
    title="the same, pipelined",
    program="confluent_pipeline",
    settings="batches of up to 2,000; sends a batch while it handles the next; commits every 0.5 s; not compressed",
    options=("none",),
)
FULL_ONLY: tuple[int, ...] = ()
SOME_RATES = (1_000, 10_000)  # of variants, to save time
_but = msgspec.structs.replace
CONTENDERS = (
    TAMIZ,
    LOOP,
    _but(
        LOOP,
        name=f"loop@{TODAY}",
        title=f"confluent-kafka by hand, handler of {TODAY}",
        commit=TODAY,
        settings="as loop, with the handler of that commit",
        rates=FULL_ONLY,
    ),
    PIPELINE,
    _but(
        PIPELINE,
        name="pipeline-zstd",
        title="the same, pipelined, zstd",
        settings="as pipeline, with the codec of Tamiz",
        options=("zstd",),
        rates=SOME_RATES,
    ),
    _but(
        TAMIZ,
        name="tamiz-eo",
        title="Tamiz, exactly once",
        guarantee="exactly-once",
        settings="a Kafka transaction for each partition of a batch",
    ),
    _but(
        TAMIZ,
        name="tamiz-rules",
        title="Tamiz, 100 rules",
        rules=True,
        settings="as tamiz, with a hundred rules on fields, score and lists of 10,000 cards",
    ),
    _but(TAMIZ, name="tamiz-64", title="Tamiz, 64 partitions", partitions=64, settings="as tamiz"),
    _but(
        TAMIZ,
        name="tamiz-64-eo",
        title="Tamiz, 64 partitions, exactly once",
        partitions=64,
        guarantee="exactly-once",
        settings="as tamiz-eo",
    ),
    _but(
        LOOP,
        name="loop-64",
        title="confluent-kafka by hand, 64 partitions",
        partitions=64,
        settings="as loop",
        rates=SOME_RATES,
    ),
    _but(
        TAMIZ,
        name="tamiz-profiles",
        title="Tamiz, 60 profile features",
        profiles=True,
        settings="card (exact), merchant and city (closed tiles): four windows, five aggregates each",
    ),
    _but(
        TAMIZ,
        name="tamiz-profiles-eo",
        title="Tamiz, 60 profile features, exactly once",
        profiles=True,
        guarantee="exactly-once",
        settings="as tamiz-profiles and tamiz-eo",
    ),
    _but(
        LOOP,
        name="loop-profiles",
        title="confluent-kafka by hand, 60 profile features",
        profiles=True,
        settings="as loop, with the same reducer; state is lost when it ends",
        rates=SOME_RATES,
    ),
    Contender(
        name="faust-take",
        title="Faust, take()",
        program="faust_take",
        settings="batches of up to 1,000 within 5 ms; acks=all; commits every 2.8 s",
        rounds=False,
    ),
    Contender(
        name="quix",
        title="Quix Streams",
        program="quix_streams",
        settings="one event; acks=all, idempotent; commits every 5 s",
        rounds=False,
    ),
    Contender(
        name="faust-events",
        title="Faust, event by event",
        program="faust_events",
        settings="one event; else as faust-take",
        rates=FULL_ONLY,
        rounds=False,
    ),
    Contender(
        name="pyfunc",
        title="kafka-python, pandas, mlflow.pyfunc",
        program="pandas_pyfunc",
        settings="one event; acks=all, idempotent; no reasons",
        rates=FULL_ONLY,
        rounds=False,
    ),
    Contender(
        name="quix-windows",
        title="Quix Streams, one count and sum",
        program="quix_windows",
        settings="one sliding hour by card, nothing scored",
        rates=FULL_ONLY,
        rounds=False,
    ),
    Contender(
        name="faust-windows",
        title="Faust table, one count and sum",
        program="faust_windows",
        settings="one hopping hour by card, nothing scored",
        rates=FULL_ONLY,
        rounds=False,
    ),
    _but(
        TAMIZ,
        name="tamiz-uncounted",
        title="Tamiz, not counting for drift",
        program="uncounted_worker",
        settings="drift counting off; else as tamiz",
        rates=FULL_ONLY,
    ),
)


def selected(names: str) -> list[Contender]:
    """Contenders by name, separated by commas. `NAME@COMMIT` is the contender NAME as of a commit.

    >>> [contender.name for contender in selected("tamiz,loop@abc1234")]
    ['tamiz', 'loop@abc1234']
    """
    by_name = {contender.name: contender for contender in CONTENDERS}
    found = []
    for name in names.split(","):
        plain, _, commit = name.partition("@")
        if name in by_name:
            found.append(by_name[name])
        elif plain in by_name and commit:
            title = f"{by_name[plain].title}, as of {commit}"
            found.append(_but(by_name[plain], name=name, title=title, commit=commit))
        else:
            raise SystemExit(f"no contender {name!r}; there are: {', '.join(by_name)}")
    return found
