"""What the processes of a data set do: some read clips, one encodes what they read."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import Connection

from tqdm import tqdm

from vidtok_runtime.dataset.feed import Ahead, in_turn
from vidtok_runtime.dataset.job import EncodeRecipe
from vidtok_runtime.dataset.reading import read_batch
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.errors import VidtokError

# What goes to all of a group, as Ctrl-C does, is for the parent, which ends its workers.
_FOR_THE_PARENT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile hear no signals for their parent, however early these come."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # the first process would start it, and it unblocks what it finds blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_reader(line: Connection, feed: Connection, recipe: EncodeRecipe) -> None:
    """Say False when a batch may come; read it, into `feed`, and say True once its beginning is read.

    The next one may come only when all of this one is at the other end: what a reader dies of is then no other clip's
    fault.
    """
    import cv2

    _of_its_parent()
    cv2.setNumThreads(1)  # there are as many readers as it needs
    ahead = Ahead(feed)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            line.send(False)
            for number, (job, piece) in enumerate(read_batch(recipe, line.recv(), threads=1)):
                ahead.put(job, piece)
                if number == 0:
                    line.send(True)
            ahead.drain()


def serve_engine(line: Connection, feeds: Sequence[Connection], recipe: EncodeRecipe) -> None:
    """Say None when ready (or what is wrong), then which of the clips in the feeds it is at, and outcomes."""
    _of_its_parent()
    turn = threading.Lock()

    def say(what: object) -> None:
        with turn, contextlib.suppress(OSError):  # the parent is gone
            line.send(what)

    try:
        worker = Worker(recipe, say)
    except VidtokError as error:
        say(str(error))
        return
    say(None)
    at = None
    for job, piece in in_turn(feeds, worker.has_room):
        if job != at:
            say(job)
            at = job
        worker.take(job, piece)


def _of_its_parent() -> None:
    """Leave signals to the parent, and end with it."""
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own is shared between processes and left behind by one that is killed
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, even if that is killed: nobody would take note of what is done here."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
