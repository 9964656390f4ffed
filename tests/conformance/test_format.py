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
from cases import Case, every_case

from vidtok_runtime import Tokenizer


class Bundle:
    """As the section "Bundle" says."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        assert (self.manifest["format"], self.manifest["format_version"]) == ("vidtok-bundle", 1)
        self.graphs: dict[str, Any] = {}
        self.sessions: dict[str, Any] = {}
        for graph in self.manifest["graphs"]:
            if "cpu" in graph["providers"] and graph["role"] not in self.graphs:
                content = (folder / graph["file"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == graph["sha256"]
                self.graphs[graph["role"]] = graph
                self.sessions[graph["role"]] = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(self, role: str, calls: list[np.ndarray], height: int, width: int, flush: int = 0) -> list[np.ndarray]:
        """First output of every call of a stream; the last `flush` calls come after its end."""
        graph, session = self.graphs[role], self.sessions[role]
        sizes = {"N": 1, "H": height, "W": width}

        def shape(axes: str) -> list[int]:
            parts = [axis.split("/") for axis in axes.split()]
            return [sizes.get(p[0]) // int((*p, 1)[1]) if p[0] in sizes else int(p[0]) for p in parts]

        states = {s["input"]: np.zeros(shape(s["axes"]), s["dtype"]) for s in graph["states"]}
        out = []
        for i, x in enumerate(calls):
            occasions = {0: "first call", 1: "second call"}.get(i), "flush call" if i >= len(calls) - flush else None
            flags = {
                f["name"]: np.full(shape(f["axes"]), any(o in f["set"] for o in occasions), f["dtype"])
                for f in graph["flags"]
            }
            names = [graph["outputs"][0]["name"], *(s["output"] for s in graph["states"])]
            result, *new = session.run(names, {graph["inputs"][0]["name"]: x, **flags, **states})
            states = dict(zip(states, new, strict=True))
            out.append(result)
        return out

    def encode(self, frames: np.ndarray, chunk: int) -> np.ndarray:
        """Bytes `[T, H, W, 3]` to an array of a token file, in calls of so many latents."""
        m = self.manifest
        f, s = m["time_factor"], m["spatial_multiple"]
        x = frames.astype(np.float32) / np.float32(127.5) - np.float32(1)
        x = np.concatenate([x[:1]] * m["front_padding"]["frames"] + [x])
        x = np.concatenate([x] + [x[-1:]] * (-len(x) % f))
        rows = np.minimum(np.arange(-(-x.shape[1] // s) * s), x.shape[1] - 1)
        columns = np.minimum(np.arange(-(-x.shape[2] // s) * s), x.shape[2] - 1)
        x = np.ascontiguousarray(x[:, rows][:, :, columns].transpose(3, 0, 1, 2)[None])
        size = m["window"]["frames"] if m["window"] else chunk * f
        calls = [x[:, :, i : i + size] for i in range(0, x.shape[2], size)]
        out = np.concatenate(self.run("encoder", calls, len(rows), len(columns)), axis=-3)[0]
        return out if m["codebook_size"] else out.transpose(1, 0, 2, 3)

    def decode(self, data: np.ndarray, num_frames: int, height: int, width: int, chunk: int) -> np.ndarray:
        """An array of a token file to float32 `[T, H, W, 3]`."""
        m = self.manifest
        s = m["spatial_multiple"]
        x = (data if m["codebook_size"] else data.transpose(1, 0, 2, 3))[None]
        size = m["window"]["frames"] // m["time_factor"] if m["window"] else chunk
        first = m["chunk"]["first_decoder_latents"] or 0
        starts = [0] * bool(first) + list(range(first, x.shape[-3], size))
        calls = [x[..., a:b, :, :] for a, b in zip(starts, [*starts[1:], x.shape[-3]], strict=True)]
        if m["flush"]:
            calls.append(np.repeat(x[..., -1:, :, :], m["flush"]["decoder_latents"], axis=-3))
        out = self.run("decoder", calls, data.shape[-2] * s, data.shape[-1] * s, flush=bool(m["flush"]))
        if m["flush"]:
            out[-1] = out[-1][:, :, : m["flush"]["keep_frames"]]
        drop = m["drop_decoded_frames"]
        video = np.concatenate(out, axis=2)[0, :, drop : drop + num_frames, :height, :width]
        return np.clip(video, -1, 1).transpose(1, 2, 3, 0)


def read_token_file(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays, as the section "Token file" says."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.pop("__metadata__")
    assert (metadata["format"], metadata["format_version"]) == ("vidtok-tokens", "2")
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
    data = bundle.encode(case.read_input(), chunk)
    case.check_data(data)
    metadata, arrays = read_token_file(case.tokens)
    tokens = arrays["indices" if case.tokens_exact else "latent"]
    case.check_video(bundle.decode(tokens.astype(data.dtype), *case.size, chunk))

    m = bundle.manifest
    own = {
        "format": "vidtok-tokens",
        "format_version": "2",
        "variant": m["variant"]["name"],
        "weights_sha256": m["weights"]["sha256"],
        **dict(zip(("num_frames", "height", "width"), map(str, case.size), strict=True)),
        "time_factor": str(m["time_factor"]),
        "front_frames": str(m["front_padding"]["frames"]),
        "look_ahead": str(m["look_ahead"]),
        "fps": "25",
        "precision": "fp32",
        "provider": "reference",
        "skip": "0",
    }
    if m["codebook_size"]:
        own["codebook_size"] = str(m["codebook_size"])
    if m["window"]:
        own["window"] = str(m["window"]["frames"])
    assert own == {k: v for k, v in metadata.items() if k != "checksum"}
    write_token_file(tmp_path / "own.safetensors", own, data, m["codebook_size"])
    case.check_token_file(tmp_path / "own.safetensors")


@every_case
def test_groups_of_a_gop_are_streams(case: Case, tmp_path: Path) -> None:
    bundle = Bundle(case.bundle)
    m, gop = bundle.manifest, 2
    if m["window"]:
        pytest.skip("windows stand on their own already")
    tok = Tokenizer(case.bundle, "cpu", threads=1)
    path = tmp_path / "gop.safetensors"
    tok.encode(case.read_input(), gop=gop).save(path)
    metadata, arrays = read_token_file(path)
    assert metadata["gop"] == "2"
    data = arrays["indices" if case.tokens_exact else "latent"].astype(np.int32 if case.tokens_exact else np.float32)
    frames, count = case.read_input(), gop * m["time_factor"] - m["front_padding"]["frames"]
    starts = range(0, len(frames), count)
    ours = np.concatenate([bundle.encode(frames[i : i + count], gop) for i in starts])
    np.testing.assert_allclose(ours, data, atol=1e-5)
    parts = [(data[j * gop : (j + 1) * gop], min(count, len(frames) - i)) for j, i in enumerate(starts)]
    video = np.concatenate([bundle.decode(latents, n, *case.size[1:], gop) for latents, n in parts])
    np.testing.assert_allclose(video, tok.decode(tok.encode(frames, gop=gop), "float32"), atol=1e-4)
