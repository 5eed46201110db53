"""The archive's files in a folder or artifact store (`archive_root`): data first, then the manifest that names it."""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from schemas.configuration.settings import Settings
from schemas.errors import ConfigError, TamizError
from schemas.json_codec import decode
from schemas.security.sanitizer import without_credentials
from stream_app.registry.artifact_folder import ArtifactFolder
from stream_app.registry.registry_client import first_line
from tamiz.archive.manifest import ArchiveManifest, FileName, day_folder, folder_day


class ArchiveError(TamizError):
    """The archive cannot be read or written, or a file of it is damaged."""


class ArchiveStore:
    """Reads and writes the archive. Every method raises ArchiveError if the store fails."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if `archive_root` is not set, or names no usable place."""
        if settings.archive_root is None:
            raise ConfigError(
                "archive_root (TAMIZ_ARCHIVE_ROOT) is not set: set the folder or artifact URI to archive to, such as "
                "s3://BUCKET/FOLDER or mlflow-artifacts:/archive"
            )
        self._place = ArtifactFolder(settings, settings.archive_root, setting="archive_root")
        self.root = without_credentials(settings.archive_root)

    def days(self, topic: str) -> list[date]:
        """The days of a topic that have a folder, ascending."""
        with self._readable_errors():
            found = (folder_day(name) for name in self._place.folders(topic))
            return sorted(day for day in found if day is not None)

    def files(self, topic: str, day: date) -> list[FileName]:
        """The files of a day that have a manifest, by partition."""
        with self._readable_errors():
            found = (FileName.of(name) for name in self._place.names(day_folder(topic, day)))
            return sorted(name for name in found if name is not None)

    def manifest(self, topic: str, day: date, name: FileName) -> ArchiveManifest:
        """The manifest of a file."""
        folder = day_folder(topic, day)
        with self._readable_errors(), TemporaryDirectory(prefix="tamiz-") as scratch:
            raw = self._place.fetch(folder, name.manifest, Path(scratch)).read_bytes()
        try:
            found = decode(raw, ArchiveManifest)
        except msgspec.MsgspecError as error:
            raise ArchiveError(f"{self.root}: {folder}/{name.manifest} is damaged: {error}; restore it") from None
        if (found.partition, found.topic_id, found.day) != (*name, day):
            raise ArchiveError(f"{self.root}: {folder}/{name.manifest} is of another file: restore it")
        return found

    def publish(self, topic: str, manifest: ArchiveManifest, data: Path | None) -> None:
        """Add a file and then its manifest. data: the Parquet file, under its name; None without records."""
        folder, name = day_folder(topic, manifest.day), FileName(manifest.partition, manifest.topic_id)
        with self._readable_errors(), TemporaryDirectory(prefix="tamiz-") as scratch:
            if data is not None:
                self._place.add(folder, data)
            path = Path(scratch) / name.manifest
            path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            self._place.add(folder, path)

    @contextlib.contextmanager
    def data(self, topic: str, manifest: ArchiveManifest) -> Iterator[Path]:
        """Context manager: a path at which a Parquet file can be read, whole. The manifest states some bytes."""
        folder, name = day_folder(topic, manifest.day), FileName(manifest.partition, manifest.topic_id).data
        with TemporaryDirectory(prefix="tamiz-") as scratch:
            with self._readable_errors():
                path = self._place.fetch(folder, name, Path(scratch))
                found = file_sha256(path)
            if found != manifest.sha256:
                raise ArchiveError(
                    f"{self.root}: {folder}/{name} is damaged: its SHA-256 is {found}, by its manifest "
                    f"{manifest.sha256}; restore it"
                )
            yield path

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of store has its own exceptions
            raise ArchiveError(f"archive_root {self.root}: {first_line(error)}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
