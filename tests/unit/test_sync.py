"""The loop of plain code: results, errors, and an end."""

import asyncio
import threading

import pytest

from spct.sync import LoopThread


async def double(x):
    await asyncio.sleep(0)
    return 2 * x


async def fail():
    raise LookupError("no")


def threads():
    return [t for t in threading.enumerate() if t.name == "spct"]


def test_results_and_errors_come_through_and_the_thread_ends():
    loop = LoopThread()
    assert loop.run(double(21)) == 42
    with pytest.raises(LookupError, match="no"):
        loop.run(fail())
    assert loop.run(double(1)) == 2  # the same loop goes on
    loop.close()
    loop.close()
    assert threads() == []


def test_no_thread_before_the_first_use_and_a_new_one_after_the_end():
    loop = LoopThread()
    loop.close()
    assert threads() == []
    assert loop.run(double(3)) == 6
    assert len(threads()) == 1
    loop.close()


def test_one_loop_whoever_comes_first():
    loop, start, seen = LoopThread(), threading.Barrier(8), set()

    async def which():
        return id(asyncio.get_running_loop())

    def work():
        start.wait()
        seen.add(loop.run(which()))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    loop.close()
    assert len(seen) == 1


def test_closing_cancels_what_is_left():
    loop, cleaned, begun = LoopThread(), [], threading.Event()

    async def endless():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def leave_behind():
        loop.left = asyncio.create_task(endless())
        await asyncio.sleep(0)

    loop.run(leave_behind())
    assert begun.is_set()
    loop.close()
    assert cleaned == [True]
    assert threads() == []
