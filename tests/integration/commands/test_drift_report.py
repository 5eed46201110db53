"""`tamiz drift`: a file and the stream's panes, counted in the same way, against a model's reference."""

import contextlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import to_records
from monitoring.counting.panes import PartitionPanes
from monitoring.drift.calendar import CalendarCounts, periods_until
from monitoring.drift.drift_report import DriftComparison, change_summary, compare_periods
from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings, load
from schemas.errors import BrokerError, ConfigError
from schemas.records import PaneSnapshot
from schemas.time_units import DAY_MS
from schemas.topics import topic_table
from scoring.bundle.manifest import BASELINE_FILE
from stream_app.decisions.handler import handle
from stream_app.kafka.topic_admin import create_topics
from stream_app.monitor.pane_history import read_periods
from tamiz.batch.file_counter import count_file
from tamiz.commands.stream.drift import print_table
from tamiz.main import app
from tamiz.simulation.payload_formats import payloads, write
from tamiz.simulation.simulator import Traffic, simulate
from tests.conftest import Kafka
from tests.helpers.traffic.drift_simulation import FIRST_DAY_MS, POLICY, ROWS_PER_DAY, SimulatedRecord, traffic
from tests.unit.schemas.test_sanitizer import HOSTILE, acts
from training.registry.mlflow_registry import download_bundle
from training.reports.drift_figures import write_drift_report

Champion = tuple[MonitoredModel, DriftReference]


@pytest.fixture(scope="module")
def bundle(simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download_bundle(simulated_registry, 1, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def champion(bundle: Path) -> Champion:
    return MonitoredModel.load(bundle, 1), load_reference(bundle)


def original(kind: str | None = None, days: int = 9) -> Traffic:
    of = traffic(kind, days=days)
    return Traffic(
        rows=of.rows,
        seed=of.seed,
        signal=True,
        start_ms=of.start_ms,
        days=days,
        drift=of.drift,
        payload_format="original",
    )


@pytest.fixture(scope="module")
def nine_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "nine-days.csv"
    write(original(), simulate(original()), path)
    return path


def snapshots(model: MonitoredModel, of: Traffic, partitions: int = 2) -> Iterator[tuple[bytes, PaneSnapshot]]:
    """The panes that workers publish: minutes grow, close, and are published again."""
    folds = [PartitionPanes(model.bins, p, DAY_MS) for p in range(partitions)]
    offset = 0
    for _, values in payloads(of, simulate(of)):
        for batch in (values[i : i + 500] for i in range(0, len(values), 500)):
            for p, fold in enumerate(folds):
                mine = [
                    SimulatedRecord("transactions", p, offset + i, b"", v)
                    for i, v in enumerate(batch)
                    if i % partitions == p
                ]
                coded = handle(mine, model, POLICY).coded
                assert coded is not None
                fold.update(coded.codes, coded.event_times_ms, np.array([r.offset for r in mine]))
                counted = fold.snapshot()
                yield from to_records(counted, model="card-transactions", model_version=1, layout=model.bins.digest)
            offset += len(batch)


@pytest.fixture(scope="module")
def published(champion: Champion) -> list[tuple[bytes, PaneSnapshot]]:
    return list(snapshots(champion[0], original()))


def calendar(champion: Champion, published: list[tuple[bytes, PaneSnapshot]]) -> CalendarCounts:
    counts = CalendarCounts(champion[1].bins, model="card-transactions", model_version=1)
    for _, snapshot in published:
        counts.update(snapshot)
    return counts


def test_stream_and_file_give_the_same_counts(
    champion: Champion, published: list[tuple[bytes, PaneSnapshot]], nine_days: Path
) -> None:
    of_file = count_file(nine_days, POLICY.dataset, champion[0]).period
    twice = calendar(champion, [*published, *reversed(published)])
    for name in ("day", "week", "month"):
        periods = twice.periods(name)
        assert sum(p.rows for p in periods) == of_file.rows == 9 * ROWS_PER_DAY
        assert np.sum([p.counts for p in periods], axis=0).tolist() == of_file.counts.tolist()
        assert np.sum([p.rows_by_hour for p in periods], axis=0).tolist() == of_file.rows_by_hour.tolist()


def test_periods_are_whole_utc_days_weeks_from_monday_and_months(
    champion: Champion, published: list[tuple[bytes, PaneSnapshot]]
) -> None:
    counts = calendar(champion, published)
    first = datetime.fromtimestamp(FIRST_DAY_MS / 1000, UTC)
    assert next(p.name for p in counts.periods("day")) == first.strftime("%Y-%m-%d") == "2020-01-31"
    assert [p.name for p in counts.periods("week")] == ["2020-W05", "2020-W06"]
    months = counts.periods("month")
    assert [p.name for p in months] == ["2020-01", "2020-02"]
    assert months[0].until_ms == months[1].from_ms == int(datetime(2020, 2, 1, tzinfo=UTC).timestamp() * 1000)


#  now                          |
#  months   [   January    ][   February ...
#            complete        incomplete: has the transactions so far
def test_by_default_a_report_ends_with_the_last_complete_period(
    champion: Champion, published: list[tuple[bytes, PaneSnapshot]]
) -> None:
    months = calendar(champion, published).periods("month")
    border = months[1].from_ms
    assert [p.name for p in periods_until(months, None, now_ms=border + 5 * DAY_MS)] == ["2020-01"]
    assert [p.name for p in periods_until(months, "2020-02", now_ms=border + 5 * DAY_MS)] == ["2020-01", "2020-02"]
    assert [p.name for p in periods_until(months, None, now_ms=months[1].until_ms)] == ["2020-01", "2020-02"]
    with pytest.raises(ConfigError, match="2020-02 is not complete; --period 2020-02"):
        periods_until(months, None, now_ms=border - 1)
    with pytest.raises(ConfigError, match=r"2020-03: this .* has no counts of it; choose one of 2020-01, 2020-02$"):
        periods_until(months, "2020-03", now_ms=border)


def test_the_summary_names_drifted_features_or_none(champion: Champion, nine_days: Path, tmp_path: Path) -> None:
    def compared(path: Path) -> DriftComparison:
        counted = count_file(path, POLICY.dataset, champion[0]).period
        return compare_periods(champion[1], [counted], model="m", model_version=1, source=str(path))

    (quiet,) = compared(nine_days).periods
    assert quiet.drifted_features == ()
    assert "no feature drifted" in change_summary(quiet)
    shifted = original("mean-shift")
    write(shifted, simulate(shifted), tmp_path / "shifted.csv")
    (moved,) = compared(tmp_path / "shifted.csv").periods
    assert {"monto", "cashback"} <= {f.statistics.feature for f in moved.drifted_features}
    assert moved.features[0].statistics.feature in ("monto", "cashback")
    assert sum(moved.features[0].reference) == pytest.approx(1)
    assert sum(moved.features[0].current) == pytest.approx(1)


def test_rejected_rows_count_as_drift_of_the_dead_letters(champion: Champion, nine_days: Path, tmp_path: Path) -> None:
    header, *lines = nine_days.read_text("utf-8-sig").splitlines()
    broken = [line.replace(";", "|", 3) if i % 10 == 0 else line for i, line in enumerate(lines)]
    (tmp_path / "broken.csv").write_text("\n".join([header, *broken]), encoding="utf-8")
    counted = count_file(tmp_path / "broken.csv", POLICY.dataset, champion[0]).period
    (period,) = compare_periods(champion[1], [counted], model="m", model_version=1, source="f").periods
    assert counted.rows == 9 * ROWS_PER_DAY
    assert "dead-letter" in {f.statistics.feature for f in period.drifted_features}


def test_a_mistyped_year_does_not_widen_the_period(champion: Champion, nine_days: Path, tmp_path: Path) -> None:
    header, first, *lines = nine_days.read_text("utf-8-sig").splitlines()
    later = first.replace("2020;", "2031;")
    assert later != first
    (tmp_path / "year.csv").write_text("\n".join([header, *lines, later]), encoding="utf-8")
    right, wrong = (count_file(path, POLICY.dataset, champion[0]).period for path in (nine_days, tmp_path / "year.csv"))
    assert wrong.from_ms >= right.from_ms
    assert (wrong.until_ms, wrong.rows, wrong.isolated_rows) == (right.until_ms, right.rows, 1)
    (period,) = compare_periods(champion[1], [wrong], model="m", model_version=1, source="f").periods
    assert "event times far from all others: 1 rows" in change_summary(period)


@pytest.fixture
def registry(simulated_registry: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(simulated_registry.state_dir))


@pytest.mark.usefixtures("registry")
def test_the_command_prints_a_table_or_json_and_writes_one_self_contained_page(nine_days: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "drift.html", tmp_path / "drift.png"
    told = CliRunner().invoke(app, ["drift", str(nine_days), "--version", "1", "--json", "-o", str(page)])
    assert told.exit_code == 0, told.output
    compared = msgspec.json.decode(told.stdout, type=DriftComparison)
    assert (compared.model_version, compared.periods[0].rows) == (1, 9 * ROWS_PER_DAY)
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 1
    assert "src=" not in html
    assert 'xlink:href="http' not in html
    shown = CliRunner().invoke(app, ["drift", str(nine_days), "--version", "1", "-o", str(picture)])
    assert "no feature drifted" in shown.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert set(tmp_path.iterdir()) == {page, picture}, "they were written aside, and took their place"


@pytest.mark.usefixtures("registry")
def test_text_from_data_cannot_break_or_change_the_report(
    champion: Champion, published: list[tuple[bytes, PaneSnapshot]], tmp_path: Path
) -> None:
    days = calendar(champion, published).periods("day")
    found = compare_periods(champion[1], days, model="$\\frac{$", model_version=1, source="<script>")
    period = found.periods[-1]
    nasty = list(HOSTILE.values())
    features = tuple(
        msgspec.structs.replace(
            f,
            labels=tuple(nasty[i % len(nasty)] for i in range(len(f.labels))),
            statistics=msgspec.structs.replace(f.statistics, feature=nasty[n % len(nasty)]),
        )
        for n, f in enumerate(period.features)
    )
    period = msgspec.structs.replace(period, name=HOSTILE["mathtext"], features=features)
    found = msgspec.structs.replace(found, periods=(period,))
    for name in ("drift.png", "drift.html"):
        write_drift_report(tmp_path / name, found)
        assert (tmp_path / name).stat().st_size > 10_000
    written = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert written.count("<script") == 0
    assert acts(written) == []
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_table(found)
    assert acts(out.getvalue()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "FILE and --granularity"),
        (["x.csv", "--granularity", "day"], "FILE and --granularity"),
        (["x.csv", "--period", "2026-11"], "--period 2026-11 needs --granularity"),
        (["x.csv", "-o", "x.pdf"], ".png or .html"),
        (["x.csv", "--version", "99"], "99"),
    ],
    ids=["neither", "both", "period", "kind", "version"],
)
def test_an_impossible_comparison_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["drift", *arguments])
    assert refused.exit_code != 0
    assert said in refused.output + str(refused.exception)


def test_a_model_without_a_baseline_is_refused_with_the_remedy(bundle: Path, tmp_path: Path) -> None:
    for file in bundle.iterdir():
        if file.name != BASELINE_FILE:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(Exception, match="tamiz train"):
        load_reference(tmp_path)


@pytest.mark.kafka
@pytest.mark.usefixtures("registry")
def test_weeks_are_read_from_the_topic_despite_invalid_records(
    kafka: Kafka,
    champion: Champion,
    published: list[tuple[bytes, PaneSnapshot]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAMIZ_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("TAMIZ_TOPIC_PREFIX", "by-calendar-")
    settings = load()
    create_topics(settings.bootstrap, [t for t in topic_table(settings) if t.role == "drift-panes"], 1)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, max_request_size=4 * 1024 * 1024)
    producer.send(settings.drift_panes_topic, key=b"x", value=b"not ours")
    for key, snapshot in published:
        producer.send(settings.drift_panes_topic, key=key, value=msgspec.json.encode(snapshot), partition=0)
    producer.close()
    told = CliRunner().invoke(app, ["drift", "--granularity", "week", "--version", "1", "--json"])
    assert told.exit_code == 0, told.output
    weeks = msgspec.json.decode(told.stdout, type=DriftComparison).periods
    expected = calendar(champion, published).periods("week")
    assert [(w.name, w.rows) for w in weeks] == [(w.name, w.rows) for w in expected]
    first = expected[0].name
    told = CliRunner().invoke(app, ["drift", "--granularity", "week", "--period", first, "--version", "1", "--json"])
    assert [w.name for w in msgspec.json.decode(told.stdout, type=DriftComparison).periods] == [first]
    with pytest.raises(BrokerError, match="has no panes of card-transactions version 2"):
        read_periods(settings, champion[1].bins, "day", model_version=2)
