"""Finished token files into webdataset tars of a fixed number of clips."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.files import PartFile
from vidtok_runtime.places import remove, size_of
from vidtok_runtime.remote import Place


@dataclass(frozen=True)
class ShardSample:
    """A clip in a tar: `KEY.safetensors` and `KEY.json`; `content` None: taken over from the tar as it is."""

    key: str
    content: Place | None
    facts: Mapping[str, Any]


class Tars:
    """The tars of one part of a data set, each written when every clip of it is finished or has failed.

    per_tar: clips a tar, None for no tars at all; sample: of a finished clip, from its own file or (False) the tar's.
    """

    def __init__(
        self,
        out: Place,
        ledger: Ledger,
        names: Sequence[str],
        per_tar: int | None,
        tag: str,
        sample: Callable[[str, bool], ShardSample],
    ) -> None:
        self._out, self._ledger, self._sample = out, ledger, sample
        starts = range(0, len(names), per_tar) if per_tar else ()
        self._clips = {
            out / f"tokens{tag}-{number:06d}.tar": names[start : start + (per_tar or 0)]
            for number, start in enumerate(starts)
        }
        self._tar_of = {name: tar for tar, clips in self._clips.items() for name in clips}
        self._waiting = {tar: set(clips) for tar, clips in self._clips.items()}

    def paths(self) -> list[Place]:
        """All of them, written or not."""
        return list(self._clips)

    def packed(self) -> dict[str, str]:
        """File name of the tar of every clip that is in one."""
        return {name: tar for tar, record in self._ledger.packed.items() for name in record["clips"]}

    def over(self, name: str) -> None:
        """A clip is finished or has failed for good: write its tar if it was the last. Raises OutputError."""
        tar = self._tar_of.get(name)
        if tar is None:
            return
        self._waiting[tar].discard(name)
        if not self._waiting[tar]:
            self._pack(tar)

    def _pack(self, tar: Place) -> None:
        record = self._ledger.packed.get(tar.name, {"clips": []})
        finished = [name for name in self._clips[tar] if name in self._ledger.done]
        if finished != record["clips"]:
            samples = [self._sample(name, name not in record["clips"]) for name in finished]
            self._ledger.append({"packed": tar.name, "clips": finished, **pack(tar, samples)})
        for name in finished:  # recorded: their own files may go
            file = self._sample(name, True).content
            assert file is not None
            remove(file, self._out)


def pack(path: Place, samples: Sequence[ShardSample]) -> dict[str, Any]:
    """Write a tar, whose bytes depend on the samples only; returns its size and SHA-256. Raises OutputError.

    Samples without a file of their own are copied from the tar that is there.
    """

    def fill(file: BinaryIO) -> None:
        earlier = _contents(path) if any(sample.content is None for sample in samples) else {}
        with tarfile.open(fileobj=file, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                tokens = earlier[sample.key] if sample.content is None else sample.content.read_bytes()
                facts = json.dumps(sample.facts, ensure_ascii=False, indent=1, sort_keys=True)
                for suffix, content in (("json", facts.encode()), ("safetensors", tokens)):
                    member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    PartFile(path, force=True).write_through(fill)
    return {"size": size_of(path), "sha256": sha256_of(path)}


def _contents(path: Place) -> dict[str, bytes]:
    found = {}
    with path.open("rb") as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            file = tar.extractfile(member)
            if suffix == "safetensors" and file is not None:
                found[key] = file.read()
    return found
