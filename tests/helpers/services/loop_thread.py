"""An event loop in a thread, for servers of this process."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]


@contextlib.contextmanager
def running_loop(timeout_s: float) -> Iterator[RunCoroutine]:
    """Gives a function that runs a coroutine in the loop and returns its result, for at most a time."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout_s)

    try:
        yield run
    finally:
        run(_end_of_tasks())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_of_tasks() -> None:
    """Cancel tasks that still read incomplete requests; a closed loop would log them as destroyed."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
