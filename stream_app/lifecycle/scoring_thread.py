"""The thread that scores large batches."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class ScoringThread(ThreadPoolExecutor):
    """One thread, so that calls run in order. While it is idle, a call may run in the event loop's thread instead."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="tamiz-scoring")
        self._calls: list[Future[Any]] = []  # not ended; one that waits may be cancelled while another runs

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """As `ThreadPoolExecutor.submit`. Must be called in the event loop's thread."""
        submitted = super().submit(call, *args, **options)
        self._calls = [*(each for each in self._calls if not each.done()), submitted]
        return submitted

    @property
    def is_idle(self) -> bool:
        """Whether every call has ended."""
        return all(each.done() for each in self._calls)
