"""Bundles with mutated bytes and matching digests, as an attacker with write access to the registry could make them."""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np

import scoring.trees  # noqa: F401  # Numba is imported once, not in every fork
from monitoring.counting.monitored_model import MonitoredModel
from schemas.errors import ModelIncompatibleError
from scoring.bundle.bundle_trial import mark_loadable
from scoring.bundle.manifest import MANIFEST_FILE, MODEL_FILE
from scoring.bundle.trial_process import main

TIMEOUT_S = 60


def rehash(folder: Path) -> str:
    """Write the model file's current SHA-256 to the manifest; returns it."""
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest | {"model_sha256": digest}))
    return digest


def mutate(bundle: Path, folder: Path, seed: int) -> str:
    """Copy a bundle and mutate a few bytes of its model file; returns the file's SHA-256."""
    chance = random.Random(seed)
    shutil.copytree(bundle, folder)
    content = bytearray((bundle / MODEL_FILE).read_bytes())
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                content[at] = chance.randrange(256)
            case 1:
                content[at] ^= 1 << chance.randrange(8)
            case 2:
                length = chance.choice((1, 4, 8))
                content[at : at + length] = chance.choice((b"\xff", b"\x7f", b"\x00", b"\x80")) * length
            case 3:
                length = chance.choice((1, 4, 64))
                content[at:at] = content[at : at + length]
    (folder / MODEL_FILE).write_bytes(content)
    return rehash(folder)


def run_forked(work: object, *arguments: object) -> tuple[int, str]:
    """Call a function in a fork of this process; returns the exit code (negative for a signal) and the last line."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(writer, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(TIMEOUT_S)
        try:
            work(*arguments)  # type: ignore[operator]
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(str(end.code)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        lines = output.read().decode(errors="replace").splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lines[-1] if lines else ""


def load_bundle(folder: Path, sha256: str) -> None:
    """Load and use a bundle as a worker does after a successful trial."""
    mark_loadable(sha256)
    try:
        model = MonitoredModel.load(folder, 1)
    except ModelIncompatibleError as error:
        print(error)
        sys.exit(1)
    rows = np.array([g.features for g in model.manifest.golden], dtype=np.float32)
    assert np.isfinite(model.contributions(rows)).all()


if __name__ == "__main__":  # BUNDLE SCRATCH FIRST END: one JSON line per seed: seed, result of trial, result of load
    bundle, scratch = map(Path, sys.argv[1:3])
    for seed in range(int(sys.argv[3]), int(sys.argv[4])):
        folder = scratch / str(seed)
        digest = mutate(bundle, folder, seed)
        tried = run_forked(main, str(folder), digest)
        then = run_forked(load_bundle, folder, digest) if tried[0] == 0 else None
        print(json.dumps([seed, tried, then]), flush=True)
        shutil.rmtree(folder)
