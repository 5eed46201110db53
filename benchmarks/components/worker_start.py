"""Start time, memory and idle cost of a worker: `python -m benchmarks.components.worker_start [--before COMMIT]`.

One broker, and up to three environments: the tree of a commit and this tree, with the packages of `.venv`, and this
tree with those of the worker's image (`requirements-run.lock`; `--image`). Each tree trains a champion in an MLflow
server of its own, which also serves the bundles, as in deployment. A worker starts without a cached bundle: cold, with
nothing compiled, and then warm. The environments take turns, so that a busy machine is unfair to none. `--imports`
shows only what each library adds to a process that imports them one after the other.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec
import psutil

from schemas.configuration.child_environment import without_settings
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate

ROOT = Path(__file__).parent.parent.parent
BIN = ROOT / ".venv" / "bin"
MB = 1 << 20
READY_TIMEOUT_S = 300
BROKER_DELAY_S = 15.0  # a worker has imported everything and loaded its champion


# In the order in which each is first needed; a library pays for what it imports first.
LIBRARIES = (
    "msgspec", "numpy", "numba", "xgboost", "aiokafka", "kafka", "prometheus_client", "aiohttp", "faust",
    "stream_app.worker.worker",
)  # fmt: skip
IMPORTS = """
import sys, json, time
from schemas.extras import skip_unused_libraries
skip_unused_libraries()
def resident_mb(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
for name in sys.argv[1:]:
    mb, cpu, modules = resident_mb(), time.process_time(), len(sys.modules)
    __import__(name)
    added = [round(resident_mb() - mb, 1), round(time.process_time() - cpu, 2), len(sys.modules) - modules]
    print(json.dumps({name: dict(zip(("mb", "cpu_s", "modules"), added))}))
"""


class WorkerStart(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the starts of one environment. Times are of the process and its children."""

    imports_cpu_s: float  # until everything is imported, and nothing is connected
    imports_mb: float  # resident at most until then
    cold_ready_s: float  # until /readyz reports ready; nothing is compiled before
    cold_ready_cpu_s: float
    ready_s: float  # with the compiled code of the cold start
    ready_cpu_s: float
    after_broker_s: float  # until ready, of a worker that waited for the broker, since the broker responds
    rss_mb: float  # resident when ready
    pss_mb: float  # the same, pages shared with other processes divided among them
    uss_mb: float  # what each further worker adds
    threads: int
    idle_cpu_percent: float  # of one core, ready and without traffic
    idle_switches_per_s: float  # voluntary context switches: how often a thread wakes up


class WorkerEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """A tree of Tamiz, an interpreter for it, and the settings of its registry."""

    name: str
    tree: Path
    python: Path
    settings: dict[str, str]


def main() -> None:
    """Print the medians of each environment as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.components.worker_start", description=__doc__)
    parser.add_argument("--before", metavar="COMMIT", help="compare with the tree of this commit")
    parser.add_argument("--image", action="store_true", help="measure also with the packages of the worker's image")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--imports", action="store_true", help="only what each library adds")
    args = parser.parse_args()
    if args.imports:
        subprocess.run([str(BIN / "python"), "-c", IMPORTS, *LIBRARIES], cwd=ROOT, check=True)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tamiz-bench-")))
        broker = stack.enter_context(EmbeddedBroker())
        traffic = Traffic(rows=8_000, seed=1, signal=True)
        write(traffic, simulate(traffic), folder / "history.csv")
        environments = []
        if args.before:
            tree = stack.enter_context(tree_of(args.before, folder / "before"))
            settings = stack.enter_context(champion(tree, folder / "before-state", broker.bootstrap_servers))
            environments.append(
                WorkerEnvironment(name=args.before, tree=tree, python=BIN / "python", settings=settings)
            )
        settings = stack.enter_context(champion(ROOT, folder / "state", broker.bootstrap_servers))
        environments.append(WorkerEnvironment(name="this tree", tree=ROOT, python=BIN / "python", settings=settings))
        if args.image:
            lean = packages_of_image(folder / "image")
            environments.append(
                WorkerEnvironment(name="this tree in its image", tree=ROOT, python=lean, settings=settings)
            )
        found: dict[str, list[WorkerStart]] = {e.name: [] for e in environments}
        for _ in range(args.starts):
            for environment in environments:
                found[environment.name].append(measure_starts(environment, folder, args.idle_seconds))
        print(json.dumps({name: medians(starts) for name, starts in found.items()}, indent=1))


@contextlib.contextmanager
def tree_of(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    yield folder


@contextlib.contextmanager
def champion(tree: Path, state: Path, bootstrap: str) -> Iterator[dict[str, str]]:
    """Settings with topics and a registry server that holds a champion, made by the tree's own command line."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "TAMIZ_BOOTSTRAP_SERVERS": bootstrap,
        "TAMIZ_STATE_DIR": str(state),
        "TAMIZ_PARTITIONS": "1",
        "TAMIZ_MLFLOW_TRACKING_URI": url,
    }
    with contextlib.suppress(subprocess.CalledProcessError):  # the other tree's topics are as good
        tamiz(tree, BIN / "python", settings, "topics", "create")
    state.mkdir()
    stores = ["--backend-store-uri", f"sqlite:///{state / 'registry.db'}"]
    stores += ["--artifacts-destination", str(state / "kept")]
    server = subprocess.Popen(
        [BIN / "mlflow", "server", "--port", str(port), "--workers", "1", *stores],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=state,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # its job runners take a core at their start
        start_new_session=True,
    )
    try:
        wait_until_ok(f"{url}/health", server)
        history = str(state.parent / "history.csv")
        tamiz(tree, BIN / "python", settings, "train", history, "--force", "a benchmark needs a champion")
        yield settings
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def packages_of_image(folder: Path) -> Path:
    """An interpreter with the packages of the worker's image, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    sync = [
        BIN / "uv",
        "pip",
        "sync",
        "--quiet",
        "--compile-bytecode",
        "--python",
        python,
        "--require-hashes",
        ROOT / "requirements-run.lock",
    ]
    subprocess.run(sync, check=True)
    return python


def measure_starts(environment: WorkerEnvironment, folder: Path, idle_s: float) -> WorkerStart:
    """A cold start and a warm one, each of a worker that has no bundle."""
    imports = imports_alone(environment)
    with TemporaryDirectory(dir=folder) as scratch:
        compiled = {"NUMBA_CACHE_DIR": f"{scratch}/compiled"}
        with started(environment, compiled | {"TAMIZ_STATE_DIR": f"{scratch}/cold"}) as (_, cold_ready_s, cold_cpu_s):
            pass
        after_broker_s = ready_after_broker(environment, compiled | {"TAMIZ_STATE_DIR": f"{scratch}/waiting"})
        with started(environment, compiled | {"TAMIZ_STATE_DIR": f"{scratch}/warm"}) as (process, ready_s, ready_cpu_s):
            time.sleep(1)
            memory, threads = process.memory_full_info(), process.num_threads()
            cpu_s, switches = cpu_seconds(process), voluntary_switches(process)
            time.sleep(idle_s)
            idle_cpu_s, woken = cpu_seconds(process) - cpu_s, voluntary_switches(process) - switches
    return WorkerStart(
        **imports,
        cold_ready_s=cold_ready_s,
        cold_ready_cpu_s=cold_cpu_s,
        ready_s=ready_s,
        ready_cpu_s=ready_cpu_s,
        after_broker_s=after_broker_s,
        rss_mb=memory.rss / MB,
        pss_mb=memory.pss / MB,
        uss_mb=memory.uss / MB,
        threads=threads,
        idle_cpu_percent=100 * idle_cpu_s / idle_s,
        idle_switches_per_s=woken / idle_s,
    )


@contextlib.contextmanager
def started(environment: WorkerEnvironment, more: dict[str, str]) -> Iterator[tuple[psutil.Process, float, float]]:
    """A worker, the seconds until it was ready, and their CPU time."""
    port = free_port()
    begun = time.monotonic()
    settings = environment.settings | {"TAMIZ_WEB_PORT": str(port)} | more
    worker = command(environment.tree, environment.python, settings, "worker")
    try:
        wait_until_ok(f"http://127.0.0.1:{port}/readyz", worker)
        ready_s = time.monotonic() - begun
        process = psutil.Process(worker.pid)
        yield process, ready_s, cpu_seconds(process)
    finally:
        worker.terminate()  # it leaves its group, so that the next need not wait for the session's end
        worker.wait()


def ready_after_broker(environment: WorkerEnvironment, more: dict[str, str]) -> float:
    """Seconds until a worker is ready, since the broker responds, for which the worker has waited."""
    host, port = environment.settings["TAMIZ_BOOTSTRAP_SERVERS"].split(":")
    door, web = free_port(), free_port()
    settings = environment.settings | {"TAMIZ_WEB_PORT": str(web), "TAMIZ_BOOTSTRAP_SERVERS": f"127.0.0.1:{door}"}
    worker = command(environment.tree, environment.python, settings | more, "worker")
    try:
        time.sleep(BROKER_DELAY_S)
        with forwarding(door, (host, int(port))):
            begun = time.monotonic()
            wait_until_ok(f"http://127.0.0.1:{web}/readyz", worker)
            return time.monotonic() - begun
    finally:
        worker.terminate()
        worker.wait()


@contextlib.contextmanager
def forwarding(port: int, address: tuple[str, int]) -> Iterator[None]:
    """Forward connections to another address: clients find the broker there, which then names its own address."""

    class Forwarder(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(address) as broker:
                ends = {self.request: broker, broker: self.request}
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        if not (received := end.recv(65_536)):
                            return
                        ends[end].sendall(received)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", port), Forwarder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children so far."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def voluntary_switches(process: psutil.Process) -> int:
    """How often the threads of a process have waited so far."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    lines = [line for thread in threads for line in (thread / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def imports_alone(environment: WorkerEnvironment) -> dict[str, float]:
    """What `tamiz worker` takes until it refuses pages without users: after all imports, before any connection."""
    settings = environment.settings | {"TAMIZ_WEB_HOST": "0.0.0.0"}
    process = command(environment.tree, environment.python, settings, "worker")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 2, process.returncode
    return {"imports_cpu_s": used.ru_utime + used.ru_stime, "imports_mb": used.ru_maxrss * 1024 / MB}


def command(tree: Path, python: Path, settings: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    """A command of a tree."""
    return subprocess.Popen(
        [python, "-m", "tamiz", *words],
        cwd=tree,
        env=without_settings() | settings | {"PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def tamiz(tree: Path, python: Path, settings: dict[str, str], *words: str) -> None:
    """A command of a tree, to its end."""
    process = command(tree, python, settings, *words)
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, words)


def wait_until_ok(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is 200."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{url}: its process ended with exit code {process.returncode}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer 200 within {READY_TIMEOUT_S} s")


def medians(starts: list[WorkerStart]) -> dict[str, float]:
    """The median of each measure."""
    return {name: round(median(getattr(s, name) for s in starts), 1) for name in WorkerStart.__struct_fields__}


if __name__ == "__main__":
    main()
