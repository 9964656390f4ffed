"""How a client calls the models on a server, as text: the rules of the manifest in the order of what happens."""

from __future__ import annotations

from vidtok_export.servers.served import Served
from vidtok_runtime.bundle.graph_entry import Port
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, FLUSH_CALL, SECOND_CALL, SURPLUS, StreamSpec

_OCCASIONS = {FIRST_CALL: "the first", SECOND_CALL: "the second", FLUSH_CALL: "the extra one at the end"}


def client_rules(models: list[Served], *, sequences: str, start_is_set: bool) -> str:
    """Markdown about both models.

    sequences: how a request says to which sequence it belongs. start_is_set: the server itself sets the flag of the
    first request.
    """
    return "\n".join(line for model in models for line in _rules(model, sequences, start_is_set))


def _rules(model: Served, sequences: str, start_is_set: bool) -> list[str]:
    steps = _encoder(model) if model.role == "encoder" else _decoder(model)
    if model.entry.states:
        steps.insert(0, sequences)
    flags = [f for f in model.entry.flags if not (start_is_set and f is model.start_flag)]
    for flag in flags:
        requests = " and ".join(_OCCASIONS[occasion] for occasion in model.calls.flags[flag.name])
        steps.append(f"Send the input `{flag.name}` with every request: true in {requests}, else false.")
    ports = [*model.entry.inputs, *flags]
    return [
        f"## {model.name}",
        "",
        "| | name | type | dims |",
        "|---|---|---|---|",
        *(_row("input", model, port) for port in ports),
        *(_row("output", model, port) for port in model.entry.outputs),
        "",
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        "",
    ]


def _row(kind: str, model: Served, port: Port) -> str:
    dims = " ".join("any" if n < 0 else str(n) for n in model.dims(port.axes))
    return f"| {kind} | `{port.name}` | {port.dtype} | {dims} |"


def _pixels(spec: StreamSpec) -> tuple[str, str, str]:
    """The range of pixels, a byte `x` in it, and the way back."""
    low, high = spec.pixel_range
    if (low, high) == (-1, 1):
        return "-1..1", "x / 127.5 - 1", "(x + 1) * 127.5"
    return f"{low:g}..{high:g}", f"x / 255 * {high - low:g} + {low:g}", f"(x - {low:g}) * 255 / {high - low:g}"


def _encoder(model: Served) -> list[str]:
    spec, calls = model.manifest.stream, model.calls
    height, width = model.sizes["H"], model.sizes["W"]
    span, of_byte, _ = _pixels(spec)
    steps = [
        f"Frames are RGB in {span}: `{of_byte}` of 8-bit values, as `1 3 T H W`. Repeat the last column and the last "
        f"row until a frame is {width}x{height}.",
    ]
    if (groups := spec.groups) is not None:
        shared = f", of which it shares {groups.shared_frames} with the one before" if groups.shared_frames else ""
        steps.append(
            f"The clip is cut into windows of {groups.frames} frames{shared}; the last has what is left. Each stands "
            "on its own."
        )
    a_stream = "every window" if groups else "the clip"
    if spec.front_frames:
        steps.append(f"Put {spec.front_frames} copies of the first frame in front of {a_stream}.")
    length = (
        f"{spec.length.first} and a multiple of {spec.length.multiple}"
        if spec.length.first
        else (f"a multiple of {spec.length.multiple}")
    )
    steps.append(f"Repeat the last frame until {a_stream}, with what is in front of it, has {length} frames.")
    if calls.max is None:
        steps.append("Every request is one window.")
    elif calls.exact or calls.first is not None:
        first = f"the first request has {calls.first} frames, " if calls.first else ""
        steps.append(f"Every request has {calls.max} frames ({first}the last one what is left).")
    else:
        steps.append(
            f"Every request has a multiple of {calls.multiple} frames ({calls.max} are a good number). The tokens do "
            "not depend on how the clip is cut."
        )
    if groups is not None and groups.shared_latents:
        steps.append(f"Throw the first {_latents(groups.shared_latents)} of every window after the first away.")
    steps.append(
        f"`{model.entry.outputs[0].name}` is what a token file holds, one latent for {spec.time_factor} frames."
    )
    return steps


def _decoder(model: Served) -> list[str]:
    spec, calls = model.manifest.stream, model.calls
    name, steps = model.entry.inputs[0].name, []
    span, _, to_byte = _pixels(spec)
    if (groups := spec.groups) is not None:
        shared = f", the first {groups.shared_latents} of them those of the one before" if groups.shared_latents else ""
        steps.append(
            f"The latents are cut into windows of {_latents(groups.latents)}{shared}; the last has what is left."
        )
    if calls.max is None:
        steps.append("Every request is one window.")
    elif calls.exact:
        first = f"the first request has {_latents(calls.first)}, " if calls.first else ""
        steps.append(f"Every request has {_latents(calls.max)} ({first}the last one what is left).")
    elif calls.first is not None:
        steps.append(f"The first request has {_latents(calls.first)}, every other at least one.")
    else:
        steps.append("Every request has at least one latent; frames do not depend on how the latents are cut.")
    if calls.drop == SURPLUS:
        steps.append("Throw away, at the start of a window, what its answers have beyond its frames.")
    elif calls.drop:
        steps.append(f"Throw the first {calls.drop} frames of {'every window' if groups else 'the sequence'} away.")
    if calls.flush:
        steps.append(
            f"At the end send an extra request with {_latents(calls.flush.size)}, a copy of the last one in `{name}`; "
            f"only the first {calls.flush.keep} frames of its answer count."
        )
    if groups is not None and groups.shared_frames:
        steps.append(f"Throw the first {groups.shared_frames} frames of every window after the first away.")
    steps.append(
        f"Frames are RGB in {span}: clip, then `round({to_byte})`. Crop them to the clip's own size, and keep as "
        "many as the clip has."
    )
    return steps


def _latents(count: int) -> str:
    return f"{count} latent{'s' if count > 1 else ''}"
