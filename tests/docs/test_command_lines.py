"""Whoever looks for mistakes in the command lines of other files finds them."""

import pytest
from typer.exceptions import TyperException

from tests.helpers.documents.command_lines import parse


@pytest.mark.parametrize(
    "line", ["worker --bogus", "score in.csv", "drift --granularity year", "drift a.csv b.csv", "topics create now"]
)
def test_a_line_that_the_program_would_refuse_is_refused(line: str) -> None:
    with pytest.raises(TyperException):
        parse(line.split())


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(AssertionError, match="there is no `tamiz nothing`"):
        parse(["nothing"])
