"""stdin, stdout and stderr as a program can rely on them."""

from __future__ import annotations

import io
import os
import sys


def settle() -> None:
    """Take the numbers 0 to 2 where nothing is open there, so that no file gets one and with it what is said to stderr.

    What was closed stays of no use: reading and writing fail; only what goes to stderr is lost without a word.
    Names of files are printed as they are, whatever their bytes.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115, it stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
