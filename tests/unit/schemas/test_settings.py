"""Settings: read once, validated at start, one readable line for an error."""

from pathlib import Path

import pytest

from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import describe, load
from schemas.errors import ConfigError
from schemas.topics import topic_table, with_own_topics


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tamiz.toml"
    file.write_text('consumer_group = "from-file"\nweb_port = 7000\n')
    settings = load({"TAMIZ_CONFIG": str(file), "TAMIZ_WEB_PORT": "7001"})
    assert (settings.consumer_group, settings.web_port) == ("from-file", 7001)


def test_mlflows_own_variable_is_respected() -> None:
    assert load({"MLFLOW_TRACKING_URI": "http://registry:5000"}).tracking_uri == "http://registry:5000"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param({"TAMIZ_WEB_PORT": "http"}, ["web_port", "TAMIZ_WEB_PORT", "'http'", "int"], id="not a number"),
        pytest.param({"TAMIZ_PARTITIONS": "0"}, ["partitions", "'0'", ">= 1"], id="out of range"),
        pytest.param({"TAMIZ_LOG_LEVEL": "loud"}, ["log_level", "'loud'", "DEBUG"], id="not one of"),
        pytest.param({"TAMIZ_PARTITION": "3"}, ["TAMIZ_PARTITION", "no such setting", "tamiz settings"], id="unknown"),
        pytest.param({"TAMIZ_CONFIG": "/nowhere.toml"}, ["/nowhere.toml", "no such file"], id="no file"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_the_remedy(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "text", ["consumer_group = ", "colour = 'red'", "web_port = 'x'"], ids=["no TOML", "unknown", "type"]
)
def test_a_bad_file_is_one_readable_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tamiz.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"tamiz\.toml|web_port"):
        load({"TAMIZ_CONFIG": str(file)})


def test_a_prefix_is_put_before_the_name_of_each_topic() -> None:
    plain = [t.name for t in topic_table(load({}))]
    assert [t.name for t in topic_table(load({"TAMIZ_TOPIC_PREFIX": "eu-1."}))] == [f"eu-1.{name}" for name in plain]
    assert plain == [t.role for t in topic_table(load({}))]


def test_a_topic_that_others_own_keeps_its_name() -> None:
    found = load(
        {
            "TAMIZ_TOPIC_PREFIX": "eu-",
            "TAMIZ_EXISTING_TRANSACTIONS_TOPIC": "payments.v1",
            "TAMIZ_EXISTING_LABELS_TOPIC": "chargebacks",
        }
    )
    assert (found.transactions_topic, found.labels_topic, found.decisions_topic) == (
        "payments.v1",
        "chargebacks",
        "eu-decisions",
    )
    own = with_own_topics(found, "demo-")
    assert (own.transactions_topic, own.labels_topic) == ("demo-transactions", "demo-labels")


@pytest.mark.parametrize("prefix", ["a b", "é-", "a/", "x" * 201, "a\n"])
def test_a_prefix_that_kafka_would_refuse_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="topic_prefix"):
        load({"TAMIZ_TOPIC_PREFIX": prefix})


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, _, about in describe() if len(about) < 10] == []


@pytest.mark.parametrize("in_file", [False, True])
def test_the_value_of_an_unknown_setting_is_not_repeated_and_the_nearest_is_named(
    in_file: bool, tmp_path: Path
) -> None:
    environ = {"TAMIZ_SASL_PASWORD": "hunter2-hunter2"}
    if in_file:
        (tmp_path / "t.toml").write_text('sasl_pasword = "hunter2-hunter2"\n', encoding="utf-8")
        environ = {"TAMIZ_CONFIG": str(tmp_path / "t.toml")}
    with pytest.raises(ConfigError) as refused:
        load(environ)
    assert "hunter2" not in str(refused.value)
    assert "did you mean sasl_password?" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"TAMIZ_MLFLOW_USERNAME": "ana"}, "go together", id="a user without a password"),
        pytest.param(
            {"TAMIZ_MLFLOW_USERNAME": "ana", "TAMIZ_MLFLOW_PASSWORD": "hola", "TAMIZ_MLFLOW_TOKEN": "hola"},
            "one of them",
            id="both",
        ),
        pytest.param({"TAMIZ_MLFLOW_CAFILE": "/nowhere.pem"}, "/nowhere.pem", id="no such file"),
        pytest.param({"TAMIZ_ARTIFACT_ROOT": "s3://a"}, "artifact_root", id="another setting, named with the address"),
    ],
)
def test_credentials_of_the_registry_that_contradict_each_other_are_refused_unshown(
    given: dict[str, str], message: str
) -> None:
    address = {"TAMIZ_MLFLOW_TRACKING_URI": "https://registry:5000"}
    if "TAMIZ_ARTIFACT_ROOT" in given:
        address = {"TAMIZ_MLFLOW_TRACKING_URI": "postgresql://ana:hola@db/mlflow"}
    with pytest.raises(ConfigError, match=message) as caught:
        load(address | given)
    assert "hola" not in str(caught.value)


def test_a_password_in_an_address_is_shown_nowhere() -> None:
    database = load({"TAMIZ_MLFLOW_TRACKING_URI": "postgresql://ana:hola@db/mlflow"})
    assert database.tracking_uri == "postgresql://ana:hola@db/mlflow"
    assert database.registry_name == "postgresql://***@db/mlflow"
    server = load({"MLFLOW_TRACKING_URI": "https://ana:h%40la@registry:5000"})
    assert server.tracking_uri == "https://registry:5000"
    assert (server.mlflow_username, server.mlflow_password) == ("ana", Secret("h@la"))
