"""Finding a bundle: a folder, a shipped name, the default, or the one that made given tokens."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.errors import BundleError, MismatchError
from vidtok_runtime.files import is_folder
from vidtok_runtime.tokens.tokens import TokenInfo

SHIPPED = Path(__file__).parents[1] / "bundles"
DEFAULT = "tiny-kl-16chn"


def shipped_names() -> list[str]:
    """Names of the bundles inside the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/manifest.json"))


def find_bundle(bundle: str | PathLike[str] | None) -> Manifest:
    """Manifest of a folder, of a shipped name, or (None) of the default; raises BundleError."""
    name = DEFAULT if bundle is None else str(bundle)
    if name in shipped_names():
        return read_manifest(SHIPPED / name)
    if not is_folder(Path(name)):
        raise BundleError(f"{name} is neither a bundle folder nor a shipped bundle ({', '.join(shipped_names())})")
    return read_manifest(Path(name))


def find_bundle_of(info: TokenInfo) -> Manifest:
    """Manifest of the shipped bundle whose weights made the tokens; raises MismatchError."""
    for name in shipped_names():
        manifest = read_manifest(SHIPPED / name)
        if manifest.weights_sha256 == info.weights_sha256:
            return manifest
    raise MismatchError(
        f"these tokens were made by {info.variant} with weights {info.weights_sha256[:12]}, which no shipped bundle "
        "has; give --bundle the one that made them"
    )
