"""What this process may use of the machine: cores and memory, by affinity and control groups (version 1 and 2)."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cores() -> int:
    """CPU cores that this process may use: those of its affinity, at most as many as its control groups' quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas())]))


def free_memory() -> int | None:
    """Bytes that this process may still take, caches that the system gives back included; None: it does not say."""
    amounts = list(_left_in_groups())
    if (size := _number(_ROOT / "proc/meminfo", r"MemAvailable: +(\d+) kB")) is not None:
        amounts.append(size * 1024)
    return max(0, min(amounts)) if amounts else None


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each control group gets, where that is limited."""
    for group in _groups("cpu"):
        quota = _number(group / "cpu.max", r"(\d+) \d+")
        period = _number(group / "cpu.max", r"\d+ (\d+)")
        if quota is None:
            quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota and period:
            yield quota / period


def _left_in_groups() -> Iterator[int]:
    """Bytes left below each limit of a control group; pages of files that nobody uses can be taken back."""
    for group in _groups("memory"):
        limits = [_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        stat = group / "memory.stat"
        pages = _number(stat, r"^total_inactive_file (\d+)") or _number(stat, r"^inactive_file (\d+)") or 0
        yield from (limit - max(0, used - pages) for limit in limits if limit is not None)


def _number(path: Path, pattern: str = r"\A(\d+)\s*\Z") -> int | None:
    """The number that a file of the system is, or that `pattern` finds in it; None where there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = path.read_text()
        match = re.search(pattern, text, re.MULTILINE)
        return int(match[1]) if match else None
    return None


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in: its own and all above it."""
    try:
        member = (_ROOT / "proc/self/cgroup").read_text().splitlines()
        mounts = (_ROOT / "proc/self/mountinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    places = {}  # by controller, "" for version 2
    for line in member:
        _, names, place = line.split(":", 2)
        places.update(dict.fromkeys(names.split(","), place))
    for line in mounts:
        front, _, back = line.partition(" - ")
        root, point = front.split()[3:5]
        kind, _, options = (*back.split(" ", 2), "", "")[:3]  # a mount may come from nowhere
        name = {"cgroup2": "", "cgroup": controller}.get(kind)
        if name not in places or (name and controller not in options.split(",")):
            continue
        # In a container the path may be that of the host, of which the mount shows the container's part.
        member_of = PurePosixPath(places[name])
        inside = member_of.relative_to(root) if member_of.is_relative_to(root) else PurePosixPath()
        top = _ROOT / point.lstrip("/")
        yield from (top / folder for folder in (inside, *inside.parents) if ".." not in folder.parts)


def give_back() -> None:
    """Give back to the system what is free in the process; only glibc keeps much, in pieces between others."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
