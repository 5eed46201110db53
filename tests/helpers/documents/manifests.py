"""Kustomize, as much of it as our manifests use: resources, namespace, images and strategic-merge patches."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

API = "1.31"  # the version of Kubernetes whose schemas objects are held to
Object = dict[str, Any]
OF_NO_NAMESPACE = {"Namespace"}
MERGED_BY = ("mountPath", "name")  # the keys by which the API's lists of objects are merged, as far as ours need


def render(folder: Path) -> list[Object]:
    """The objects that `kustomize build FOLDER` prints, in the order they are read."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(told) <= {"apiVersion", "kind", "resources", "namespace", "images", "patches"}, "more than is known here"
    objects: list[Object] = []
    for resource in told["resources"]:
        objects += render(folder / resource) if (folder / resource).is_dir() else read_all(folder / resource)
    for entry in told.get("patches", ()):
        for patch in read_all(folder / entry["path"]):
            kind, name = entry.get("target", {}).get("kind", patch["kind"]), patch["metadata"]["name"]
            by_kind = "target" in entry
            met = [i for i, o in enumerate(objects) if o["kind"] == kind and (by_kind or o["metadata"]["name"] == name)]
            assert met, f"{folder / entry['path']} patches nothing"
            for i in met:
                named = patch | {"metadata": {}} if by_kind else patch
                objects[i] = merge(objects[i], named)
    for o in objects:
        if "namespace" in told and o["kind"] not in OF_NO_NAMESPACE:
            o["metadata"]["namespace"] = told["namespace"]
        for image in told.get("images", ()):
            for container in containers(o):
                if container["image"] == image["name"]:
                    container["image"] += f":{image['newTag']}"
    return objects


def read_all(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def merge(there: Any, patch: Any) -> Any:
    """A strategic merge, without its directives."""
    if isinstance(there, dict) and isinstance(patch, dict):
        return there | {k: merge(there[k], v) if k in there else deepcopy(v) for k, v in patch.items()}
    if isinstance(there, list) and isinstance(patch, list):
        for key in MERGED_BY:
            if all(isinstance(item, dict) and key in item for item in [*there, *patch]):
                known = {item[key]: item for item in there}
                added = {i[key]: merge(known[i[key]], i) if i[key] in known else deepcopy(i) for i in patch}
                return list((known | added).values())
    return deepcopy(patch)


def pod_spec(o: Object) -> Object | None:
    """What an object says of the pods it makes; None for one that makes none."""
    spec = o.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template and template["spec"]


def containers(o: Object) -> list[Object]:
    pod = pod_spec(o)
    return pod["containers"] if pod else []


def unordered(value: Any) -> Any:
    """To compare what two merged: lists that are merged by a name have no order."""
    if isinstance(value, dict):
        return {k: unordered(v) for k, v in value.items()}
    if isinstance(value, list):
        key = next((k for k in MERGED_BY if value and all(isinstance(i, dict) and k in i for i in value)), None)
        return [unordered(i) for i in (sorted(value, key=lambda i: str(i[key])) if key else value)]
    return value


def in_shell(script: str) -> list[str]:
    """The line of ours in a job's shell script, with `PERIOD` where the script works one out."""
    (line,) = re.findall(r"^exec python -m (tamiz .*)$", script, re.MULTILINE)
    return line.replace('"', "").replace("$period", "PERIOD").split()[1:]
