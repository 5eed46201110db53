"""The file of settings, `tamiz.toml`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError


def read_settings_file(environ: Mapping[str, str]) -> dict[str, Any]:
    """Values by setting, from the file that ``TAMIZ_CONFIG`` names, else from ``tamiz.toml`` if it exists.

    Raises ConfigError.
    """
    named = environ.get("TAMIZ_CONFIG")
    path = Path(named or "tamiz.toml")
    if not path.is_file():
        if named:
            raise ConfigError(f"TAMIZ_CONFIG={named!r}: no such file; set the path of a TOML file or unset it")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a valid TOML file: {error}") from None
