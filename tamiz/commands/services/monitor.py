"""`tamiz monitor`: watch for drift."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def monitor() -> None:
        """Evaluate what the workers count: `drift-panes` in; `drift-reports`, `drift-alerts`, `retrain-requests` out.

        Start one beside any number of workers. Runs until SIGTERM or Ctrl-C. It keeps nothing: at its start it reads
        the panes of the last eight days again, and says nothing twice.
        """
        import logging
        import threading

        from schemas.dataset.declaration import load_dataset
        from stream_app.lifecycle.logging_setup import start_logging
        from stream_app.lifecycle.stop_deadline import StopDeadline, stop_on_signals
        from stream_app.monitor.monitor_loop import Monitor
        from stream_app.monitor.monitor_metrics import MonitorMetrics
        from stream_app.monitor.monitor_server import MonitorServer
        from stream_app.worker.champion_cache import ChampionCache

        settings = config.load()
        start_logging(settings)
        over = threading.Event()
        stop_on_signals(over, StopDeadline(settings, "what is not published is evaluated again at the next start"))
        store = ChampionCache(settings, load_dataset(settings.dataset))
        store.open()
        log = logging.getLogger("tamiz.monitor")
        metrics = MonitorMetrics()
        watching = Monitor(settings, store, metrics)
        with MonitorServer(settings, metrics, watching.alive, watching.readiness):
            watching.run(over, ready=lambda: log.info("everything so far is read; watching"))
