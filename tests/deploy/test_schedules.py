"""The schedules for Kubernetes, Airflow and cron run the same commands at the same times."""

import ast
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml

from schemas.configuration.settings import load
from schemas.time_units import DAY_MS, HOUR_MS
from schemas.topics import topic_table
from tests.helpers.documents.command_lines import parse
from tests.helpers.documents.manifests import KUBERNETES_VERSION, command_in_script, containers, pod_spec, render

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


class ScheduledJob(NamedTuple):
    """One scheduled job."""

    schedule: str
    period: str  # how its period is written, by strftime; empty: the job makes up all missed periods
    seconds: int  # that a try may take
    command: tuple[str, ...]  # with PERIOD in place of the period


def of_kubernetes() -> dict[str, ScheduledJob]:
    found = {}
    for o in render(DEPLOY / "kubernetes/base"):
        if o["kind"] == "CronJob":
            (container,) = containers(o)
            script, spec = container["args"][0], o["spec"]
            seconds = spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
            found[o["metadata"]["name"]] = ScheduledJob(
                spec["schedule"], written(script), seconds, tuple(command_in_script(script))
            )
    return found


def of_airflow() -> dict[str, ScheduledJob]:
    tree = ast.parse((DEPLOY / "airflow/tamiz_dag.py").read_text(encoding="utf-8"))
    (jobs,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "JOBS"
    ]
    return {name: ScheduledJob(*rest, tuple(command.split())) for name, (*rest, command) in jobs.items()}


def of_cron() -> dict[str, ScheduledJob]:
    found = {}
    for line in (DEPLOY / "cron/tamiz.crontab").read_text(encoding="utf-8").splitlines():
        if timed := re.fullmatch(r"((?:\S+ ){4}\S+) (cd /srv/tamiz && .*)", line):
            schedule, script = timed[1], timed[2].replace(r"\%", "%")
            assert "%" not in timed[2].replace(r"\%", ""), "cron takes a bare % for the end of the line"
            once, last = re.fullmatch(r".* && exec flock -n batch/\.(\S+) timeout (\d+ tamiz .*)", script).groups()  # type: ignore[union-attr]
            seconds, _, *words = shlex.split(last)
            command = tuple(word.replace("batch/", "/batch/").replace("$period", "PERIOD") for word in words)
            found[once] = ScheduledJob(schedule, written(script), int(seconds), command)
    return found


def written(script: str) -> str:
    """Format of the period that a shell script computes: the last format in it; empty without one."""
    return ["", *re.findall(r"\+(%[^\s\")]+)\)", script)][-1]


CALENDAR = of_kubernetes()
PERIODIC = {name: job for name, job in CALENDAR.items() if job.period}


def test_jobs_score_and_archive_daily_and_report_drift_by_day_week_and_month() -> None:
    assert set(PERIODIC) == {"score-daily", "drift-daily", "drift-weekly", "drift-monthly"}
    assert set(CALENDAR) - set(PERIODIC) == {"archive-daily"}
    assert parse(list(CALENDAR["archive-daily"].command)) is not None


@pytest.mark.parametrize("calendar", [of_airflow, of_cron])
def test_all_schedulers_have_the_same_jobs(calendar: Callable[[], dict[str, ScheduledJob]]) -> None:
    assert calendar() == CALENDAR


def test_the_documented_times_equal_the_schedules() -> None:
    page = (DEPLOY.parent / "docs/deployment.md").read_text(encoding="utf-8")
    section = page.split("\n## Scheduled jobs\n", 1)[1].split("\n## ", 1)[0]
    told = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", section, re.MULTILINE))
    on = {"* * *": "", "* * 1": " on Mondays", "1 * *": " on the first"}
    when = {}
    for name, job in CALENDAR.items():
        minute, hour, days = job.schedule.split(maxsplit=2)
        when[name] = f"{int(hour):02}:{int(minute):02}{on[days]}"
    assert told == when


@pytest.mark.parametrize("job", PERIODIC.values(), ids=PERIODIC)
def test_a_job_runs_a_valid_command_that_writes_to_the_batch_folder(job: ScheduledJob) -> None:
    assert parse(list(job.command))["output"].parent == Path("/batch")


def before(now: datetime) -> dict[str, str]:
    """Name of the previous period of each job, in the format of `monitoring/drift/calendar.py`."""
    yesterday, last_month = now - timedelta(days=1), now.replace(day=1) - timedelta(days=1)
    return {
        "score-daily": f"{yesterday:%Y-%m-%d}",
        "drift-daily": f"{yesterday:%Y-%m-%d}",
        "drift-weekly": f"{now - timedelta(days=7):%G-W%V}",
        "drift-monthly": f"{last_month:%Y-%m}",
    }


@pytest.mark.parametrize("name", PERIODIC)
@pytest.mark.parametrize("file", ["kubernetes/base/calendar.yaml", "cron/tamiz.crontab"])
def test_the_shell_computes_the_previous_period(file: str, name: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8").replace(r"\%", "%")
    scripts = re.findall(r"(period=\$\(.*\))(?: &&|\n).*?\btamiz (score|drift --granularity \w+)", text)
    kind = " ".join(CALENDAR[name].command[: 1 if name.startswith("score") else 3])
    (script,) = [script for script, of in scripts if of == kind]
    started = before(datetime.now(UTC))
    said = subprocess.run(["sh", "-ec", f'{script}; echo "$period"'], capture_output=True, text=True, check=True)
    assert said.stdout.strip() in {started[name], before(datetime.now(UTC))[name]}


@pytest.mark.parametrize(("file", "job"), [("pod.yaml", "score-daily"), ("writer-pod.yaml", "archive-daily")])
def test_airflow_starts_the_same_pod_as_kubernetes(file: str, job: str) -> None:
    pod: dict[str, Any] = yaml.safe_load((DEPLOY / "airflow" / file).read_text(encoding="utf-8"))
    kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
    objects = render(DEPLOY / "kubernetes/overlays/production")
    (cron_job,) = [o for o in objects if o["metadata"]["name"] == job]
    spec = pod_spec(cron_job)
    assert spec is not None
    (container,) = spec["containers"]
    plain = {k: v for k, v in container.items() if k not in {"command", "args"}}
    assert pod["spec"] == spec | {"containers": [plain]}
    assert pod["metadata"]["namespace"] == cron_job["metadata"]["namespace"]
    labels = cron_job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert pod["metadata"]["labels"].items() <= labels.items(), "the network lets it out"


def test_a_month_can_be_reported_after_its_end() -> None:
    """The longest month, and as late as a job may begin, is still in the topic."""
    (panes,) = [t for t in topic_table(load({})) if t.role == "drift-panes"]
    objects = render(DEPLOY / "kubernetes/base")
    (monthly,) = [o["spec"] for o in objects if o["metadata"]["name"] == "drift-monthly"]
    late_ms = 1000 * (monthly["startingDeadlineSeconds"] + monthly["jobTemplate"]["spec"]["activeDeadlineSeconds"])
    assert int(panes.config["retention.ms"]) > 31 * DAY_MS + 3 * HOUR_MS + late_ms
