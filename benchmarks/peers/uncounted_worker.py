"""A `tamiz worker` that does not count for drift detection, as its peers do not. Settings as the worker's."""

from schemas.configuration.settings import load
from schemas.extras import skip_unused_libraries

if __name__ == "__main__":
    skip_unused_libraries()
    from stream_app.worker.worker import run

    run(load(), counting=False)
