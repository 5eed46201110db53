"""`tamiz broker`: a real Kafka for development, in the foreground."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config

POLL_INTERVAL_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def broker(
        port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 9092,
        data_dir: Annotated[
            Path | None, typer.Option(help="Keep its records here; without it they are gone when it stops.")
        ] = None,
    ) -> None:
        """Run a real Apache Kafka, one node, until Ctrl-C.

        Its jars come from Maven Central once. With TAMIZ_BOOTSTRAP_SERVERS set, that cluster is used and none started.
        """
        from schemas.errors import BrokerError
        from tamiz.dev_broker.embedded_broker import EmbeddedBroker
        from tamiz.dev_broker.kafka_download import class_path
        from tamiz.terminal import Terminal, say

        settings = config.load()
        if settings.bootstrap_servers:
            say(f"TAMIZ_BOOTSTRAP_SERVERS is set: Kafka is {settings.bootstrap_servers}; none is started here")
            return
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        class_path()  # the first time it fetches, and shows how far it is
        with Terminal(stderr=True).status("Apache Kafka is starting"):
            embedded = EmbeddedBroker(port, data_dir)
        with embedded:
            print(f"Kafka is ready: export TAMIZ_BOOTSTRAP_SERVERS={embedded.bootstrap_servers}", flush=True)
            print("Ctrl-C stops it", flush=True)
            while not stopped.wait(POLL_INTERVAL_S):
                if not embedded.is_running:
                    raise BrokerError(f"Kafka ended by itself; its log ends:\n{embedded.end_of_log()}")
