"""Compiled functions are compiled again when any source of compiled functions changes, not only their own file."""

import shutil
import subprocess
import sys
from pathlib import Path

from scoring import compilation
from scoring.profiles import aggregates
from scoring.profiles.keys import key_scan
from stream_app.kafka.batches import record_scanner

INNER = "from scoring.compilation import compiled\n\n\n@compiled\ndef inner(x):\n    return x + {}\n"
OUTER = "from scoring.compilation import compiled\nfrom scoring.inner import inner\n\n\n"
OUTER += "@compiled\ndef outer(x):\n    return inner(x)\n"


def test_a_change_of_one_file_recompiles_the_functions_of_the_others(tmp_path: Path) -> None:
    scoring, own = tmp_path / "scoring", tmp_path / "stream_app"
    for folder in (scoring, own):
        folder.mkdir()
    shutil.copy(compilation.__file__, scoring)
    (own / "outer.py").write_text(OUTER)
    for more in (1, 2):
        (scoring / "inner.py").write_text(INNER.format(more))
        words = [sys.executable, "-c", "from stream_app.outer import outer; print(outer(40))"]
        done = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert int(done.stdout) == 40 + more
    assert list(own.glob("__pycache__/outer.outer*.nbc"))


def test_every_compiled_function_has_the_stamp_of_its_package() -> None:
    stamps = [f._cache._cache_file._source_stamp for f in (key_scan.fold_rows, aggregates.to_units)]
    assert stamps == [compilation.source_stamp("scoring")] * 2
    assert record_scanner.scan_records._cache._cache_file._source_stamp == compilation.source_stamp("stream_app")
    assert compilation.source_stamp("stream_app") != compilation.source_stamp("scoring")
