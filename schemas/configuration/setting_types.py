"""Types of settings: ranges of numbers, texts that are not empty, and the help text of a setting."""

from typing import Annotated, Literal

from msgspec import Meta

OffsetReset = Literal["stop", "skip-and-count", "from-beginning"]
Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cost = Annotated[float, Meta(ge=0.0)]
Name = Annotated[str, Meta(min_length=1)]


def about(text: str) -> Meta:
    """Help text of a setting, shown by `tamiz settings` and in docs/reference/settings.md."""
    return Meta(description=text)
