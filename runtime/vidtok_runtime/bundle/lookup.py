"""Finding a bundle: a folder, a shipped name, or the default."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.errors import BundleError
from vidtok_runtime.files import is_folder

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
