"""`python -m tamiz` is `tamiz`."""

from tamiz.main import run

run()
