"""Run coroutines from plain code, also where an event loop is running already (notebooks)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started on first use.

    Ctrl-C while waiting cancels the coroutine and waits until it has cleaned up.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="spct", daemon=True)
                self._thread.start()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                asyncio.run_coroutine_threadsafe(_settle(), self._loop).result(timeout=10)
            raise

    def close(self) -> None:
        """Cancel what is left, stop the loop and its thread; twice is fine."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_settle(cancel=True), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None


async def _settle(*, cancel: bool = False) -> None:
    """Let cancelled tasks of this loop finish their clean-up; with `cancel`, cancel all of them first."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if cancel:  # a second Ctrl-C can have cut the clean-up of the first one
        for task in others:
            task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
