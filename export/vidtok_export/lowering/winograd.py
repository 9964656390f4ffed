"""Wide 3x3 convolutions in half of the multiplications: Winograd's F(4, 3) along rows, written into the graph.

Four output rows take six products with a transformed row of the kernel instead of twelve. The file keeps the kernel
as it was: engines transform it when they load the graph. Source: Lavin and Gray, arXiv 1509.09308, the points 0, 1,
-1, 2, -2 and infinity.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper, parser

from vidtok_export.compact import put

# From so many inputs and outputs on the sums cost less than the products they save (measured). Levels with fewer
# channels have more pixels, and with them the memory that parts of a sum take.
MANY_INPUTS, MANY_OUTPUTS = 128, 256
TILE = 4  # rows of output a time
_NAME = "winograd"  # what the nodes of one convolution are called: winograd.3.<result>

# The rows that lie so far below a tile's first row of input, one of each tile.
_ROWS = "\n".join(
    f"from{i} = Constant <value = int64[1] {{{i}}}> ()\n"
    f"back{i} = Constant <value = int64[1] {{{i - TILE + 1}}}> ()\n"
    f"to{i} = Add (filled, back{i})\n"
    f"d{i} = Slice (padded, from{i}, to{i}, axis, tile)"
    for i in range(6)
)
_PRODUCTS = "\n".join(f"m{i} = Conv (t{i}, w{i}{', b' if i == 1 else ''})" for i in range(6))  # m1 is in every row

_WHOLE_TILES = """
filled = Identity (height)
edges = Constant <value = int64[2] {1, 1}> ()
"""
_ANY_HEIGHT = """
above = Constant <value = int64[1] {3}> ()
rounded = Add (height, above)
tiles = Div (rounded, tile)
filled = Mul (tiles, tile)
missing = Sub (filled, height)
top = Constant <value = int64[1] {1}> ()
bottom = Add (missing, top)
edges = Concat <axis = 0> (top, bottom)
"""
_STEPS = f"""
zero = Constant <value = float {{0.0}}> ()
padded = Pad (x, edges, zero, axis)
{_ROWS}
two = Constant <value = float {{2.0}}> ()
four = Constant <value = float {{4.0}}> ()
eight = Constant <value = float {{8.0}}> ()
d02 = Sub (d0, d2)
d02x4 = Mul (d02, four)
d42 = Sub (d4, d2)
t0 = Add (d02x4, d42)
d12 = Add (d1, d2)
d12x4 = Mul (d12, four)
d34 = Add (d3, d4)
t1 = Sub (d34, d12x4)
d21 = Sub (d1, d2)
d21x4 = Mul (d21, four)
d43 = Sub (d4, d3)
t2 = Add (d43, d21x4)
d31 = Sub (d3, d1)
d31x2 = Mul (d31, two)
t3 = Add (d42, d31x2)
t4 = Sub (d42, d31x2)
d13 = Sub (d1, d3)
d13x4 = Mul (d13, four)
d53 = Sub (d5, d3)
t5 = Add (d53, d13x4)
points = Constant <value = float[6, 3] {{
  0.25, 0, 0,
  -0.16666667, -0.16666667, -0.16666667,
  -0.16666667, 0.16666667, -0.16666667,
  0.041666667, 0.083333333, 0.16666667,
  0.041666667, -0.083333333, 0.16666667,
  0, 0, 1
}}> ()
kernels = MatMul (points, w)
w0, w1, w2, w3, w4, w5 = Split <axis = 3, num_outputs = 6> (kernels)
{_PRODUCTS}
even = Add (m1, m2)
odd = Sub (m1, m2)
even2 = Add (m3, m4)
odd2 = Sub (m3, m4)
inner = Add (even, even2)
y0 = Add (inner, m0)
odd2x2 = Mul (odd2, two)
y1 = Add (odd, odd2x2)
even2x4 = Mul (even2, four)
y2 = Add (even, even2x4)
odd2x8 = Mul (odd2, eight)
outer = Add (odd, odd2x8)
y3 = Add (outer, m5)
side = Concat <axis = 4> (y0, y1, y2, y3)
width = Shape <start = 4> (x)
kept = Constant <value = int64[3] {{0, 0, 0}}> ()
shape = Concat <axis = 0> (kept, filled, width)
"""
_CUT = """
tall = Reshape (side, shape)
first = Constant <value = int64[1] {0}> ()
y = Slice (tall, first, height, axis)
"""


def _steps(whole: bool) -> list[NodeProto]:
    """Nodes for `y = Conv(x, w, b)`, x `N C T H W`; whole: H is always a multiple of the tile."""
    text = f"""
      <domain: "{_NAME}", opset_import: ["" : 20]> Conv (x, w, b) => (y) {{
        axis = Constant <value = int64[1] {{3}}> ()
        tile = Constant <value = int64[1] {{{TILE}}}> ()
        height = Shape <start = 3, end = 4> (x)
        {_WHOLE_TILES if whole else _ANY_HEIGHT}
        {_STEPS}
        {"y = Reshape (side, shape)" if whole else _CUT}
      }}"""
    return list(parser.parse_function(text).node)


def _attributes(node: NodeProto) -> dict[str, list[int]]:
    return {a.name: list(a.ints) for a in node.attribute if a.ints}


def _fits(node: NodeProto, weight: list[int]) -> bool:
    """Whether a convolution has a wide 3x3 kernel, zeros at the edges and every row of output."""
    found = _attributes(node)
    return (
        len(node.input) == 3
        and weight[0] >= MANY_OUTPUTS
        and weight[1] >= MANY_INPUTS
        and weight[3:] == [3, 3]
        and found.get("strides", [1, 1, 1])[1:] == [1, 1]
        and found.get("pads") == [0, 1, 1, 0, 1, 1]
    )


def _written_out(node: NodeProto, number: int, depth: int, whole: bool) -> list[NodeProto]:
    """The nodes that take a convolution's place; depth: its kernel's length in time."""
    renamed = dict(zip(("x", "w", "b", "y"), (*node.input, *node.output), strict=True))
    nodes = []
    for step in _steps(whole):
        inputs = [renamed[i] for i in step.input]
        renamed |= {o: renamed.get(o, f"{_NAME}.{number}.{o}") for o in step.output}
        made = helper.make_node(step.op_type, inputs, [renamed[o] for o in step.output])
        made.name = f"{_NAME}.{number}.{step.output[0]}"
        made.attribute.extend(step.attribute)
        if step.op_type == "Conv":
            stride = _attributes(node).get("strides", [1])[0]
            row = {"kernel_shape": [depth, 1, 3], "strides": [stride, 1, 1], "pads": [0, 0, 1, 0, 0, 1]}
            made.attribute.extend(helper.make_attribute(name, values) for name, values in row.items())
        nodes.append(made)
    return nodes


def write_out(model: onnx.ModelProto, multiple: int) -> None:
    """Put Winograd's sums and products in the place of wide 3x3 convolutions, in place.

    multiple: what the rows of the graph's first input are a multiple of.
    """
    graph = model.graph
    weights = {t.name: list(t.dims) for t in graph.initializer}
    multiples = {graph.input[0].name: multiple}  # of the rows of every tensor that comes from there
    nodes: list[NodeProto] = []
    replaced = 0
    for node in graph.node:
        # A shape has no rows itself, nor has what is computed of it alone.
        known = [multiples[i] for i in node.input if i in multiples and node.op_type != "Shape"]
        rows = min(known, default=None)
        kernel = weights.get(node.input[1], []) if node.op_type in ("Conv", "ConvTranspose") else []
        if rows is not None and node.op_type == "Conv" and _fits(node, kernel):
            nodes += _written_out(node, replaced, kernel[2], rows % TILE == 0)
            replaced += 1
        else:
            nodes.append(node)
        if rows is not None:
            stride = _attributes(node).get("strides", [1, 1, 1])[1] if kernel else 1
            rows = rows * stride if node.op_type == "ConvTranspose" else rows // stride
            multiples |= dict.fromkeys(node.output, rows)
    put(model.graph, "node", nodes)


def take_back(model: onnx.ModelProto) -> None:
    """Undo `write_out`, in place: for precisions whose convolutions are to be seen whole."""
    nodes: list[NodeProto] = []
    steps: dict[str, NodeProto] = {}
    for node in model.graph.node:
        if not node.name.startswith(f"{_NAME}."):
            nodes.append(node)
            continue
        result = node.name.rpartition(".")[2]
        steps[result] = node
        if result == "y":
            nodes.append(_whole(steps))
            steps = {}
    put(model.graph, "node", nodes)


def _whole(steps: dict[str, NodeProto]) -> NodeProto:
    """The convolution that was written out as these steps, named after their results."""
    product = steps["m1"]
    found = _attributes(product)
    return helper.make_node(
        "Conv",
        [steps["padded"].input[0], steps["kernels"].input[1], product.input[2]],
        [steps["y"].output[0]],
        kernel_shape=[found["kernel_shape"][0], 3, 3],
        strides=found["strides"],
        pads=[0, 1, 1, 0, 1, 1],
    )
