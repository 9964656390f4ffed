"""How far a data set is: a bar for people, lines of JSON for programs, a file of metrics for schedulers."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

from tqdm import tqdm

from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import Place

_EVERY = 5.0  # seconds between two metrics files, besides the first and the last
STYLES = ("bar", "json")


@dataclass(frozen=True)
class Standing:
    """Clips of this part, those finished by now and by this run, those in quarantine; this run's frames and seconds."""

    clips: int
    done: int
    done_now: int
    quarantined: int
    frames: int
    seconds: float

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0


class Progress:
    """Shows every standing in a style (of STYLES; None: not at all), and writes it to a file. Raises OutputError."""

    def __init__(self, style: str | None, metrics: Place | None, start: Standing) -> None:
        self._style, self._metrics = style, metrics
        over = start.done + start.quarantined
        self._bar = tqdm(total=start.clips, initial=over, unit="clip", disable=style != "bar")
        self._last = start
        self._written = -_EVERY
        self.show(start)

    def show(self, now: Standing) -> None:
        """A clip is over, or may be tried again."""
        self._bar.update(now.done + now.quarantined - self._last.done - self._last.quarantined)
        self._bar.set_postfix_str(f"{now.rate:.1f} frames/s, {now.quarantined} in quarantine")
        self._last = now
        if self._style == "json":
            sys.stderr.write(json.dumps({**asdict(now), "frames_per_second": now.rate}) + "\n")
            sys.stderr.flush()
        if self._metrics is not None and time.monotonic() - self._written >= _EVERY:
            self._write()

    def close(self) -> None:
        """End the bar and write the last metrics."""
        self._bar.close()
        self._write()

    def _write(self) -> None:
        """In Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        self._written = time.monotonic()
        if self._metrics is None:
            return
        values = {**asdict(self._last), "updated": time.time()}
        lines = [
            f"# TYPE vidtok_dataset_{name} gauge\nvidtok_dataset_{name} {value}\n" for name, value in values.items()
        ]
        PartFile(self._metrics, force=True).write_whole("".join(lines).encode())
