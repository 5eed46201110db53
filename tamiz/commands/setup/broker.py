"""`tamiz broker`: run a single-node Apache Kafka for development."""

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
        port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks a free one.", min=0, max=65535)] = 9092,
        data_dir: Annotated[
            Path | None, typer.Option(help="Keep records in this folder. Default: deleted when the broker stops.")
        ] = None,
    ) -> None:
        """Run a single-node Apache Kafka for development, until Ctrl-C.

        Downloads Kafka's jars from Maven Central the first time. Starts nothing
        if TAMIZ_BOOTSTRAP_SERVERS names a cluster.

            tamiz broker --data-dir kafka-data

        Read on: docs/tutorial.md.
        """
        from schemas.errors import BrokerError
        from stream_app.lifecycle.stop_deadline import stop_on_signals
        from tamiz.dev_broker.embedded_broker import EmbeddedBroker
        from tamiz.dev_broker.kafka_download import class_path
        from tamiz.terminal import Terminal, say

        settings = config.load()
        if settings.bootstrap_servers:
            say(f"bootstrap_servers is set to {settings.bootstrap_servers}; no broker is started")
            return
        stopped = threading.Event()
        stop_on_signals(stopped)
        class_path()  # downloads the first time, with a progress bar of its own
        with Terminal(stderr=True).status("starting Apache Kafka"):
            embedded = EmbeddedBroker(port, data_dir)
        with embedded:
            print(f"Kafka is ready: export TAMIZ_BOOTSTRAP_SERVERS={embedded.bootstrap_servers}", flush=True)
            print("press Ctrl-C to stop", flush=True)
            while not stopped.wait(POLL_INTERVAL_S):
                if not embedded.is_running:
                    raise BrokerError(f"Kafka stopped unexpectedly; the end of its log:\n{embedded.end_of_log()}")
