"""Tamiz' scheduled jobs for Airflow (3.1 or newer), which starts them as pods.

The same jobs as in `deploy/kubernetes/base/calendar.yaml`: deploy only one of the two. Copy this file and both
`*pod.yaml` into the DAGs folder. A run covers the last complete period at its due time; a backfill covers past periods.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, CronDataIntervalTimetable

# Name: schedule in UTC, format of its period, time limit of one attempt, command of the pod.
JOBS = {
    "archive-daily": ("10 1 * * *", "", 21600, "archive"),
    "score-daily": (
        "10 2 * * *",
        "%Y-%m-%d",
        7200,
        "score /batch/transactions-PERIOD.csv -o /batch/decisions-PERIOD.csv",
    ),
    "drift-daily": (
        "30 2 * * *",
        "%Y-%m-%d",
        3600,
        "drift --granularity day --period PERIOD -o /batch/drift-PERIOD.html",
    ),
    "drift-weekly": (
        "40 2 * * 1",
        "%G-W%V",
        3600,
        "drift --granularity week --period PERIOD -o /batch/drift-PERIOD.html",
    ),
    "drift-monthly": (
        "50 2 1 * *",
        "%Y-%m",
        3600,
        "drift --granularity month --period PERIOD -o /batch/drift-PERIOD.html",
    ),
}

WRITERS = {"archive-daily"}  # their pod has write access to MLflow's artifacts

for name, (schedule, called, seconds, command) in JOBS.items():
    period = f"{{{{ data_interval_start.strftime('{called}') }}}}"
    with DAG(
        f"tamiz-{name}",
        schedule=CronDataIntervalTimetable(schedule, timezone="UTC"),
        start_date=datetime(2026, 11, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["tamiz"],
    ):
        KubernetesPodOperator(
            task_id=name,
            name=f"tamiz-{name}",
            pod_template_file=str(Path(__file__).with_name("writer-pod.yaml" if name in WRITERS else "pod.yaml")),
            base_container_name="tamiz",
            arguments=[word.replace("PERIOD", period) for word in command.split()],
            retries=2,
            retry_delay=timedelta(minutes=10),
            retry_exponential_backoff=True,
            execution_timeout=timedelta(seconds=seconds),
            on_finish_action="delete_succeeded_pod",  # a failed pod is kept for inspection
        )
