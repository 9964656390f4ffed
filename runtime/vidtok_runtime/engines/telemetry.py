"""Engines imported without their reports to their makers: nothing is written to the home folder, no host looked up."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import cast

_REPORTER = "openvino_telemetry"  # a package that OpenVINO can do without
_turn = threading.RLock()


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Import ONNX Runtime or OpenVINO inside; what a program has imported before stays as it is.

    ONNX Runtime is told by `ORT_DISABLE_TELEMETRY`, unless that is set already; processes started later see it, too.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _turn:
        if hidden := _REPORTER not in sys.modules:
            sys.modules[_REPORTER] = cast(ModuleType, None)  # Python's way to say that a module is not there
        try:
            yield
        finally:
            if hidden:
                del sys.modules[_REPORTER]
