"""Passwords in addresses appear in no output."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from schemas.configuration.settings import Settings
from schemas.records import RetrainRequest
from schemas.security.sanitizer import without_credentials
from schemas.security.standard_error import TextLines
from stream_app.lifecycle.logging_setup import JsonLines
from tamiz import terminal
from tests.helpers.bundles.failing_trainings import leaking_training
from training.service.training_process import run_in_child_process

# Each part of a password that a mask by halves would leave is one of these words.
ADDRESSES = {
    "plain": "postgresql://ana:alpha@db/mlflow",
    "slash": "postgresql://ana:alpha/beta@db/mlflow",
    "space": "postgresql://ana:alpha beta@db/mlflow",
    "at and space": "postgresql://ana:alpha@beta gamma@db/mlflow",
    "quotes": "postgresql://ana:alpha'beta\"gamma@db/mlflow",
    "question mark and hash": "postgresql://ana:alpha?beta#gamma@db/mlflow",
    "digits before a slash": "postgresql://ana:12/alpha@db/mlflow",
    "digits before a space": "postgresql://ana:12 alpha@db/mlflow",
    "an address": "postgresql://ana:alpha://beta@db/mlflow",
    "encoded": "postgresql://ana:alpha%2Fbeta%20gamma@db/mlflow",
    "no user": "redis://:alpha/beta@db/0",
    "token": "https://alpha-beta@db/mlflow",
    "query": "postgresql://db/mlflow?user=x&password=alpha:beta&sslmode=require",
    "libpq": "host=db password='alpha beta' dbname=mlflow",
    "header": "Authorization: Basic alphabeta==",
    "two": "proxy http://u:alpha/b@proxy:3128, then postgresql://ana:beta@db/mlflow",
}
SECRET = ("alpha", "beta", "gamma")


def logged(formatter: logging.Formatter, address: str) -> str:
    try:
        raise OSError(f"cannot reach {address}")
    except OSError as error:
        extra = {"uri": [{"at": address}]}
        record = logging.Logger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "to %s", (address,), (OSError, error, None), extra=extra
        )
    return formatter.format(record)


def printed(address: str) -> str:
    table = Table(address, title=address)
    table.add_row(Text(address), address)
    out = io.StringIO()
    console = terminal.Terminal(file=out, width=400)
    for shown in (address, Text.assemble((address, "bold")), table):
        console.print(shown)
    return out.getvalue()


def said(address: str, capsys: pytest.CaptureFixture[str]) -> str:
    terminal.say(address)
    terminal.warn(address)
    terminal.say_json({"uri": [address]})
    terminal.say_error(OSError(f"one\n{address}"))
    both = capsys.readouterr()
    return both.out + both.err


OUTPUTS: dict[str, Callable[[str, pytest.CaptureFixture[str]], str]] = {
    "text": lambda text, _: without_credentials(text),
    "log for people": lambda text, _: logged(TextLines(), text),
    "log for machines": lambda text, _: logged(JsonLines(), text),
    "console": lambda text, _: printed(text),
    "commands": said,
}


@pytest.mark.parametrize("address", [pytest.param(text, id=name) for name, text in ADDRESSES.items()])
@pytest.mark.parametrize("output", [pytest.param(write, id=name) for name, write in OUTPUTS.items()])
def test_no_output_shows_a_part_of_a_password(
    output: Callable[[str, pytest.CaptureFixture[str]], str], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = output(address, capsys)
    assert "***" in shown
    assert [word for word in SECRET if word in shown] == []


@pytest.mark.parametrize("address", [pytest.param(text, id=name) for name, text in ADDRESSES.items()])
def test_a_masked_line_of_the_log_for_machines_is_json(address: str) -> None:
    line = json.loads(logged(JsonLines(), address + '", "x": "y@z'))
    assert line["level"] == "ERROR"


@pytest.mark.parametrize(
    "text",
    [
        "http://registry:5000/x: refused, ask ana@example.org",
        "http://[::1]:6066 is ready",
        "sqlite:////home/ana@work/mlflow.db",
        "s3://bucket/folder and file:///tmp/x",
        "Basic authentication is asked for",
    ],
)
def test_what_is_no_password_is_shown(text: str) -> None:
    assert without_credentials(text) == text


def test_what_python_writes_of_faults_shows_no_password() -> None:
    program = "\n".join(
        [
            "import logging, sys, threading, warnings",
            "from schemas.security.standard_error import guard_standard_error",
            "guard_standard_error()",
            "address = sys.argv[1]",
            "class Dies:",
            "    def __del__(self): raise ValueError('in a finalizer: ' + address)",
            "def dies(): raise ValueError('in a thread: ' + address)",
            "dying = Dies()",
            "del dying",
            "thread = threading.Thread(target=dies); thread.start(); thread.join()",
            "warnings.warn('in a warning: ' + address)",
            "logging.getLogger('x').error('in a log: %s', address)",
            "raise ValueError('here: ' + address)",
        ]
    )
    address = ADDRESSES["slash"].replace("beta", "beta gamma")
    done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, timeout=30)
    for place in ("in a finalizer", "in a thread", "in a warning", "in a log", "here"):
        assert f"{place}: postgresql://***@db/mlflow" in done.stderr
    assert [word for word in SECRET if word in done.stderr] == []


def test_a_training_in_its_own_process_shows_no_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent.parent.parent)
    request = RetrainRequest(
        correlation_id="x", model="card-transactions", model_version=1, cause="score-drift", features=(), reason="",
        from_ms=0, until_ms=2, requested_at_ms=2,
    )  # fmt: skip
    with pytest.raises(Exception, match=r"postgresql://\*\*\*@db") as raised:
        run_in_child_process(leaking_training, Settings(), request, None, stop=threading.Event())
    shown = str(raised.value) + capfd.readouterr().err
    assert "in a thread: postgresql://***@db" in shown
    assert [word for word in SECRET if word in shown] == []
