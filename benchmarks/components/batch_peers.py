"""Two common ways to score a file with pandas: by column in memory, and row by row. Same model, same scores.

    python -m benchmarks.components.batch_peers columns|rows FILE BUNDLE OUT

Neither gives reasons or rejects rows: both fail on an invalid row, so they run on clean files.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from scoring.bundle.manifest import MODEL_FILE, FeatureEncoding, read_manifest

ROWS_ONE_BY_ONE = 2_000  # first rows of the file; all of them would take hours
MISSING = ["", "NA", "N/A", "--"]


def main() -> None:
    way, file, bundle, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    manifest = read_manifest(bundle)
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bundle / MODEL_FILE)
    limit = ROWS_ONE_BY_ONE if way == "rows" else None
    frame = pd.read_csv(file, sep=";", decimal=",", encoding="utf-8-sig", na_values=MISSING, nrows=limit)
    if way == "rows":
        scores = [score(booster, manifest.features, frame.iloc[[i]])[0] for i in range(len(frame))]
        frame = frame.assign(score=scores)
    else:
        frame = frame.assign(score=score(booster, manifest.features, frame))
    points = manifest.points
    frame["outcome"] = np.select(
        [frame.score >= points.decline, frame.score >= points.review], ["decline", "review"], "approve"
    )
    frame.to_csv(out, sep=";", index=False)


def score(booster: xgb.Booster, features: tuple[FeatureEncoding, ...], raw: pd.DataFrame) -> Any:
    """Scores, shape (n,)."""
    frame = raw.copy()
    device = frame.dispositivo
    frame["device_model"] = device.str.extract(r"'model': (\d+)", expand=False).astype(float)
    frame["device_score"] = device.str.extract(r"'device_score': (\d+)", expand=False).astype(float)
    system = device.str.extract(r"'os': '([^']*)'", expand=False)
    frame["device_os"] = system.where(~system.isin(["%%", ",", "."]))
    time = pd.to_datetime(frame.fecha, format="%d/%m/%Y")
    frame["hour"], frame["day_of_week"] = frame.hora, time.dt.dayofweek
    frame["tipo_tc"] = frame.tipo_tc.replace("FÃ\xadsica", "Física")
    columns = {}
    for feature in features:
        column = frame[feature.name]
        if feature.kind == "category":
            codes = {level: code for code, level in enumerate(feature.levels)}
            known = column.map(codes).fillna(len(codes))
            columns[feature.name] = known.where(column.notna(), len(codes) + 1)
        else:
            columns[feature.name] = column.astype(float).fillna(feature.mean)
    return booster.inplace_predict(pd.DataFrame(columns).to_numpy(np.float32), validate_features=False)


if __name__ == "__main__":
    main()
