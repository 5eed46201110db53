"""The subset of Kustomize that our manifests use: resources, namespace, images and strategic-merge patches."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

KUBERNETES_VERSION = "1.31"  # the manifests are validated against this version's schemas
Object = dict[str, Any]
CLUSTER_SCOPED_KINDS = {"Namespace"}
MERGE_KEYS = ("mountPath", "name")  # keys by which Kubernetes merges the lists of objects that we use


def render(folder: Path) -> list[Object]:
    """The objects that `kustomize build FOLDER` prints."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization) <= {"apiVersion", "kind", "resources", "namespace", "images", "patches"}, (
        "this helper does not support all of these keys"
    )
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        objects += render(folder / resource) if (folder / resource).is_dir() else read_all(folder / resource)
    for entry in kustomization.get("patches", ()):
        for patch in read_all(folder / entry["path"]):
            kind, name = entry.get("target", {}).get("kind", patch["kind"]), patch["metadata"]["name"]
            by_kind = "target" in entry
            met = [i for i, o in enumerate(objects) if o["kind"] == kind and (by_kind or o["metadata"]["name"] == name)]
            assert met, f"{folder / entry['path']} patches nothing"
            for i in met:
                named = patch | {"metadata": {}} if by_kind else patch
                objects[i] = merge(objects[i], named)
    for o in objects:
        if "namespace" in kustomization and o["kind"] not in CLUSTER_SCOPED_KINDS:
            o["metadata"]["namespace"] = kustomization["namespace"]
        for image in kustomization.get("images", ()):
            for container in containers(o):
                if container["image"] == image["name"]:
                    container["image"] += f":{image['newTag']}"
    return objects


def read_all(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def merge(there: Any, patch: Any) -> Any:
    """A strategic merge, without directives."""
    if isinstance(there, dict) and isinstance(patch, dict):
        return there | {k: merge(there[k], v) if k in there else deepcopy(v) for k, v in patch.items()}
    if isinstance(there, list) and isinstance(patch, list):
        for key in MERGE_KEYS:
            if all(isinstance(item, dict) and key in item for item in [*there, *patch]):
                known = {item[key]: item for item in there}
                added = {i[key]: merge(known[i[key]], i) if i[key] in known else deepcopy(i) for i in patch}
                return list((known | added).values())
    return deepcopy(patch)


def pod_spec(o: Object) -> Object | None:
    """The pod spec of an object; None for an object without pods."""
    spec = o.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template and template["spec"]


def containers(o: Object) -> list[Object]:
    pod = pod_spec(o)
    return pod["containers"] if pod else []


def unordered(value: Any) -> Any:
    """A copy for comparisons: lists that are merged by key are sorted, because they have no order."""
    if isinstance(value, dict):
        return {k: unordered(v) for k, v in value.items()}
    if isinstance(value, list):
        key = next((k for k in MERGE_KEYS if value and all(isinstance(i, dict) and k in i for i in value)), None)
        return [unordered(i) for i in (sorted(value, key=lambda i: str(i[key])) if key else value)]
    return value


def command_in_script(script: str) -> list[str]:
    """The `tamiz` command in a job's shell script, with `PERIOD` in place of the shell variable."""
    (line,) = re.findall(r"^exec python -m (tamiz .*)$", script, re.MULTILINE)
    return line.replace('"', "").replace("$period", "PERIOD").split()[1:]
