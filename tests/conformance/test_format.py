"""docs/format.md suffices: a runtime written from that page alone passes the kit.

Nothing of this project is imported for it, only JSON, numpy and an inference engine.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cases import Case, every_case, read_cases
from made_kit import make_kit

from vidtok_runtime import Tokenizer


def shape(axes: str, sizes: dict[str, int]) -> list[int]:
    """Numbers for axes."""
    found = []
    for axis in axes.split():
        symbol, _, divisor = axis.partition("/")
        found.append(-(-(sizes[symbol] if symbol in sizes else int(symbol)) // int(divisor or 1)))
    return found


def cut(calls: dict[str, Any], length: int, longest: int) -> list[int]:
    """Sizes of the calls of a stream, of at most `longest` where that is allowed."""
    found = [calls["first"]] if calls["first"] and calls["first"] <= length else []
    longest = length if calls["max"] is None else calls["max"] if calls["exact"] else min(calls["max"], longest)
    while left := length - sum(found):
        size = min(left, longest)
        whole = size - size % calls["multiple"]
        found.append(size if calls["exact"] or not whole else whole)
    return found


class Bundle:
    """As the section "Bundle" says."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        assert (self.manifest["format"], self.manifest["format_version"]) == ("vidtok-bundle", 2)
        self.stream = self.manifest["stream"]
        rows = [row for row in self.manifest["graphs"] if "cpu" in row["providers"]]
        precision = next(row["precision"] for row in rows if row["role"] == "encoder")
        self.chains: dict[str, list[Any]] = {"encoder": [], "decoder": []}
        for row in self.manifest["weights_files"]:
            assert hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        for row in rows:
            if row["precision"] == precision:
                content = (folder / row["file"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == row["sha256"]
                session = onnxruntime.InferenceSession(folder / row["file"], providers=["CPUExecutionProvider"])
                self.chains[row["role"]].append((row, session))

    def run(self, role: str, x: np.ndarray, longest: int, size: tuple[int, int]) -> np.ndarray:
        """What the calls of a stream give, along the third axis from the end; `size` is that of the frames."""
        calls, f = self.stream[role], self.stream["time_factor"]
        cuts = cut(calls, x.shape[-3], longest)
        parts = np.split(x, np.cumsum(cuts)[:-1], axis=-3)
        if calls["flush"]:
            parts.append(np.repeat(x[..., -1:, :, :], calls["flush"]["size"], axis=-3))
        states: list[Any] = [None for _ in self.chains[role]]
        out = []
        for i, value in enumerate(parts):
            flush = i == len(cuts)
            now = {"first call"} if i == 0 else {"second call"} if i == 1 else set()
            now |= {"flush call"} if flush else set()
            sizes = {"N": 1, "T": value.shape[-3] * (1 if role == "encoder" else f), "H": size[0], "W": size[1]}
            for k, (row, session) in enumerate(self.chains[role]):
                if states[k] is None:
                    states[k] = {s["input"]: np.zeros(shape(s["axes"], sizes), s["dtype"]) for s in row["states"]}
                flags = {
                    flag["name"]: np.full(shape(flag["axes"], sizes), bool(now & set(calls["flags"][flag["name"]])))
                    for flag in row["flags"]
                }
                names = [row["outputs"][0]["name"], *(s["output"] for s in row["states"])]
                feeds = {row["inputs"][0]["name"]: value, **flags, **states[k]}
                value, *new = session.run(names, feeds)
                states[k] = dict(zip(states[k], new, strict=True))
            out.append(value[..., : calls["flush"]["keep"], :, :] if flush else value)
        return np.concatenate(out, axis=-3)

    def groups(self, count: int, unit: str, given: dict[str, int] | None) -> list[tuple[int, int]]:
        """Where the groups of so many `frames` or `latents` start and end."""
        if given is None:
            return [(0, count)]
        length, shared = given[unit], given[f"shared_{unit}"]
        found = [(0, min(length, count))]
        while found[-1][1] < count:
            start = found[-1][0] + length - shared
            found.append((start, min(count, start + length)))
        return found

    def encode(self, frames: np.ndarray, chunk: int, given: dict[str, int] | None) -> np.ndarray:
        """Bytes `[T, H, W, 3]` to an array of a token file, in calls of so many latents if they may be so long."""
        m, f, s = self.stream, self.stream["time_factor"], self.stream["spatial_multiple"]
        low, high = m["pixel_range"]
        x = (frames.astype(np.float32) / np.float32(127.5) - np.float32(1)) * (high - low) / 2 + (high + low) / 2
        multiple = m.get("padding_multiple") or s
        height, width = (-(-n // multiple) * multiple for n in x.shape[1:3])
        if m["square"]:
            height = width = max(height, width)
        rows = np.minimum(np.arange(height), x.shape[1] - 1)
        columns = np.minimum(np.arange(width), x.shape[2] - 1)
        x = x[:, rows][:, :, columns].astype(np.float32)
        found = []
        for i, (start, end) in enumerate(self.groups(len(x), "frames", given)):
            group = np.concatenate([x[start : start + 1]] * m["front_frames"] + [x[start:end]])
            length = self.padded(len(group))
            group = np.concatenate([group] + [group[-1:]] * (length - len(group)))
            video = np.ascontiguousarray(group.transpose(3, 0, 1, 2)[None])
            out = self.run("encoder", video, chunk * f, (height, width))[0]
            out = out if m["codebook_size"] else out.transpose(1, 0, 2, 3)
            found.append(out[given["shared_latents"] if given and i else 0 :])
        return np.concatenate(found)

    def padded(self, length: int) -> int:
        first, multiple = self.stream["length"]["first"], self.stream["length"]["multiple"]
        return first + max(0, -(-(length - first) // multiple)) * multiple

    def decode(
        self, data: np.ndarray, size: tuple[int, int, int], chunk: int, given: dict[str, int] | None
    ) -> np.ndarray:
        """An array of a token file to float32 `[T, H, W, 3]`."""
        m, s, f = self.stream, self.stream["spatial_multiple"], self.stream["time_factor"]
        num_frames, height, width = size
        x = (data if m["codebook_size"] else data.transpose(1, 0, 2, 3))[None]
        low, high = m["pixel_range"]
        found, left = [], num_frames
        for i, (start, end) in enumerate(self.groups(len(data), "latents", given)):
            shared = given["shared_frames"] if given and i else 0
            frames = min(given["frames"], left + shared) if given else left
            left -= frames - shared
            out = self.run("decoder", x[..., start:end, :, :], chunk, (data.shape[-2] * s, data.shape[-1] * s))[0]
            drop = m["decoder"]["drop"]
            if drop == "surplus":
                drop = f * (end - start) - (self.padded(m["front_frames"] + frames) - m["front_frames"])
            found.append(out[:, drop : drop + frames][:, shared:])
        video = np.concatenate(found, axis=1)[:, :, :height, :width]
        return np.clip((video - (high + low) / 2) / ((high - low) / 2), -1, 1).transpose(1, 2, 3, 0)


def groups_of(metadata: dict[str, str]) -> dict[str, int] | None:
    """The groups of a token file."""
    if "groups" not in metadata:
        return None
    return {name: int(number) for name, number in (word.split("=") for word in metadata["groups"].split(" "))}


def read_token_file(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays, as the section "Token file" says."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.pop("__metadata__")
    assert (metadata["format"], metadata["format_version"]) == ("vidtok-tokens", "3")
    assert metadata["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    dtypes = {"F32": "<f4", "F16": "<f2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U8": "u1"}
    return metadata, {
        name: np.frombuffer(data[slice(*a["data_offsets"])], dtypes[a["dtype"]]).reshape(a["shape"])
        for name, a in header.items()
    }


def write_token_file(path: Path, metadata: dict[str, str], data: np.ndarray, codes: int | None) -> None:
    """A file that readers take."""
    name, dtype, code = ("latent", "<f4", "F32") if codes is None else ("indices", "<i4", "I32")
    if codes is not None and codes <= 65536:
        dtype, code = "<u2", "U16"
    content = data.astype(dtype).tobytes()
    padding = b"\0" * (-len(content) % 8)
    pts = np.arange(int(metadata["num_frames"]), dtype="<i8").tobytes()
    parts = {name: (content, code, list(data.shape))}
    if padding:
        parts["padding"] = padding, "U8", [len(padding)]
    parts["pts"] = pts, "I64", [len(pts) // 8]
    whole = b"".join(part for part, *_ in parts.values())
    header: dict[str, Any] = {"__metadata__": metadata | {"checksum": f"sha256:{hashlib.sha256(whole).hexdigest()}"}}
    end = 0
    for key, (part, kind, shape) in parts.items():
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(part)]}
        end += len(part)
    text = json.dumps(header).encode().ljust(2040)
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole)


@pytest.mark.parametrize("chunk", [1, 2])
@every_case
def test_a_runtime_of_this_page_passes(case: Case, chunk: int, tmp_path: Path) -> None:
    bundle = Bundle(case.bundle)
    metadata, arrays = read_token_file(case.tokens)
    given = groups_of(metadata)
    data = bundle.encode(case.read_input(), chunk, given)
    case.check_data(data)
    tokens = arrays["indices" if case.tokens_exact else "latent"]
    case.check_video(bundle.decode(tokens.astype(data.dtype), case.size, chunk, given))

    m, stream = bundle.manifest, bundle.stream
    own = {
        "format": "vidtok-tokens",
        "format_version": "3",
        "family": m["family"],
        "name": m["name"],
        "weights_sha256": m["weights"]["sha256"],
        **dict(zip(("num_frames", "height", "width"), map(str, case.size), strict=True)),
        "time_factor": str(stream["time_factor"]),
        "front_frames": str(stream["front_frames"]),
        "look_ahead": str((stream["decoder"]["flush"] or {"keep": 0})["keep"]),
        "length": "first={first} multiple={multiple}".format(**stream["length"]),
        "fps": "25",
        "precision": "fp32",
        "provider": "reference",
        "skip": "0",
    }
    if stream["codebook_size"]:
        own["codebook_size"] = str(stream["codebook_size"])
    if stream["groups"]:
        names = ("frames", "latents", "shared_frames", "shared_latents", "whole")
        own["groups"] = " ".join(f"{name}={int(stream['groups'][name])}" for name in names)
    if stream["decoder"]["exact"]:
        own["exact"] = f"first={stream['decoder']['first'] or 0} multiple={stream['decoder']['max']}"
    assert own == {k: v for k, v in metadata.items() if k != "checksum"}
    write_token_file(tmp_path / "own.safetensors", own, data, stream["codebook_size"])
    case.check_token_file(tmp_path / "own.safetensors")


@every_case
def test_groups_of_a_gop_are_streams(case: Case, tmp_path: Path) -> None:
    bundle = Bundle(case.bundle)
    if bundle.stream["groups"]:
        pytest.skip("its groups stand on their own already")
    tok = Tokenizer(case.bundle, "cpu", threads=1)
    path = tmp_path / "gop.safetensors"
    gop = bundle.stream["decoder"]["first"] if bundle.stream["decoder"]["exact"] else 2
    tok.encode(case.read_input(), gop=gop).save(path)
    metadata, arrays = read_token_file(path)
    given = groups_of(metadata)
    frames = 4 * gop - 3
    assert given == {"frames": frames, "latents": gop, "shared_frames": 0, "shared_latents": 0, "whole": 0}
    data = arrays["indices" if case.tokens_exact else "latent"].astype(np.int32 if case.tokens_exact else np.float32)
    np.testing.assert_allclose(bundle.encode(case.read_input(), 2, given), data, atol=1e-5)
    video = bundle.decode(data, case.size, 2, given)
    np.testing.assert_allclose(video, tok.decode(tok.encode(case.read_input(), gop=gop), "float32"), atol=1e-4)


def test_streams_of_every_kind(tmp_path: Path) -> None:
    """On graphs made by hand."""
    make_kit(tmp_path)
    for case in read_cases(tmp_path):
        bundle = Bundle(case.bundle)
        metadata, arrays = read_token_file(case.tokens)
        for chunk in (2, 400):
            data = bundle.encode(case.read_input(), chunk, groups_of(metadata))
            case.check_data(data)
            case.check_video(bundle.decode(arrays["latent"], case.size, chunk, groups_of(metadata)))
