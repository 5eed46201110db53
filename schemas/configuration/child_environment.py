"""Environment variables of child processes: exactly the parent's settings."""

import os
from collections.abc import Mapping

from schemas.configuration.kafka_config import Secret
from schemas.configuration.registry_config import VARIABLES
from schemas.configuration.settings import Settings


def as_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that give a child process the same settings; secrets in plain text."""
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {
        f"TAMIZ_{name.upper()}": value.reveal() if isinstance(value, Secret) else str(value)
        for name, value in values.items()
        if value is not None
    }


def child_environment(settings: Settings) -> dict[str, str]:
    """Environment of a child process that runs with these settings."""
    return without_settings() | as_environment(settings)


def without_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Copy of the environment without the variables that `settings.load` reads."""
    return {k: v for k, v in environ.items() if not k.startswith("TAMIZ_") and k not in VARIABLES}
