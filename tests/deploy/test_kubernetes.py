"""Kubernetes manifests, checked without a cluster: the API's schemas and the objects that they refer to."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from schemas.configuration.settings import SECRETS, load
from tests.helpers.documents.command_lines import parse
from tests.helpers.documents.manifests import (
    KUBERNETES_VERSION,
    Object,
    command_in_script,
    containers,
    pod_spec,
    unordered,
)
from tests.helpers.documents.overlays import (
    FOLDER,
    JOBS,
    OVERLAYS,
    PODS,
    PROGRAMS,
    ROOT,
    environment,
    rendered,
    settings,
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_by_the_schemas_of_the_api(overlay: str) -> None:
    objects = [o for o in rendered(overlay).values() if not o["apiVersion"].startswith("keda.sh/")]
    assert len(objects) >= 16
    for o in objects:
        kubernetes_validate.validate(o, KUBERNETES_VERSION, strict=True)


@pytest.fixture(scope="module")
def kubectl() -> str:
    """A kubectl whose Kustomize is of our days; Debian's is not."""
    found = shutil.which("kubectl")
    asked = found and subprocess.run([found, "version", "--client", "--output=json"], capture_output=True, text=True)
    version = json.loads(asked.stdout).get("kustomizeVersion", "") if asked and asked.returncode == 0 else ""
    if not found or not version.startswith("v5."):
        pytest.skip("there is no kubectl with Kustomize 5 to compare with")
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_checked_objects_equal_the_output_of_kustomize(kubectl: str, overlay: str) -> None:
    made = subprocess.run(
        [kubectl, "kustomize", str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    objects = {f"{o['kind']}/{o['metadata']['name']}": o for o in yaml.safe_load_all(made.stdout)}
    assert unordered(objects) == unordered(rendered(overlay))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_kind_that_creates_pods_is_checked(overlay: str) -> None:
    assert {name for name, o in rendered(overlay).items() if pod_spec(o)} == {*PODS, *JOBS}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", [*PODS, *JOBS])
def test_a_pod_has_minimal_rights(overlay: str, name: str) -> None:
    """The pod meets the standard `restricted`, and its root file system is read-only."""
    pod = pod_spec(rendered(overlay)[name])
    assert pod is not None
    assert pod["serviceAccountName"] == "tamiz"
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    assert set(mounted.values()) == {v["name"] for v in pod["volumes"]}
    assert {"/tmp", str(settings(overlay, name).state_dir)} <= set(mounted), "where the program writes"
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def commands_of(o: Object) -> list[str]:
    (container,) = containers(o)
    if container.get("command") == ["sh", "-ec"]:
        return command_in_script(container["args"][0])
    assert "command" not in container, "the image's own entry point"
    return list(container["args"])


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", [*PODS, *JOBS])
def test_a_pod_runs_an_existing_command_with_existing_settings(overlay: str, name: str) -> None:
    parse(commands_of(rendered(overlay)[name]))
    of = settings(overlay, name)
    assert of.tracking_uri.startswith("http://" if overlay == "dev" else "https://")
    assert (of.mlflow_username is None, of.mlflow_password is None) == (overlay == "dev",) * 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_retrainer_page_and_archive_may_write_to_the_registry(overlay: str) -> None:
    users = {}
    for name in [*PODS, *JOBS]:
        (container,) = containers(rendered(overlay)[name])
        refs = {v["name"]: v["valueFrom"]["secretKeyRef"] for v in container["env"] if "MLFLOW" in v["name"]}
        assert {n: r["key"] for n, r in refs.items()} == {
            f"TAMIZ_MLFLOW_{key.upper()}": key for key in ("username", "password", "token")
        }
        (users[name],) = {r["name"] for r in refs.values()}
    writers = {name for name, user in users.items() if user == "tamiz-mlflow-write"}
    assert writers == {"Deployment/retrainer", "Deployment/dashboard", "CronJob/archive-daily"}
    assert set(users.values()) == {"tamiz-mlflow-read", "tamiz-mlflow-write"}


@pytest.mark.parametrize("name", [*PODS, *JOBS])
def test_a_token_replaces_user_and_password_of_the_registry(name: str) -> None:
    of = load(environment("production", name, mlflow=("token",)))
    assert (of.mlflow_token is None, of.mlflow_username, of.mlflow_password) == (False, None, None)


@pytest.mark.parametrize("overlay", ["staging", "production"])
@pytest.mark.parametrize("name", [*PODS, *JOBS])
def test_mlflows_certificate_authority_is_mounted_where_the_setting_expects_it(overlay: str, name: str) -> None:
    objects = rendered(overlay)
    file = Path(objects["ConfigMap/tamiz"]["data"]["TAMIZ_MLFLOW_CAFILE"])
    pod = pod_spec(objects[name])
    assert pod is not None
    (mounted,) = [m["name"] for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == str(file.parent)]
    (kept,) = [v["configMap"]["name"] for v in pod["volumes"] if v["name"] == mounted]
    made = (FOLDER / "secrets.example.sh").read_text(encoding="utf-8")
    assert re.search(rf"create configmap {kept} .*\n +--from-file={file.name}=", made)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", [*PODS, *JOBS])
def test_an_image_is_a_target_of_the_dockerfile_with_our_version(overlay: str, name: str) -> None:
    (container,) = containers(rendered(overlay)[name])
    repository, tag = container["image"].split(":")
    targets = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert repository.removeprefix("tamiz/") in targets
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert tag == ("main" if overlay == "dev" else version)


def test_manifests_hold_no_secret_and_the_example_names_each() -> None:
    referred: set[tuple[str, str]] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if set(value) >= {"name", "key"}:
                referred.add((value["name"], value["key"]))
            if "secretName" in value:
                referred.update((value["secretName"], item["key"]) for item in value["items"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for overlay in OVERLAYS:
        objects = rendered(overlay)
        assert not [name for name in objects if name.startswith("Secret/")]
        assert not {f"TAMIZ_{name.upper()}" for name in SECRETS} & set(objects["ConfigMap/tamiz"]["data"])
        for o in objects.values():
            assert [v["name"] for c in containers(o) for v in c["env"] if "value" in v] == []
            walk(o)
    example = (FOLDER / "secrets.example.sh").read_text(encoding="utf-8")
    made = {
        (name, key)
        for name, keys in re.findall(r"create secret generic (\S+)((?:.*\\\n)*.*)", example)
        for key in re.findall(r"--from-file=([\w-]+)=", keys)
    }
    assert made == referred


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    ("name", "setting", "let_in", "ready"),
    [
        ("worker", "web_port", "prometheus-to-worker", "/readyz"),
        ("dashboard", "dashboard_port", "ingress-to-dashboard", "/livez"),
        ("monitor", "monitor_port", "prometheus-to-monitor", "/readyz"),
    ],
)
def test_probes_and_scrapes_use_the_port_of_each_page(
    overlay: str, name: str, setting: str, let_in: str, ready: str
) -> None:
    of, objects = settings(overlay, f"Deployment/{name}"), rendered(overlay)
    number = getattr(of, setting)
    (container,) = containers(objects[f"Deployment/{name}"])
    assert [(p["name"], p["containerPort"]) for p in container["ports"]] == [("web", number)]
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert {get["port"] for get in asked.values()} == {"web"}
    assert {p: get["path"] for p, get in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": ready,
    }
    assert of.web_host == "0.0.0.0", "the node sends probes from outside the pod"
    assert of.web_users_file is not None
    mounted = next(m for m in container["volumeMounts"] if m["mountPath"] == str(of.web_users_file.parent))
    pod = pod_spec(objects[f"Deployment/{name}"])
    assert pod is not None
    secret = next(v["secret"] for v in pod["volumes"] if v["name"] == mounted["name"])
    assert mounted["readOnly"] is True
    assert [item["path"] for item in secret["items"]] == [of.web_users_file.name]
    assert secret["defaultMode"] == 0o440, "for the group of the pod alone"
    (port,) = objects[f"Service/{name}"]["spec"]["ports"]
    assert port["port"] == number
    (rule,) = objects[f"NetworkPolicy/{let_in}"]["spec"]["ingress"]
    assert [p["port"] for p in rule["ports"]] == [number]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_allows_the_workers_start_and_stop_times(overlay: str) -> None:
    of = settings(overlay)
    pod = pod_spec(rendered(overlay)["Deployment/worker"])
    assert pod is not None
    startup = pod["containers"][0]["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > of.startup_timeout_seconds
    assert pod["terminationGracePeriodSeconds"] > of.drain_timeout_seconds


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_matches_its_pods(overlay: str) -> None:
    objects = rendered(overlay)
    for name in PROGRAMS:
        spec = objects[name]["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    labels = objects["Deployment/worker"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Service/worker"]["spec"]["selector"].items() <= labels
    assert objects["PodDisruptionBudget/worker"]["spec"]["selector"]["matchLabels"].items() <= labels
    for policy in ("prometheus-to-worker", "to-kafka-registry-and-names"):
        assert objects[f"NetworkPolicy/{policy}"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    monitor = objects["Deployment/monitor"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Service/monitor"]["spec"]["selector"].items() <= monitor
    assert objects["NetworkPolicy/prometheus-to-monitor"]["spec"]["podSelector"]["matchLabels"].items() <= monitor
    page = objects["Deployment/dashboard"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Service/dashboard"]["spec"]["selector"].items() <= page
    for policy in ("ingress-to-dashboard", "prometheus-to-dashboard"):
        assert objects[f"NetworkPolicy/{policy}"]["spec"]["podSelector"]["matchLabels"].items() <= page
    assert objects["NetworkPolicy/default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policies_allow_brokers_and_registry(overlay: str) -> None:
    of = settings(overlay)
    egress = rendered(overlay)["NetworkPolicy/to-kafka-registry-and-names"]["spec"]["egress"]
    ways = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for rule in egress
        for peer in rule["to"]
        for port in rule["ports"]
    }
    for address in (of.bootstrap_servers, urlsplit(of.tracking_uri).netloc):
        host, port = str(address).split(":")
        assert (host.split(".")[1], int(port)) in ways


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_keda_scales_by_the_lag_of_the_workers_group_up_to_its_partitions(overlay: str) -> None:
    """KEDA's own schema is not at hand: fields and parameters are those of its documentation (2.22)."""
    of, objects = settings(overlay), rendered(overlay)
    assert "replicas" not in objects["Deployment/worker"]["spec"]
    spec = objects["ScaledObject/worker"]["spec"]
    assert set(spec) == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "fallback", "advanced", "triggers"
    }  # fmt: skip
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"] <= of.partitions
    assert spec["scaleTargetRef"] == {"name": "worker"}
    (trigger,) = spec["triggers"]
    asked = trigger["metadata"]
    assert all(isinstance(value, str) for value in asked.values())
    assert {k: asked[k] for k in ("bootstrapServers", "consumerGroup", "topic", "sasl", "tls")} == {
        "bootstrapServers": of.bootstrap_servers,
        "consumerGroup": of.consumer_group,
        "topic": of.transactions_topic,
        "sasl": str(of.sasl_mechanism).lower().replace("sha-", "sha").replace("-", "_"),
        "tls": "enable" if of.security_protocol.endswith("SSL") else "disable",
    }
    assert asked["offsetResetPolicy"] == "earliest", "as the workers begin"
    assert trigger["authenticationRef"]["name"] == objects["TriggerAuthentication/kafka"]["metadata"]["name"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "worker"}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}
    kubernetes_validate.validate(
        scaler | {"spec": {"scaleTargetRef": target, "maxReplicas": spec["maxReplicaCount"], "behavior": behavior}},
        KUBERNETES_VERSION,
        strict=True,
    )


def test_channels_come_from_secrets_and_settings_and_are_reachable() -> None:
    objects = rendered("production")
    (container,) = containers(objects["Deployment/notifier"])
    refs = [v["name"] for v in container["env"] if v["valueFrom"]["secretKeyRef"]["name"] == "tamiz-channels"]
    secret = dict.fromkeys(refs, "https://hooks.example.org/T0") | {"TAMIZ_PAGERDUTY_ROUTING_KEY": "k" * 32}
    plain = {"TAMIZ_SMTP_HOST": "mail", "TAMIZ_MAIL_FROM": "tamiz@example.org", "TAMIZ_MAIL_TO": "risk@example.org"}
    told = load(environment("production", "Deployment/notifier") | secret | plain)
    assert None not in (told.slack_webhook, told.webhook_url, told.webhook_secret, told.smtp_password)
    assert None not in (told.teams_webhook, told.opsgenie_api_key, told.pagerduty_routing_key)
    (rule,) = objects["NetworkPolicy/notifier-to-channels"]["spec"]["egress"]
    assert {443, told.smtp_port} <= {port["port"] for port in rule["ports"]}


@pytest.mark.parametrize("name", ["Deployment/monitor", "Deployment/retrainer", "Deployment/notifier"])
def test_a_singleton_never_has_a_second_replica(name: str) -> None:
    for overlay in OVERLAYS:
        spec = rendered(overlay)[name]["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("name", JOBS)
def test_a_scheduled_job_never_overlaps_and_has_a_time_limit(name: str) -> None:
    for overlay in OVERLAYS:
        spec = rendered(overlay)[name]["spec"]
        assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
        assert spec["startingDeadlineSeconds"] > 0
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
        assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(spec)


def test_production_is_exactly_once_replicated_and_needs_approval() -> None:
    of = settings("production")
    assert (of.processing_guarantee, of.promotion, of.replication_factor, of.log_level) == (
        "exactly-once",
        "approval",
        3,
        "INFO",
    )
    assert settings("dev").log_level == "DEBUG"
    assert settings("dev").partitions < settings("staging").partitions < of.partitions


def test_the_documented_table_equals_the_overlays() -> None:
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line]
    told = {row[0]: dict(zip(OVERLAYS, row[1:], strict=True)) for row in rows if len(row) == 4}
    said: dict[str, dict[str, str]] = {
        "workers": {}, "partitions, replicas of each": {}, "guarantee": {}, "promotion": {}, "log level": {}
    }  # fmt: skip
    for overlay in OVERLAYS:
        of, scaled = settings(overlay), rendered(overlay).get("ScaledObject/worker")
        spec = scaled and scaled["spec"]
        said["workers"][overlay] = f"{spec['minReplicaCount']} to {spec['maxReplicaCount']} by lag" if spec else "1"
        said["partitions, replicas of each"][overlay] = f"{of.partitions}, {of.replication_factor}"
        said["guarantee"][overlay] = of.processing_guarantee.replace("-", " ")
        said["promotion"][overlay] = of.promotion.replace("approval", "a person's approval")
        said["log level"][overlay] = of.log_level
    assert said.items() <= told.items()
