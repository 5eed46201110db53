"""Options that several commands have for files of transactions."""

from pathlib import Path
from typing import Annotated

import typer

History = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Earlier transactions, for profiles: FILE's rows are folded after them.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Late labels: columns transaction_id, fraud, reported_at. The last reported one holds; a transaction "
        "without one keeps that of its label column.",
        show_default=False,
    ),
]
