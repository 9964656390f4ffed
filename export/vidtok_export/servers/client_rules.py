"""How a client calls the models on a server, as text: the rules of the manifest in the order of what happens."""

from __future__ import annotations

from vidtok_export.servers.served import Served
from vidtok_runtime.bundle.graph_entry import FIRST_CALL, FLUSH_CALL, SECOND_CALL, Port

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
        requests = " and ".join(_OCCASIONS[occasion] for occasion in flag.set)
        steps.append(f"Send the input `{flag.name}` with every request: true in {requests}, else false.")
    ports = [*model.entry.inputs, *(Port(f.name, f.dtype, f.axes) for f in flags)]
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


def _encoder(model: Served) -> list[str]:
    m, rule = model.manifest, model.manifest.rule("encoder")
    height, width = model.sizes["H"], model.sizes["W"]
    steps = [
        "Frames are RGB in -1..1: `x / 127.5 - 1` of 8-bit values, as `1 3 T H W`. Repeat the last column and the last "
        f"row until a frame is {width}x{height}.",
    ]
    if m.window is not None:
        steps.append(
            f"Every request is a window of {m.window} frames and stands on its own; the last has what is left, with "
            f"its last frame repeated up to a multiple of {m.time_factor}."
        )
    else:
        if m.front_frames:
            steps.append(f"Put {m.front_frames} copies of the first frame in front of the clip.")
        steps.append(
            f"Every request has a multiple of {rule.multiple} frames ({rule.most} are a good number). Repeat the last "
            f"frame until the clip with what is in front of it is a multiple of {m.time_factor}. The tokens do not "
            "depend on how the clip is cut."
        )
    steps.append(f"`{model.entry.outputs[0].name}` is what a token file holds, one latent for {m.time_factor} frames.")
    return steps


def _decoder(model: Served) -> list[str]:
    m, rule = model.manifest, model.manifest.rule("decoder")
    name, steps = model.entry.inputs[0].name, []
    if m.window is not None:
        steps.append(f"Every request has the {rule.multiple} latents of one window, the last what is left.")
    elif rule.first is not None:
        steps.append(f"The first request has {_latents(rule.first)}, every other at least one.")
    else:
        steps.append("Every request has at least one latent; frames do not depend on how the latents are cut.")
    if rule.drop:
        steps.append(f"Throw the first {rule.drop} frames of the sequence away.")
    if rule.flush:
        steps.append(
            f"At the end send an extra request with {_latents(rule.flush)}, a copy of the last one in `{name}`; only "
            f"the first {rule.keep} frames of its answer count."
        )
    steps.append(
        "Frames are RGB in -1..1: clip, then `round((x + 1) * 127.5)`. Crop them to the clip's own size, and keep as "
        "many as the clip has."
    )
    return steps


def _latents(count: int) -> str:
    return f"{count} latent{'s' if count > 1 else ''}"
