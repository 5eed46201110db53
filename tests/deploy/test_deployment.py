"""Dockerfile and Compose file, checked without a container engine: their schema and the files that they name."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from prometheus_client import Metric
from sqlalchemy.engine import make_url

from schemas.configuration.settings import Settings, load
from schemas.extras import PACKAGES
from schemas.files import compiled_code
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.worker.worker_metrics import WorkerMetrics
from tamiz import precompilation
from tamiz.dev_broker.kafka_download import KAFKA
from tests.helpers.documents.command_lines import parse

ROOT = Path(__file__).parent.parent.parent
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)")
VARIABLE_WITH_DEFAULT = re.compile(r"(?<!\$)\$\{(\w+)[^}]*\}")
OPTIONAL = re.compile(r"\$\{\w+:-\}")  # empty by default


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


COMPOSE: dict[str, Any] = read_yaml("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if any(v.startswith("TAMIZ_") for v in s.get("environment", {}))}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage of the Dockerfile, with those of the stages it is made from."""
    joined = DOCKERFILE.replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in joined.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            found[name] = list(found.get(base, []))
        else:
            found[name].append((word, rest))
    return found


def last(stage: str, word: str) -> str:
    return [rest for instruction, rest in stages()[stage] if instruction == word][-1]


def command_lines(service: dict[str, Any]) -> list[list[str]]:
    if service.get("entrypoint") == ["sh", "-c"]:
        steps = [shlex.split(step) for step in service["command"][0].split("&&")]
        assert all(step[:3] == ["python", "-m", "tamiz"] for step in steps)
        return [step[3:] for step in steps]
    return [service["command"]]


def test_every_named_volume_that_a_service_mounts_is_declared() -> None:
    mounted = {str(v).split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert {name for name in mounted if name[0] not in "./"} <= set(COMPOSE["volumes"])


def test_the_compose_file_is_valid_by_the_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
    # The schema is of 2021. Newer versions allow a project's name, and secrets from the environment.
    schema["properties"]["name"] = {"type": "string"}
    schema["definitions"]["secret"]["properties"]["environment"] = {"type": "string"}
    validator = jsonschema.Draft201909Validator(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert not validator.is_valid(COMPOSE | {"service": {}}), "the schema refuses unknown keys"


@pytest.mark.parametrize("name", OURS)
def test_every_service_runs_an_existing_command_with_existing_settings(name: str) -> None:
    for words in command_lines(OURS[name]):
        parse(words)
    chosen = {k: OPTIONAL.sub("", v) for k, v in OURS[name]["environment"].items()}
    told = {k: VARIABLE.sub("", v) and VARIABLE.sub("x", v) for k, v in chosen.items()}
    assert isinstance(load({k: v for k, v in told.items() if k.startswith("TAMIZ_")}), Settings)


@pytest.mark.parametrize("name", [*OURS, "registry", "registry-reader"])
def test_every_service_has_a_read_only_root_and_cannot_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_nothing_is_reachable_from_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_example_names_every_choice_and_no_file_holds_a_secret() -> None:
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line)
    used = set(VARIABLE.findall((ROOT / "docker-compose.yml").read_text()))
    used |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert set(example) == used
    assert set(example.values()) == {""}


def test_every_dependency_of_a_service_is_a_service() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_the_broker_has_the_tested_version() -> None:
    assert SERVICES["kafka"]["image"].split(":")[1] == KAFKA.split(":")[-1]


def test_the_registry_accepts_its_host_name_and_unpickles_nothing() -> None:
    environment = SERVICES["registry"]["environment"]
    uri = OURS["worker"]["environment"]["TAMIZ_MLFLOW_TRACKING_URI"]
    assert uri.removeprefix("http://") in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize("target", ["worker", "trainer", "registry"])
def test_an_image_runs_as_a_numeric_user(target: str) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(target, "USER"))


@pytest.mark.parametrize("target", ["worker", "trainer"])
def test_an_image_starts_an_existing_command(target: str) -> None:
    assert json.loads(last(target, "ENTRYPOINT")) == ["python", "-m", "tamiz"]
    parse(json.loads(last(target, "CMD")))


def test_an_image_contains_every_package_and_installs_from_locks() -> None:
    copied = [rest.split() for word, rest in stages()["worker"] if word == "COPY" and "--from" not in rest]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {source for source, _ in copied} == {"schemas", "scoring", "monitoring", "training", "stream_app", "tamiz"}
    assert all((ROOT / source).is_dir() and f"!{source}" in ignored for source, _ in copied)
    assert "--require-hashes" in last("build", "RUN")
    assert "!requirements-run.lock" in ignored


@pytest.mark.parametrize("target", ["worker", "trainer"])
def test_an_image_brings_compiled_code_where_commands_look_for_it(target: str) -> None:
    app = PurePosixPath(dict(rest.split() for word, rest in stages()["base"] if word == "COPY")["schemas"]).parent
    compiled = app / compiled_code.BUILT.relative_to(ROOT)
    assert ("COPY", f"--from=compiled {compiled} {compiled}") in stages()[target]
    (command,) = [rest for _, rest in stages()["compiled"] if precompilation.__name__ in rest]
    assert command == f"python -m {precompilation.__name__} {compiled} && chmod -R a+rX {compiled}"


def test_an_image_has_the_byte_code_of_everything_that_is_copied_into_it() -> None:
    words = [word for word, rest in stages()["base"] if word == "COPY" or rest.startswith("python -m compileall")]
    assert words == ["COPY"] * words.count("COPY") + ["RUN"]


def test_the_health_check_requests_an_existing_page() -> None:
    port = load({}).web_port
    assert f"http://127.0.0.1:{port}/livez" in last("worker", "HEALTHCHECK")
    assert last("worker", "EXPOSE") == str(port)


def test_the_health_check_of_the_monitor_requests_its_own_page() -> None:
    asked = SERVICES["monitor"]["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{load({}).monitor_port}/livez" in asked


def test_the_dashboard_is_published_on_the_port_of_its_health_check() -> None:
    port = load({}).dashboard_port
    assert f"http://127.0.0.1:{port}/livez" in SERVICES["dashboard"]["healthcheck"]["test"][-1]
    assert SERVICES["dashboard"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def pins(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("lock", ["requirements-run.lock", "requirements-train.lock"])
def test_locked_versions_of_images_are_the_tested_ones(lock: str) -> None:
    shipped, tested = pins(lock), pins("requirements.lock")
    assert {name: tested.get(name) for name in shipped} == shipped
    assert {"faust-streaming", "xgboost", "mlflow-skinny", "boto3"} <= set(shipped)
    assert {"pytest", "playwright", "moto", "mkdocs"} & set(shipped) == set()


def test_training_libraries_are_in_the_trainers_image_only() -> None:
    worker, trainer = pins("requirements-run.lock"), pins("requirements-train.lock")
    training = {"mlflow", "scikit-learn", *PACKAGES["training"].values()}
    assert training <= set(trainer)
    assert (training | {"sweetviz", "jgo", "nvidia-nccl-cu12"}) & set(worker) == set()
    assert set(worker) <= set(trainer), "a training uses the libraries of the worker"
    for target, build in (("worker", "build"), ("trainer", "build-training")):
        copied = [rest for word, rest in stages()[target] if word == "COPY" and rest.endswith("/opt/tamiz")]
        assert copied == [f"--from={build} /opt/tamiz /opt/tamiz"]


def test_every_extra_names_the_modules_of_its_packages() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    base = {"pandas", "scikit-learn"}  # in a plain installation, and not in the worker's image
    named = {extra: set(packages.values()) - base for extra, packages in PACKAGES.items()}
    assert {extra: {Requirement(line).name for line in lines} for extra, lines in extras.items()} == named
    provided = packages_distributions()
    for packages in PACKAGES.values():
        assert [module for module, package in packages.items() if package not in provided[module]] == []


def exported() -> set[str]:
    metrics: list[Metric] = [m for page in (WorkerMetrics(), MonitorMetrics()) for m in page.registry.collect()]
    names = {sample.name for metric in metrics for sample in metric.samples}
    return names | {metric.name for metric in metrics} | {f"{m.name}_total" for m in metrics if m.type == "counter"}


def test_every_alert_uses_existing_metrics() -> None:
    rules = [rule for group in read_yaml("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"(?:tamiz|process)_\w+", rule["expr"])}
    assert named
    assert named - exported() - {f"{name}_bucket" for name in exported()} == set()
    assert {rule["labels"]["severity"] for rule in rules} <= {"info", "warning", "critical"}


def test_every_panel_uses_existing_metrics() -> None:
    panels = json.loads((ROOT / "deploy/grafana/dashboards/tamiz.json").read_text(encoding="utf-8"))["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expr in shown for name in re.findall(r"(?:tamiz|process)_\w+", expr)}
    assert named - exported() - {f"{name}_bucket" for name in exported()} == set()
    assert {m for m in exported() if m.startswith("tamiz") and m.endswith("_total")} <= named, "all counters are drawn"
    assert len({panel["id"] for panel in panels}) == len(panels)
    (source,) = read_yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}


def test_every_mounted_file_exists() -> None:
    mounted = [
        v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", ()) if v.startswith("./")
    ]
    assert mounted
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_prometheus_scrapes_every_program_with_its_own_token() -> None:
    jobs = read_yaml("deploy/prometheus/prometheus.yml")["scrape_configs"]
    found = [(c["names"], c["port"]) for job in jobs for c in job["dns_sd_configs"]]
    of = load({})
    assert found == [(["worker"], of.web_port), (["monitor"], of.monitor_port), (["dashboard"], of.dashboard_port)]
    (token,) = {Path(j["authorization"]["credentials_file"]).name for j in jobs}
    assert [name for name, service in SERVICES.items() if token in service.get("secrets", ())] == ["prometheus"]
    variable = COMPOSE["secrets"][token]["environment"]
    assert [name for name, s in SERVICES.items() if variable in json.dumps(s)] == []


def test_programs_with_pages_read_the_users_and_only_the_command_line_writes_them() -> None:
    file = Path(OURS["worker"]["environment"]["TAMIZ_WEB_USERS_FILE"])
    mounts = {name: [v for v in s.get("volumes", ()) if f":{file.parent}" in v] for name, s in SERVICES.items()}
    read_only = f"users:{file.parent}:ro"
    assert {name: v for name, v in mounts.items() if v} == {
        "tamiz": [f"users:{file.parent}"], "worker": [read_only], "monitor": [read_only], "dashboard": [read_only]
    }  # fmt: skip
    assert str(file.parent) in last("worker", "RUN").split(), "the volume is the user's of the image"


def test_every_package_of_an_image_is_installed_by_hash() -> None:
    installs = [rest for rows in stages().values() for word, rest in rows if word == "RUN" and "pip install" in rest]
    assert installs
    for command in installs:
        named = re.findall(r"-r \S*/(\S+)", command)
        assert "--require-hashes" in command, command
        assert named
        assert all(f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines() for name in named)
        for name in named:
            text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
            assert all("--hash=sha256:" in line for line in text.splitlines() if line and not line.startswith("#"))


def test_a_third_party_image_has_a_version_and_a_valid_digest_if_any() -> None:
    bases = re.findall(r"^FROM (\S+:\S+) AS", DOCKERFILE, re.MULTILINE)
    pulled = [s["image"] for s in SERVICES.values() if "image" in s and "build" not in s]
    assert bases
    assert pulled
    for image in (*bases, *pulled):
        assert re.fullmatch(r"[\w./-]+:(?!latest\b)[\w.-]+(@sha256:[0-9a-f]{64})?", image), image


def run_registry(tmp_path: Path, passwords: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command of the registry, with a program in the place of MLflow that shows its arguments and environment."""
    service = SERVICES["registry"]
    assert service["entrypoint"] == ["python", "-c"]
    shown = tmp_path / "mlflow"
    shown.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv, dict(os.environ)]))\n", encoding="utf-8"
    )
    shown.chmod(0o755)
    users = tmp_path / "users.ini"
    given = {name: VARIABLE_WITH_DEFAULT.sub(lambda m: passwords.get(m[1], "invented text"), value)
             for name, value in service["environment"].items()}  # fmt: skip
    given |= {"PATH": str(tmp_path), "MLFLOW_AUTH_CONFIG_PATH": str(users)}
    command = [sys.executable, "-c", service["command"][0].replace("$$", "$")]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False), users


def test_any_password_works_and_is_in_no_argument_of_the_registry(tmp_path: Path) -> None:
    secret = "p%40 @:/?#[]'\"\\\\;=%(x)s$&"
    passwords = {"POSTGRES_PASSWORD": f"db-{secret}", "MLFLOW_PASSWORD": f"mlflow-{secret}"}
    done, users = run_registry(tmp_path, passwords)
    assert done.returncode == 0, done.stderr
    argv, environment = json.loads(done.stdout)
    address = make_url(environment["MLFLOW_BACKEND_STORE_URI"])
    assert (address.username, address.password, address.host, address.database) == (
        "mlflow", passwords["POSTGRES_PASSWORD"], "postgres", "mlflow"
    )  # fmt: skip
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == passwords["MLFLOW_PASSWORD"]
    assert "POSTGRES_PASSWORD" not in environment
    assert secret not in " ".join(argv) + users.read_text(encoding="utf-8")
    # MLflow's own reader of the file, imported by path: its package needs libraries that only the registry's image has.
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['read_auth_config']()._asdict())"
    reader = Path(str(find_spec("mlflow").origin)).parent / "server/auth/config.py"  # type: ignore[union-attr]
    read = subprocess.run(
        [sys.executable, "-c", code, str(reader)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = ast.literal_eval(read.stdout)
    assert (found["default_permission"], found["admin_username"]) == ("READ", "tamiz")
    assert found["admin_password"] == passwords["MLFLOW_PASSWORD"]


@pytest.mark.parametrize("name", ["MLFLOW_PASSWORD", "MLFLOW_READER_PASSWORD"])
def test_a_password_too_short_for_mlflow_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    done, _ = run_registry(tmp_path, {name: "eleven-char"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{name} in .env has 11 characters, MLflow wants at least 12\n"
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert "at least 12 characters" in example


def test_programs_that_only_read_the_registry_have_a_read_only_user() -> None:
    users = {
        name: (
            s["environment"]["TAMIZ_MLFLOW_USERNAME"],
            VARIABLE.findall(s["environment"]["TAMIZ_MLFLOW_PASSWORD"])[0],
        )
        for name, s in OURS.items()
    }
    writes, reads = ("tamiz", "MLFLOW_PASSWORD"), ("tamiz-reader", "MLFLOW_READER_PASSWORD")
    assert {name for name, user in users.items() if user == writes} == {
        "tamiz", "retrainer", "dashboard", "first-champion"
    }  # fmt: skip
    assert set(users.values()) == {writes, reads}
    registry, maker = SERVICES["registry"]["environment"], SERVICES["registry-reader"]
    assert registry["MLFLOW_AUTH_ADMIN_USERNAME"] == writes[0]
    assert f'"{reads[0]}"' in maker["command"][0]
    assert VARIABLE.findall(maker["environment"][reads[1]]) == [reads[1]]
