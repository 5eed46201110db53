"""The DAGs in a real Airflow (`make airflow`): they load, each run has the right period and starts the right pod.

`tests/deploy/test_schedules.py` checks without Airflow that commands, schedules and pod equal those of cron and
Kubernetes.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

HOME = Path(mkdtemp())
CLUSTER = """
{apiVersion: v1, kind: Config, current-context: none, contexts: [{name: none, context: {cluster: none, user: none}}],
 clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: none, user: {}}]}
"""
os.environ["AIRFLOW_HOME"] = str(HOME)  # Airflow writes its configuration there at import
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["KUBECONFIG"] = str(HOME / "cluster.yaml")  # the operator needs a cluster to build a pod, but sends nothing
(HOME / "cluster.yaml").write_text(CLUSTER, encoding="utf-8")

import pendulum
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes.client import ApiClient

HERE = Path(__file__).parent
BAG = DagBag(dag_folder=str(HERE / "tamiz_dag.py"), bundle_path=HERE)
NOW = pendulum.datetime(2026, 11, 24, 9)  # a Tuesday
EXPECTED = {
    # DAG: command of a manual run at NOW
    "tamiz-archive-daily": "archive",
    "tamiz-score-daily": "score /batch/transactions-2026-11-23.csv -o /batch/decisions-2026-11-23.csv",
    "tamiz-drift-daily": "drift --granularity day --period 2026-11-23 -o /batch/drift-2026-11-23.html",
    "tamiz-drift-weekly": "drift --granularity week --period 2026-W47 -o /batch/drift-2026-W47.html",
    "tamiz-drift-monthly": "drift --granularity month --period 2026-10 -o /batch/drift-2026-10.html",
}

POD = {"tamiz-archive-daily": "writer-pod.yaml"}


def without_empty(value: Any) -> Any:
    """A manifest without the empty values that Airflow adds."""
    if isinstance(value, dict):
        return {k: v for k, v in ((k, without_empty(v)) for k, v in value.items()) if v not in ([], {})}
    return [without_empty(v) for v in value] if isinstance(value, list) else value


def task_of(name: str) -> Any:
    (task,) = BAG.dags[name].tasks
    return task


def test_airflow_loads_and_serializes_every_dag() -> None:
    assert BAG.import_errors == {}
    assert set(BAG.dags) == set(EXPECTED)
    for dag in BAG.dags.values():
        DagSerialization.to_dict(dag)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_covers_the_last_complete_period(name: str) -> None:
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(BAG.dags[name])).timetable
    interval = timetable.infer_manual_data_interval(run_after=NOW)
    task = task_of(name)
    arguments = task.render_template(task.arguments, {"data_interval_start": interval.start})
    assert " ".join(arguments) == EXPECTED[name]
    assert interval.end <= NOW


@pytest.mark.parametrize("name", EXPECTED)
def test_runs_do_not_overlap_catch_up_or_run_without_limit(name: str) -> None:
    dag, task = BAG.dags[name], task_of(name)
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.start_date < datetime.now(UTC)
    assert task.retries == 2
    assert timedelta(0) < task.execution_timeout <= timedelta(hours=6)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_pod_is_the_template_with_a_name_and_arguments(name: str) -> None:
    task = task_of(name)
    pod = ApiClient().sanitize_for_serialization(task.build_pod_request_obj())
    template = yaml.safe_load((HERE / POD.get(name, "pod.yaml")).read_text(encoding="utf-8"))
    assert pod["metadata"]["name"].startswith(name)
    assert pod["metadata"]["namespace"] == template["metadata"]["namespace"]
    assert pod["metadata"]["labels"].items() >= template["metadata"]["labels"].items()
    (expected,) = template["spec"]["containers"]
    expected |= {"args": task.arguments, "terminationMessagePolicy": "File"}
    assert without_empty(pod["spec"]) == template["spec"] | {"hostNetwork": False}
