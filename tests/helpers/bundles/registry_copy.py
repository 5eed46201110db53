"""Copies a SQLite registry: registering a version takes a second or more, copying takes milliseconds."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from schemas.configuration.settings import Settings


def copy_registry(settings: Settings, state_dir: Path) -> Settings:
    """Copy the state folder of some settings, with all paths in the database changed to the copy's.

    state_dir: must not exist yet. Nothing may write to the original meanwhile.
    """
    shutil.copytree(settings.state_dir, state_dir)
    with closing(sqlite3.connect(state_dir / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    database.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                        (str(settings.state_dir), str(state_dir), str(settings.state_dir)),
                    )
    return Settings(state_dir=state_dir, model_name=settings.model_name)
