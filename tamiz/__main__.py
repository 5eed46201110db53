"""Makes `python -m tamiz` run the command `tamiz`."""

from tamiz.main import run

run()
