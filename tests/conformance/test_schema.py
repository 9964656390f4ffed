"""The limits, types and words of manifest.schema.json, tried one by one: all runtimes refuse what breaks them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import KIT
from cpp_program import ROOT, Build
from mutations import whole
from refusals import Refusal
from test_refusals import judged_by_cpp, judged_by_node

pytest_plugins = ["cpp_builds"]

SCHEMA = json.loads((ROOT / "runtime/vidtok_runtime/bundle/manifest.schema.json").read_text())
Place = tuple[str | int, ...]
# Whole numbers whose limits no other rule comes before.
FREE = {"channels", "space", "time", "receptive_field"}


def rule_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or what it refers to."""
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def leaves(schema: dict[str, Any], value: Any, path: Place = ()) -> Iterator[tuple[dict[str, Any], Place]]:
    """Every rule of the schema that a value meets, and where."""
    rule = rule_of(schema)
    yield rule, path
    if isinstance(value, dict):
        for name, inner in rule.get("properties", {}).items():
            if name in value:  # those that are not required may be missing
                yield from leaves(inner, value[name], (*path, name))
        if isinstance(others := rule.get("additionalProperties"), dict):
            for name in value:
                yield from leaves(others, value[name], (*path, name))
    elif isinstance(value, list) and "items" in rule:
        for i, item in enumerate(value[:2]):
            yield from leaves(rule["items"], item, (*path, i))


def breaking(rule: dict[str, Any]) -> Iterator[Any]:
    """Values that break a rule."""
    for option in rule.get("anyOf", []):
        yield from (value for value in breaking(option) if value != "surplus")
    types = rule.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and "null" not in types:
        yield None
    if "integer" in types:
        yield from (rule["minimum"] - 1, rule["maximum"] + 1, 1.5, "1", True)
    if "boolean" in types:
        yield from (0, "true")
    if "string" in types:
        yield from (5, "x" * 301, "\x1b", "\u202e", ["x"])
    if "array" in types:
        yield from ({}, "x")
    if "object" in types:
        yield from ([], "x")
    if "enum" in rule or "const" in rule:
        yield from ("other", 10**6, "")
    if "pattern" in rule:
        yield from ("", " ", "..", "0" * 63)


def reached(value: Any, path: Place) -> Any:
    """What lies at a path."""
    for step in path:
        value = value[step]
    return value


def changed(manifest: dict[str, Any], path: Place, value: Any) -> bytes:
    other = copy.deepcopy(manifest)
    reached(other, path[:-1])[path[-1]] = value
    return json.dumps(other).encode()


def refused(manifest: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for rule, path in leaves(SCHEMA, manifest):
        for value in breaking(rule) if path else ():
            yield f"{path} is {value!r}"[:200], changed(manifest, path, value)
        for name in rule.get("required", []):
            other = copy.deepcopy(manifest)
            inner = reached(other, path)
            if inner is None:
                continue
            del inner[name]
            yield f"{path} lacks {name}", json.dumps(other).encode()


def accepted(manifest: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for rule, path in leaves(SCHEMA, manifest):
        if path and path[-1] in FREE:
            for limit in (rule["minimum"], rule["maximum"]):
                yield f"{path} is {limit}", changed(manifest, path, limit)
        if path and "enum" in rule and path[-1] == "part":
            for word in rule["enum"]:
                yield f"{path} is {word}", changed(manifest, path, word)


@pytest.mark.parametrize("name", ["fsq-causal", "fsq-noncausal", "kl-causal-v1.1"])
def test_all_runtimes_keep_to_the_schema(plain: Build, name: str, tmp_path: Path) -> None:
    file = f"{name}/manifest.json"
    manifest = json.loads((KIT / file).read_text())
    manifest["graphs"] = [{**row, "states": row["states"][:2]} for row in manifest["graphs"]]
    cases = [
        {"name": text, **whole(file, content), "verdict": verdict, "why": "the schema"}
        for verdict, found in (("refuse", refused(manifest)), ("accept", accepted(manifest)))
        for text, content in found
    ]
    assert len(cases) > 500
    for case in cases:
        said = Refusal(part="file", **case).refused(tmp_path / "python")
        assert (said is not None) == (case["verdict"] == "refuse"), (case["name"], said)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"format": "vidtok-refusals", "version": 1, "cases": cases}))
    judged_by_cpp(path)
    judged_by_node(path)
