"""Independent pieces of work, spread over processes.

Each worker is a fresh interpreter (`spawn`), so that nothing of PyTorch's threads is inherited. Ctrl-C reaches all processes of
a terminal: workers ignore it and are asked by this one to stop, so that each saves its state. A worker whose parent is gone,
however that ended, ends, too. Not covered: SIGTERM to a worker itself, which ends it at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from enas.errors import Interrupted, SearchFailed, Stopped
from scripts.stopping import StopRequest

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_POLL_SECONDS = 0.1
_stop: StopRequest  # of a worker, set as it starts


class _AskedFromOutside(StopRequest):
    """A worker's request to stop, which another process makes."""

    def __init__(self, is_set: Callable[[], bool]) -> None:
        super().__init__()
        self._is_set = is_set

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._is_set()


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    work: Callable[[TaskT, StopRequest], ResultT],
    tasks: Sequence[TaskT],
    *,
    num_workers: int,
    stop: StopRequest,
    on_done: Callable[[ResultT], None],
) -> None:
    """Do all tasks, so many at a time; one at a time needs no further process.

    Args:
        work: done for each task; it and what it takes and returns can be pickled. It asks the request after each step and, where
            it says so, saves and raises `Stopped`.
        tasks: in the order that they begin in.
        on_done: told each result as it comes.

    Raises: Stopped where `stop` asks for it; SearchFailed where a worker was killed; the first error of a task, after those that
        run beside it have ended.
    """
    if num_workers == 1 or len(tasks) < 2:
        for task in tasks:
            on_done(work(task, stop))
        return
    context = multiprocessing.get_context("spawn")
    event = context.Event()
    pool = ProcessPoolExecutor(min(num_workers, len(tasks)), context, initializer=_start, initargs=(event,))
    try:
        with stop.deferred():
            _collect([pool.submit(_work_in_worker, work, task) for task in tasks], on_done, stop)
    except BrokenProcessPool as error:
        if stop():  # the signal went to the whole process group
            raise Stopped("stopped, what is finished is kept") from error
        kept = "what is finished or was saved is kept, go on with the same command"
        raise SearchFailed(f"a worker process was killed, perhaps for want of memory; {kept}") from error
    finally:
        event.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(futures: Sequence[Future[ResultT]], on_done: Callable[[ResultT], None], stop: StopRequest) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            on_done(future.result())
        if waiting and stop():
            raise Stopped(f"stopped with {len(waiting)} of {len(futures)} parts to go, what is finished or saved is kept")


def _start(event: Any) -> None:
    """Prepare a worker."""
    global _stop
    _stop = _AskedFromOutside(event.is_set)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_in_worker(work: Callable[[TaskT, StopRequest], ResultT], task: TaskT) -> ResultT:
    try:
        return work(task, _stop)
    except Interrupted:  # no Exception, which is all that a pool hands on
        raise Stopped("stopped, what is finished is kept") from None
