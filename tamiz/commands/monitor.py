"""`tamiz monitor`: watch for drift."""

import typer

from schemas import settings as config


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

        from schemas.dataset import load_dataset
        from stream_app.logs import start_logging
        from stream_app.model_store import ModelStore
        from stream_app.monitor import Monitor
        from stream_app.monitor_metrics import MonitorMetrics
        from stream_app.monitor_server import MonitorServer
        from stream_app.stop_deadline import StopDeadline, stop_on_signals

        settings = config.load()
        start_logging(settings)
        over = threading.Event()
        stop_on_signals(over, StopDeadline(settings, "what is not published is evaluated again at the next start"))
        store = ModelStore(settings, load_dataset(settings.dataset))
        store.open()
        log = logging.getLogger("tamiz.monitor")
        metrics = MonitorMetrics()
        watching = Monitor(settings, store, metrics)
        with MonitorServer(settings, metrics, watching.alive, watching.readiness):
            watching.run(over, ready=lambda: log.info("everything so far is read; watching"))
