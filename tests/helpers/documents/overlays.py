"""The rendered Kustomize overlays, and the environment and settings of a program in one of their pods."""

from functools import cache
from pathlib import Path

from schemas.configuration.settings import Settings, load
from tests.helpers.documents.manifests import Object, containers, render

ROOT = Path(__file__).parent.parent.parent.parent
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ["dev", "staging", "production"]
PROGRAMS = [f"Deployment/{name}" for name in ("worker", "monitor", "retrainer", "notifier", "dashboard")]
PODS = [*PROGRAMS, "Job/topics"]
JOBS = [
    "CronJob/archive-daily",
    "CronJob/score-daily",
    "CronJob/drift-daily",
    "CronJob/drift-weekly",
    "CronJob/drift-monthly",
]


@cache
def rendered(overlay: str) -> dict[str, Object]:
    objects = render(FOLDER / "overlays" / overlay)
    named = {f"{o['kind']}/{o['metadata']['name']}": o for o in objects}
    assert len(named) == len(objects)
    return named


def environment(overlay: str, name: str, mlflow: tuple[str, ...] = ("username", "password")) -> dict[str, str]:
    """The environment of a program in a pod. Secrets that it needs have invented values.

    mlflow: the keys in the secrets of MLflow.
    """
    objects = rendered(overlay)
    (container,) = containers(objects[name])
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        found |= objects[f"ConfigMap/{source['configMapRef']['name']}"]["data"]
    secret = {v["name"]: v["valueFrom"]["secretKeyRef"] for v in container["env"]}
    asked = {"tamiz-kafka"} if found["TAMIZ_SECURITY_PROTOCOL"].startswith("SASL") else set()
    if found["TAMIZ_MLFLOW_TRACKING_URI"].startswith("https://"):
        asked |= {"tamiz-mlflow-read", "tamiz-mlflow-write"}
    secret = {k: ref for k, ref in secret.items() if "mlflow" not in ref["name"] or ref["key"] in mlflow}
    found.pop("TAMIZ_MLFLOW_CAFILE", None)  # a file in the pod; another test checks that it is mounted
    return found | {k: "invented" for k, ref in secret.items() if ref["name"] in asked or not ref.get("optional")}


def settings(overlay: str, name: str = "Deployment/worker") -> Settings:
    return load(environment(overlay, name))
