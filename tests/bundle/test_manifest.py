"""The manifest's schema and what this package makes of manifests: one says what the other does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vidtok_runtime.bundle import graph_entry, manifest, stream_spec
from vidtok_runtime.bundle.information import parity, source
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.errors import BundleError

ROOT = Path(__file__).parents[2]
KIT = ROOT / "tests/conformance/kit"
SCHEMA = json.loads((Path(manifest.__file__).parent / "manifest.schema.json").read_text())
DEFS, STREAM = SCHEMA["$defs"], SCHEMA["properties"]["stream"]["properties"]
GRAPH = SCHEMA["properties"]["graphs"]["items"]["properties"]
BUNDLES = sorted(path.parent for folder in (KIT, SHIPPED) for path in folder.glob("*/manifest.json"))


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_our_bundles_keep_to_the_schema(folder: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((folder / "manifest.json").read_text()), SCHEMA)
    read_manifest(folder)


def test_what_breaks_the_schema_is_refused(tmp_path: Path) -> None:
    """Every key of every object, taken away: what the schema then refuses is what the reader refuses."""
    folder = Path(shutil.copytree(KIT / "kl-causal-v1.1", tmp_path / "b"))
    whole = json.loads((folder / "manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(SCHEMA)
    refused = 0
    for path in _keys(whole, ("graphs", "stream", "weights")):
        raw = json.loads(json.dumps(whole))
        inside: Any = raw
        for key in path[:-1]:
            inside = inside[key]
        del inside[path[-1]]
        (folder / "manifest.json").write_text(json.dumps(raw))
        if validator.is_valid(raw):
            continue  # what a reader says to it is in refusals.json

        refused += 1
        with pytest.raises(BundleError):
            read_manifest(folder)
    assert refused > 60


def _keys(value: Any, inside: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Paths of all keys of an object, of the first of each list, and of those in the objects named."""
    if isinstance(value, list):
        return [(0, *rest) for rest in _keys(value[0], ())] if value else []
    if not isinstance(value, dict):
        return []
    found: list[tuple[Any, ...]] = []
    for key, item in value.items():
        found.append((key,))
        if not inside or key in inside:
            found += [(key, *rest) for rest in _keys(item, ())]
    return found


def test_limits_are_those_of_the_schema() -> None:
    for name, limit in (
        ("time_factor", stream_spec.MAX_TIME_FACTOR),
        ("spatial_multiple", stream_spec.MAX_SPATIAL_MULTIPLE),
        ("latent_channels", stream_spec.MAX_CHANNELS),
        ("codebook_size", stream_spec.MAX_CODES),
    ):
        assert (STREAM[name]["minimum"], STREAM[name]["maximum"]) == (1, limit)
    calls = DEFS["calls"]["properties"]
    longest = stream_spec.MAX_LENGTH
    assert STREAM["levels"]["maxItems"] == DEFS["scale"]["maxItems"] == stream_spec.MAX_CHANNELS
    assert STREAM["front_frames"]["maximum"] == stream_spec.MAX_TIME_FACTOR - 1
    assert DEFS["length"]["maximum"] == STREAM["length"]["properties"]["first"]["maximum"] == longest
    assert {calls[name]["maximum"] for name in ("first", "max")} == {longest}
    assert STREAM["groups"]["properties"]["multiple"]["maximum"] == longest
    assert {STREAM["groups"]["properties"][f"shared_{n}"]["maximum"] for n in ("frames", "latents")} == {longest - 1}
    assert calls["drop"]["anyOf"][0]["maximum"] == calls["flush"]["properties"]["keep"]["maximum"] == longest
    assert calls["flush"]["properties"]["size"]["maximum"] == stream_spec.MAX_FLUSH
    stage = GRAPH["stages"]["items"]["properties"]
    assert stage["channels"]["maximum"] == graph_entry.MAX_STAGE_CHANNELS
    assert stage["space"]["maximum"] == stream_spec.MAX_SPATIAL_MULTIPLE
    assert stage["time"]["maximum"] == stream_spec.MAX_TIME_FACTOR
    assert GRAPH["receptive_field"]["maximum"] == graph_entry.MAX_RECEPTIVE_FIELD


def test_words_are_those_of_the_schema() -> None:
    assert tuple(DEFS["dtype"]["enum"]) == graph_entry.DTYPES
    assert tuple(GRAPH["role"]["enum"]) == graph_entry.ROLES
    assert tuple(GRAPH["part"]["enum"]) == graph_entry.PARTS
    flags = DEFS["calls"]["properties"]["flags"]["additionalProperties"]
    assert tuple(flags["items"]["enum"]) == stream_spec.CALLS
    assert DEFS["calls"]["properties"]["drop"]["anyOf"][1]["const"] == stream_spec.SURPLUS
    assert SCHEMA["properties"]["format"]["const"] == manifest.FORMAT
    assert SCHEMA["properties"]["format_version"]["const"] == manifest.FORMAT_VERSION


@pytest.mark.parametrize("language", ["cpp/include/vidtok/*.hpp", "web/src/*.js"])
def test_the_other_runtimes_have_the_same_words_and_limits(language: str) -> None:
    texts = [path.read_text() for path in sorted((ROOT / "runtime").glob(language))]
    text = "\n".join(texts)
    quoted = set(re.findall(r"[\"']([a-z0-9 ]+)[\"']", text))
    words = {*graph_entry.DTYPES, *graph_entry.ROLES, *graph_entry.PARTS, *stream_spec.CALLS, stream_spec.SURPLUS}
    assert words <= quoted, words - quoted
    limits = {
        "time_factor": stream_spec.MAX_TIME_FACTOR,
        "spatial_multiple": stream_spec.MAX_SPATIAL_MULTIPLE,
        "latent_channels": stream_spec.MAX_CHANNELS,
        "codebook_size": stream_spec.MAX_CODES,
        "shared_latents": stream_spec.MAX_LENGTH - 1,
        "multiple": stream_spec.MAX_LENGTH,
        "keep": stream_spec.MAX_LENGTH,
        "channels": graph_entry.MAX_STAGE_CHANNELS,
        "receptive_field": graph_entry.MAX_RECEPTIVE_FIELD,
    }
    for file in texts:
        constants = constants_of(text) | constants_of(file)  # some are imported
        for name, limit in limits.items():
            for most in re.findall(rf"[\"']{name}[\"'], [01], ([\w *<-]+)\)", file):
                if not most.startswith("max_other"):  # of token files, which say no more than that it is a number
                    words = [str(constants.get(word, word)) for word in most.split()]
                    assert number_of(" ".join(words)) == limit, (name, most)


def constants_of(text: str) -> dict[str, int]:
    """Numbers that have a name."""
    found = {name: number_of(value) for name, value in re.findall(r"\b(\w+) = ([0-9][0-9 *<-]*)[\n;,/ ]", text)}
    for names, values in re.findall(r"\[(\w+(?:, \w+)*)\] = \[([^\]]+)\]", text):
        pairs = zip(names.split(", "), values.split(", "), strict=False)
        found |= {name: number_of(value) for name, value in pairs if re.fullmatch(r"[0-9 *<-]+", value)}
    return found


def number_of(text: str) -> int:
    """Of `65536`, `1 << 16`, `2 ** 16 - 1`."""
    match = re.fullmatch(r"\s*(\d+)(?:\s*(\*\*|<<)\s*(\d+))?(?:\s*-\s*(\d+))?\s*", text)
    assert match is not None, text
    base, sign, power, less = match.groups()
    value = int(base) ** int(power) if sign == "**" else int(base) << int(power or 0)
    return value - int(less or 0)


def test_bundles_of_version_1_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "vidtok-bundle", "format_version": 1}))
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    said = str(caught.value).removeprefix(f"{tmp_path / 'manifest.json'} ")
    assert said == "has format version 1, this runtime reads 2; export again or update vidtok-onnx"


def test_what_is_for_people_may_be_anything(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(KIT / "fsq-causal", tmp_path / "b"))
    raw = json.loads((folder / "manifest.json").read_text())
    assert source(read_manifest(folder)) == raw["weights"]["source"]
    assert len(parity(read_manifest(folder))) == len(raw["parity"]["rows"])
    raw["weights"]["source"] = 5
    raw["parity"]["rows"][0]["video_max_diff"] = None
    (folder / "manifest.json").write_text(json.dumps(raw))
    assert (source(read_manifest(folder)), parity(read_manifest(folder))) == (None, [])
    for key in ("parity", "operations", "tools", "opset"):
        raw.pop(key)
    (folder / "manifest.json").write_text(json.dumps(raw))
    assert (source(read_manifest(folder)), parity(read_manifest(folder))) == (None, [])
