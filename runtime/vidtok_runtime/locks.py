"""One writer at a time: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import logging
from pathlib import Path


def lock(descriptor: int, place: Path) -> bool:
    """Lock an open file or folder; False when another process has it.

    Where there are no locks, the writer goes on without: on some file systems, which is said, and on Windows.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logging.getLogger(__name__).warning(
            "%s cannot be locked on this file system (%s); start no second run that writes there", place, error.strerror
        )
    return True
