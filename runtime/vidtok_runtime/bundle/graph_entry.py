"""One graph of a bundle as the manifest tells of it: what it takes, gives and remembers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vidtok_runtime.bundle.stream_spec import MAX_SPATIAL_MULTIPLE, MAX_TIME_FACTOR
from vidtok_runtime.checked_json import Fields

ROLES = ("encoder", "decoder")
PARTS = ("local", "global")
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "int8", "bool")
_AXIS = re.compile("([NTHW])(/[1-9][0-9]?)?|[1-9][0-9]{0,5}")
_MAX_FIXED = 2**24  # product of the numbers among the axes of one array
MAX_AXES = 6
MAX_STAGE_CHANNELS, MAX_RECEPTIVE_FIELD = 2**20, 2**20


def shape_of(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers for axes as text: `N 512 2 H/8 W/8` with `{"N": 1, "H": 64, "W": 64}` is (1, 512, 2, 8, 8).

    Quotients are rounded up.
    """
    shape = []
    for axis in axes.split():
        symbol, _, divisor = axis.partition("/")
        size = sizes[symbol] if symbol in sizes else int(symbol)
        shape.append(-(-size // int(divisor or 1)))
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
class Stage:
    """Tensors of one resolution: channels of the widest, pixels a position along H and W, frames a position.

    attention: between all positions of a frame.
    """

    channels: int
    space: int
    time: int
    attention: bool


@dataclass(frozen=True)
class GraphEntry:
    """One graph of a bundle: a part of the chain of its role.

    part: `local`, if an output depends on a bounded neighbourhood in space, or `global`. flags: inputs that are true in
    the calls that `stream` names. stages: for planning memory, in the order of the data. receptive_field: pixels that
    an output looks at on either side of its own, attention left out. missing_kernels: names of nodes that an engine has
    no kernel for, by engine.
    """

    role: str
    part: str
    precision: str
    providers: tuple[str, ...]
    file: str
    sha256: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    flags: tuple[Port, ...] = ()
    stages: tuple[Stage, ...] = ()
    receptive_field: int = 0
    missing_kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def work(self) -> float:
        """What a latent takes to compute, for comparing graphs: the squared channels of each resolution."""
        return sum(s.channels**2 / (s.space**2 * s.time) for s in self.stages) or 1.0

    @property
    def ports(self) -> dict[str, dict[str, Port]]:
        """All that the graph takes (`inputs`) and gives (`outputs`), by name."""
        takes = [*self.inputs, *self.flags, *(Port(s.input, s.dtype, s.axes) for s in self.states)]
        gives = [*self.outputs, *(Port(s.output, s.dtype, s.axes) for s in self.states)]
        return {"inputs": {p.name: p for p in takes}, "outputs": {p.name: p for p in gives}}


def graph_entry(raw: Fields) -> GraphEntry:
    """A row of `graphs`; raises ValueError for whatever a runtime could not use."""
    missing = raw.fields("missing_kernels")
    entry = GraphEntry(
        role=raw.one_of("role", ROLES),
        part=raw.one_of("part", PARTS),
        precision=raw.text("precision"),
        providers=raw.texts("providers"),
        file=file_name(raw, ".onnx"),
        sha256=raw.sha256("sha256"),
        inputs=_ports(raw, "inputs"),
        outputs=_ports(raw, "outputs"),
        states=tuple(
            State(s.text("input"), s.text("output"), _dtype(s), _axes(s), s.one_of("initial", ("zeros",)))
            for s in raw.rows("states")
        ),
        flags=_ports(raw, "flags"),
        stages=tuple(_stage(s) for s in raw.rows("stages")),
        receptive_field=raw.integer("receptive_field", 0, MAX_RECEPTIVE_FIELD),
        missing_kernels={name: missing.texts(name) for name in missing.names()},
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
    known = _symbols(entry.inputs[0].axes)
    for port in [*ports["inputs"].values(), *ports["outputs"].values()]:
        if unknown := _symbols(port.axes) - known:
            raise ValueError(f"the axes of {port.name} name {', '.join(sorted(unknown))}, which the data do not have")


def _symbols(axes: str) -> set[str]:
    return {axis[0] for axis in axes.split() if axis[0].isalpha()}


def file_name(raw: Fields, suffix: str) -> str:
    """The plain name of a file, which lies in the bundle's folder itself and nowhere else; raises ValueError."""
    name = raw.text("file")
    if not re.fullmatch(f"[A-Za-z0-9_][A-Za-z0-9_.+-]*\\{suffix}", name):
        raise ValueError(f"the file {name!r} is not the plain name of a {suffix} file inside the bundle")
    return name


def _ports(raw: Fields, name: str) -> tuple[Port, ...]:
    return tuple(Port(p.text("name"), _dtype(p), _axes(p)) for p in raw.rows(name))


def _dtype(raw: Fields) -> str:
    return raw.one_of("dtype", DTYPES)


def _axes(raw: Fields) -> str:
    axes = raw.text("axes")
    if len(axes.split(" ")) > MAX_AXES or not all(_AXIS.fullmatch(axis) for axis in axes.split(" ")):
        raise ValueError(f"the axes {axes!r} of {raw.where} are not like 'N 512 2 H/8 W/8'")
    if math.prod(int(axis) for axis in axes.split(" ") if axis.isdigit()) > _MAX_FIXED:
        raise ValueError(f"the axes {axes!r} of {raw.where} are too large")
    return axes


def _stage(raw: Fields) -> Stage:
    return Stage(
        channels=raw.integer("channels", 1, MAX_STAGE_CHANNELS),
        space=raw.integer("space", 1, MAX_SPATIAL_MULTIPLE),
        time=raw.integer("time", 1, MAX_TIME_FACTOR),
        attention=raw.boolean("attention"),
    )
