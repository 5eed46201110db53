"""Saves the champion's trees as an MLflow model, for the peer that scores with `mlflow.pyfunc`."""

import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb

from scoring.bundle.manifest import MODEL_FILE


class Trees(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        self._booster = xgb.Booster({"nthread": 1})
        self._booster.load_model(context.artifacts["trees"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self._booster.inplace_predict(model_input.to_numpy(np.float32), validate_features=False)


def save(bundle: Path) -> None:
    """Save the model next to the bundle, as `pyfunc`."""
    trees = {"trees": str(bundle / MODEL_FILE)}
    mlflow.pyfunc.save_model(str(bundle.parent / "pyfunc"), python_model=Trees(), artifacts=trees, pip_requirements=[])


if __name__ == "__main__":
    save(Path(sys.argv[1]))
