"""How a command ends at once, even while a call of an engine never returns: by a second signal, or when time is over.

Python answers signals between two steps of its own, and a native call is one step. So threads watch, and what they end
is the process; parts of outputs are removed first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from vidtok_runtime.files import discard_parts

# What asks a process to end, beside Ctrl-C; Windows has no SIGHUP.
_TO_END = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def endings() -> list[signal.Signals]:
    """The signals that ask this process to end, SIGTERM and SIGHUP, but for those ignored (as nohup has them)."""
    return [number for number in _TO_END if signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def second_signal_ends(program: str) -> Iterator[None]:
    """Meanwhile the second SIGINT, SIGTERM or SIGHUP ends the process; what the first one does is up to its handler."""
    if sys.platform == "win32":
        yield
        return
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=_count, args=(told, program), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(tell)


def _count(told: int, program: str) -> None:
    """Follow the numbers of signals, which the system's own handler writes."""
    count = 0
    while numbers := os.read(told, 64):
        for number in numbers:
            count += number in (signal.SIGINT, *_TO_END)
            if count > 1:
                _end(128 + number, f"{program}: ended by a second {signal.Signals(number).name}")
    os.close(told)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End the process with code 1 when what is done meanwhile takes longer; None: any time."""
    if seconds is None:
        yield
        return
    line = f"vidtok-run: error: it took longer than the {seconds:g} s of --time-limit and was ended"
    watch = threading.Timer(seconds, _end, (1, line))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _end(code: int, line: str) -> None:
    """Remove parts of outputs, say why, and end the process without asking its other threads."""
    discard_parts()
    with contextlib.suppress(OSError):
        start = "\n" if os.isatty(2) else ""  # below a progress bar
        os.write(2, f"{start}{line}\n".encode())
    os._exit(code)
