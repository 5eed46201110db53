"""Compiles, while an image is built, what Numba would compile at the first start.

`python -m tamiz.precompilation FOLDER` trains a small model for each shipped data set and warms up as a worker does
(`stream_app/worker/warm_up.py`). `schemas/files/compiled_code.py` uses the folder.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from schemas.files.compiled_code import DIGEST, PROCESSOR
from tamiz.terminal import say

ROWS = 6_000  # of card transactions
CARDS, DAYS = 200, 60  # of transactions at terminals


def main() -> None:
    """Compile into a folder, which must not exist."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    os.environ.update(PROCESSOR | {"NUMBA_CACHE_DIR": str(folder)})
    with tempfile.TemporaryDirectory(prefix="tamiz-") as scratch:
        compile_all(Path(scratch))
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".nbi", ".nbc"))
    digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()[:16]
    (folder / DIGEST).write_text(digest)
    say(f"{len(files)} files of compiled code in {folder}")


def compile_all(scratch: Path) -> None:
    """Train and warm up for each shipped data set, in a folder of its own."""
    # Imported here, because Numba reads the environment when it is imported.
    import msgspec

    from schemas.configuration.settings import load
    from schemas.dataset.declaration import load_dataset
    from stream_app.decisions.handler import HandlerPolicy
    from stream_app.worker.champion_cache import ChampionCache
    from stream_app.worker.warm_up import warm_up
    from tamiz.simulation.payload_formats import write
    from tamiz.simulation.simulator import Traffic, simulate
    from tamiz.simulation.terminal_files import write_transactions
    from tamiz.simulation.terminal_simulator import TerminalTraffic, simulate_terminals
    from training.pipeline import train

    cards, terminals = scratch / "cards.csv", scratch / "terminals.csv"
    traffic = Traffic(rows=ROWS, signal=True)
    write(traffic, simulate(traffic), cards)
    write_transactions(simulate_terminals(TerminalTraffic(cards=CARDS, days=DAYS)), terminals)
    for name, history in (("card_transactions", cards), ("terminal_transactions", terminals)):
        settings = msgspec.structs.replace(load({}), dataset=name, state_dir=scratch / name)
        train(settings, history, force="code is compiled for any model")
        dataset = load_dataset(name)
        champion = ChampionCache(settings, dataset)
        champion.open()
        warm_up(champion.current, HandlerPolicy.from_settings(settings, dataset, counting=True))


if __name__ == "__main__":
    main()
