"""An engine's own settings: names that it knows, values as its text."""

from __future__ import annotations

import difflib
import mmap
import numbers
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.checked_json import is_printable
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import InputError

Pairs = tuple[tuple[str, str], ...]
_LONGEST = 200  # letters of a name or a value
_LONGEST_TOGETHER = 280  # letters of all of them: token files repeat them in a text of at most 300
_OF_CORE = ("CACHE_DIR", "CACHE_MODE", "ENABLE_MMAP")  # OpenVINO's, but not of the device


def engine_options(provider: str, asked: Mapping[str, Any] | None) -> Pairs:
    """Names and values as text; raises InputError for a name that the engine does not know.

    Numbers and booleans become the text that the engine takes. The CUDA provider checks names itself, when it loads.
    """
    if asked is None:
        return ()
    if not isinstance(asked, Mapping):
        raise InputError(f"provider_options are names and values, as {{'use_tf32': 1}}, got {asked!r:.60}")
    pairs = tuple((name, _text(provider, name, value)) for name, value in asked.items())
    together = " ".join(f"{name}={value}" for name, value in pairs)
    if len(together) > _LONGEST_TOGETHER or not is_printable(together):
        raise InputError(
            f"provider options are repeated in token files: together they have at most {_LONGEST_TOGETHER} printable "
            f"letters, got {len(together)}"
        )
    if provider == "openvino" and pairs:
        _check_openvino(pairs)
    elif provider == "cpu" and pairs:
        _check_onnxruntime(pairs)
    return pairs


def _text(provider: str, name: Any, value: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise InputError(f"a provider option has a name of 1 to {_LONGEST} letters, got {name!r:.60}")
    if isinstance(value, (bool, np.bool_)):
        return (("NO", "YES") if provider == "openvino" else ("0", "1"))[bool(value)]
    if isinstance(value, numbers.Real):
        return f"{value}"
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise InputError(
            f"the provider option {name} is a number, a boolean or 1 to {_LONGEST} letters, got {value!r:.60}"
        )
    return value


def _check_openvino(pairs: Pairs) -> None:
    from vidtok_runtime.engines.openvino import CORE

    found = CORE.get_property("CPU", "SUPPORTED_PROPERTIES")
    known = [*_OF_CORE, *(name for name, kind in found.items() if str(kind) != "RO")]
    for name, _ in pairs:
        if name not in known:
            raise _unknown("OpenVINO", name, known)


def _check_onnxruntime(pairs: Pairs) -> None:
    with without_telemetry():
        import onnxruntime as ort

    settings = ort.SessionOptions()
    own = [name for name in dir(settings) if not name.startswith("_") and not callable(getattr(settings, name))]
    capi = Path(ort.__file__).parent / "capi"
    for name, _ in pairs:
        if "." not in name:
            if name not in own:
                raise _unknown("ONNX Runtime", name, own)
        elif not any(_holds(content, name) for content in _libraries(capi)):
            # The engine has no list of its configuration's names, but its library holds each of them.
            names = rb"(?:session|ep|optimization|memory|mlas)\.[a-z0-9_.]+[a-z0-9](?=\0)"
            found = {key.decode() for content in _libraries(capi) for key in re.findall(names, content)}
            raise _unknown("ONNX Runtime", name, sorted(found))
    apply_to(settings, pairs)


def apply_to(settings: Any, pairs: Pairs) -> None:
    """Set options in an `onnxruntime.SessionOptions`: its attributes or, for names with a dot, its configuration.

    Raises InputError for a value that does not fit.
    """
    for name, text in pairs:
        if "." in name:
            settings.add_session_config_entry(name, text)
            continue
        before = getattr(settings, name)
        try:
            setattr(settings, name, _parsed(before, text))
        except (KeyError, TypeError, ValueError) as error:
            choices = getattr(type(before), "__members__", None)
            wanted = f"one of {', '.join(choices)}" if choices else f"like {before!r}"
            raise InputError(f"the provider option {name} is {wanted}, got {text!r:.60}") from error


def _parsed(like: Any, text: str) -> Any:
    if isinstance(like, bool):
        return {"0": False, "false": False, "1": True, "true": True}[text.lower()]
    if isinstance(like, (int, str)):
        return type(like)(text)
    return type(like).__members__[text]


def _libraries(folder: Path) -> Iterator[mmap.mmap]:
    """The contents of the libraries in a folder."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".py":
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield content


def _holds(content: mmap.mmap, name: str) -> bool:
    """Whether a text is in there as a whole, not as the end of another."""
    key = name.encode() + b"\0"
    at = content.find(key)
    while at >= 0 and re.match(rb"[a-z0-9_.]", content[at - 1 : at]):
        at = content.find(key, at + 1)
    return at >= 0 and name[0].isalpha()


def _unknown(engine: str, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(name.upper(), known, 1)
    hint = f"did you mean {near[0]}?" if near else "its manual lists them"
    return InputError(f"{engine} has no setting {name!r:.60}; {hint}")
