"""One graph of a bundle as the manifest tells of it: what it takes, gives and remembers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidtok_runtime.checked_json import Fields

ROLES = ("encoder", "decoder")
FIRST_CALL, SECOND_CALL, FLUSH_CALL = "first call", "second call", "flush call"
_DTYPES = ("float32", "float16", "int32", "int64", "uint8", "int8", "bool")
_AXIS = re.compile("([NTHW])(/[1-9][0-9]?)?|[1-9][0-9]{0,5}")
_MAX_FIXED = 2**24  # product of the numbers among the axes of one array
_TIME = -3  # axis of the data, of `N C T H W` as of `N T H W`


def shape_of(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers for axes as text: `N 512 2 H/8 W/8` with `{"N": 1, "H": 64, "W": 64}` is (1, 512, 2, 8, 8)."""
    shape = []
    for axis in axes.split():
        symbol, _, divisor = axis.partition("/")
        size = sizes[symbol] if symbol in sizes else int(symbol)
        shape.append(size // int(divisor or 1))
    return tuple(shape)


def sizes_of(axes: str, shape: Sequence[int]) -> dict[str, int]:
    """The inverse: what N, T, H and W are when axes have these sizes."""
    sizes = {}
    for axis, size in zip(axes.split(), shape, strict=True):
        symbol, _, divisor = axis.partition("/")
        if not symbol.isdigit():
            sizes[symbol] = size * int(divisor or 1)
    return sizes


@dataclass(frozen=True)
class Port:
    """Input or output of a graph."""

    name: str
    dtype: str
    axes: str


@dataclass(frozen=True)
class State:
    """Memory of a graph: feed `output` of one call to `input` of the next; `initial` at the start of a stream."""

    input: str
    output: str
    dtype: str
    axes: str
    initial: str


@dataclass(frozen=True)
class Flag:
    """Input that is true in some calls of a stream and false in all others; `set` lists these calls."""

    name: str
    dtype: str
    axes: str
    set: tuple[str, ...]


@dataclass(frozen=True)
class GraphEntry:
    """One graph of a bundle."""

    role: str
    file: str
    sha256: str
    precision: str
    providers: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...]
    flags: tuple[Flag, ...]

    @property
    def ports(self) -> dict[str, dict[str, Port]]:
        """All that the graph takes (`inputs`) and gives (`outputs`), by name."""
        flags = [Port(f.name, f.dtype, f.axes) for f in self.flags]
        takes = [*self.inputs, *flags, *(Port(s.input, s.dtype, s.axes) for s in self.states)]
        gives = [*self.outputs, *(Port(s.output, s.dtype, s.axes) for s in self.states)]
        return {"inputs": {p.name: p for p in takes}, "outputs": {p.name: p for p in gives}}


def graph_entry(raw: Fields) -> GraphEntry:
    """A row of `graphs`; raises ValueError for whatever a runtime could not use."""
    entry = GraphEntry(
        role=raw.one_of("role", ROLES),
        file=_file_name(raw),
        sha256=raw.sha256("sha256"),
        precision=raw.text("precision"),
        providers=raw.texts("providers"),
        inputs=tuple(Port(p.text("name"), _dtype(p), _axes(p)) for p in raw.rows("inputs")),
        outputs=tuple(Port(p.text("name"), _dtype(p), _axes(p)) for p in raw.rows("outputs")),
        states=tuple(
            State(s.text("input"), s.text("output"), _dtype(s), _axes(s), s.one_of("initial", ("zeros",)))
            for s in raw.rows("states")
        ),
        flags=tuple(_flag(f) for f in raw.rows("flags")),
    )
    _check(entry)
    return entry


def _check(entry: GraphEntry) -> None:
    if len(entry.inputs) != 1 or not entry.outputs:
        raise ValueError(f"the {entry.role} has {len(entry.inputs)} inputs of data and {len(entry.outputs)} outputs")
    ports = entry.ports
    if len(ports["inputs"]) != 1 + len(entry.flags) + len(entry.states):
        raise ValueError(f"two inputs of the {entry.role} have one name")
    if len(ports["outputs"]) != len(entry.outputs) + len(entry.states):
        raise ValueError(f"two outputs of the {entry.role} have one name")
    data, result = entry.inputs[0], entry.outputs[0]
    tokens, video = (result, data) if entry.role == "encoder" else (data, result)
    if video.name != "video" or tokens.name not in ("latent", "indices"):
        raise ValueError(f"the {entry.role} turns {data.name} into {result.name}, not video into latent or indices")
    for port in (video, tokens):
        axes = port.axes.split()
        if len(axes) != (4 if port.name == "indices" else 5) or axes[_TIME][0] != "T":
            raise ValueError(f"the axes of {port.name} are {port.axes!r}")
    known = {axis[0] for axis in data.axes.split()}
    for port in [*ports["inputs"].values(), *ports["outputs"].values()]:
        if unknown := {axis[0] for axis in port.axes.split() if axis[0].isalpha()} - known:
            raise ValueError(f"the axes of {port.name} name {', '.join(sorted(unknown))}, which the data do not have")


def _file_name(raw: Fields) -> str:
    """The graph's file, which lies in the bundle's folder itself and nowhere else."""
    name = raw.text("file")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.onnx", name):
        raise ValueError(f"the file {name!r} is not the plain name of an .onnx file inside the bundle")
    return name


def _dtype(raw: Fields) -> str:
    return raw.one_of("dtype", _DTYPES)


def _axes(raw: Fields) -> str:
    axes = raw.text("axes")
    if len(axes.split(" ")) > 6 or not all(_AXIS.fullmatch(axis) for axis in axes.split(" ")):
        raise ValueError(f"the axes {axes!r} of {raw.where} are not like 'N 512 2 H/8 W/8'")
    if math.prod(int(axis) for axis in axes.split(" ") if axis.isdigit()) > _MAX_FIXED:
        raise ValueError(f"the axes {axes!r} of {raw.where} are too large")
    return axes


def _flag(raw: Fields) -> Flag:
    occasions = raw.texts("set")
    if unknown := set(occasions) - {FIRST_CALL, SECOND_CALL, FLUSH_CALL}:
        raise ValueError(f"when to set {raw.text('name')} is unknown to this runtime: {', '.join(sorted(unknown))}")
    axes = _axes(raw)
    if not axes.replace(" ", "").isdigit():
        raise ValueError(f"the axes {axes!r} of the flag {raw.text('name')} are not numbers")
    return Flag(raw.text("name"), _dtype(raw), axes, occasions)
