"""`tamiz monitor`: detect drift in what the workers count."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def monitor() -> None:
        """Detect drift: read `drift-panes`, write reports, alerts and retraining requests.

        Start exactly one for any number of workers. It keeps no state on disk: at
        its start it reads the panes of the last eight days again and publishes
        nothing twice. Runs until SIGTERM or Ctrl-C. Health: /livez and /readyz;
        metrics: /metrics.

            tamiz monitor

        Read on: docs/drift.md.
        """
        import logging
        import threading

        from schemas.extras import skip_unused_libraries

        skip_unused_libraries()
        from schemas.dataset.declaration import load_dataset
        from stream_app.lifecycle.logging_setup import start_logging
        from stream_app.lifecycle.stop_deadline import StopDeadline, stop_on_signals
        from stream_app.monitor.monitor_loop import Monitor
        from stream_app.monitor.monitor_metrics import MonitorMetrics
        from stream_app.monitor.monitor_server import MonitorServer
        from stream_app.worker.champion_cache import ChampionCache

        settings = config.load()
        start_logging(settings)
        stop = threading.Event()
        stop_on_signals(stop, StopDeadline(settings, "unpublished results are evaluated again at the next start"))
        store = ChampionCache(settings, load_dataset(settings.dataset))
        store.open()
        log = logging.getLogger("tamiz.monitor")
        metrics = MonitorMetrics()
        drift_monitor = Monitor(settings, store, metrics)
        with MonitorServer(settings, metrics, drift_monitor.alive, drift_monitor.readiness):
            drift_monitor.run(stop, on_ready=lambda: log.info("caught up with drift-panes; monitoring"))
