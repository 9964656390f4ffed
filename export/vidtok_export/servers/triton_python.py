"""A bundle as models of Triton's Python backend, in which the runtime runs: frames of any size, clips of any length."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from vidtok_export.servers.repository import added_to, model_name, rules_name
from vidtok_export.servers.triton_config import IDLE, block, instances, oldest_first, port
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import Manifest, check_file
from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.engines.registry import PROVIDERS

_MODEL = Path(__file__).with_name("triton_model.py")
_FRAMES = "frames", "uint8", (-1, -1, -1, 3)
_RULES = f"""\
1. The requests of a clip are one sequence: a `sequence_id` that no other clip has at that time (a number other than 0,
   or text), `sequence_start` on the first request, `sequence_end` on the last. Send the next request after the answer
   to the one before.
2. A request has any number of frames or tokens, also none; all frames of a sequence have one size. Its answer has what
   they complete, often nothing; the answer to the last request has all that is left.
3. Give the decoder the clip's `num_frames`, `height` and `width`; without them, what was repeated at the end, below and
   to the right stays. The other parameters are arguments of `Tokenizer.encoder` and `Tokenizer.decoder`.
4. An error ends its sequence; so do {IDLE // 10**6} seconds without a request. Begin it again with `sequence_start`.
"""


def write_triton_python(
    manifest: Manifest,
    out: Path,
    *,
    kind: str = "cpu",
    provider: str = "cpu",
    precision: str | None = None,
    force: bool = False,
) -> list[str]:
    """Add the models of a bundle, and the bundle itself, to a model repository; returns their names.

    kind: cpu or gpu. provider: one of `registry.PROVIDERS`, which the server's environment has. Raises TargetError,
    BundleError.
    """
    for role in ROLES:
        chain = manifest.chain(role, PROVIDERS[provider].listed_as, precision)
        precision = chain[0].precision
        for entry in chain:
            check_file(manifest, entry)
    names = [model_name(manifest.name, role) for role in ROLES]
    settings = {"provider": provider, "precision": str(precision)}
    with added_to(out, manifest.name, force=force) as folder:
        for role, name in zip(ROLES, names, strict=True):
            version = folder / name / "1"
            version.mkdir(parents=True)
            shutil.copyfile(_MODEL, version / "model.py")
            config = _config(name, manifest.stream, {"role": role, **settings}, kind)
            (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")
        first, second = (folder / name / "1/bundle" for name in names)  # Triton may fetch each without the other
        _add_bundle(manifest, first)
        shutil.copytree(first, second, copy_function=_link)
        (folder / rules_name(manifest.name)).write_text(_readme(manifest, names, settings), encoding="utf-8")
    return names


def _config(name: str, stream: StreamSpec, settings: dict[str, str], kind: str) -> str:
    ends = [block("input", port(*_FRAMES)), block("output", port(*_tokens(stream)))]
    if settings["role"] == "decoder":
        ends = [block("input", port(*_tokens(stream))), block("output", port(*_FRAMES))]
    blocks = [
        f'name: "{name}"',
        'backend: "python"',
        "max_batch_size: 0",
        *ends,
        instances(kind),
        oldest_first(),
        *(
            block("parameters", [f'key: "{key}"', f"value {{ string_value: {json.dumps(value)} }}"])
            for key, value in settings.items()
        ),
    ]
    return "\n".join(blocks) + "\n"


def _tokens(stream: StreamSpec) -> tuple[str, str, tuple[int, ...]]:
    """Name, type and sizes of what lies between the two models."""
    if stream.codebook_size is not None:
        return "tokens", "int32", (-1, -1, -1)
    return "tokens", "float32", (-1, stream.latent_channels, -1, -1)


def _add_bundle(manifest: Manifest, target: Path) -> None:
    target.mkdir()
    for name in ("manifest.json", *manifest.files):
        shutil.copyfile(manifest.folder / name, target / name)


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _readme(manifest: Manifest, names: list[str], settings: dict[str, str]) -> str:
    _, dtype, sizes = _tokens(manifest.stream)
    tokens = f"`tokens` {dtype} `{'t h w' if len(sizes) == 3 else f't {sizes[1]} h w'}`"
    frames = "`frames` uint8 `T H W 3`, RGB"
    return (
        f"# {manifest.name} on Triton Inference Server\n\n"
        "    tritonserver --model-repository=FOLDER\n\n"
        f"Weights `{manifest.weights_sha256[:12]}`, provider {settings['provider']}, {settings['precision']}. The "
        "Python of the server's Python backend needs the package vidtok-onnx with this provider. Frames have any size, "
        "clips any length; the states stay on the server.\n\n"
        "| model | input | output | parameters of the first request |\n"
        "|---|---|---|---|\n"
        f"| {names[0]} | {frames} | {tokens} | `gop`, `sample`, `normalize` |\n"
        f"| {names[1]} | {tokens} | {frames} | `num_frames`, `height`, `width`, `gop`, `normalized` |\n\n" + _RULES
    )
