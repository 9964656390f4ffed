"""Streams of every kind that the format allows, for the bundles of `made_kit.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SIZE = 12, 20  # pixels of a clip


def calls(multiple: int = 1, longest: int | None = None, **other: Any) -> dict[str, Any]:
    """`encoder` or `decoder` of a `stream`."""
    usual = {"first": None, "exact": False, "drop": 0, "flush": None, "flags": {}}
    return {**usual, "multiple": multiple, "max": longest, **other}


def groups(frames: int, latents: int, shared: int = 0, **other: Any) -> dict[str, Any]:
    usual = {"whole": True, "multiple": None}
    return {**usual, "frames": frames, "latents": latents, "shared_frames": shared, "shared_latents": shared, **other}


@dataclass(frozen=True)
class Made:
    """A bundle: what is not usual of its `stream`, and numbers of frames to try.

    told: its latents and frames show sizes and numbers of calls. in_parts: two graphs a role, with weights in a file.
    """

    name: str
    unusual: dict[str, Any]
    lengths: tuple[int, ...] = ()
    told: bool = False
    in_parts: bool = False

    @property
    def stream(self) -> dict[str, Any]:
        """As manifests have it."""
        usual = {
            "spatial_multiple": 4,
            "square": False,
            "latent_channels": 3 * self.unusual["time_factor"] + 2,
            "codebook_size": None,
            "levels": [],
            "pixel_range": [-1.0, 1.0],
            "latent_mean": None,
            "latent_std": None,
            "front_frames": 0,
            "length": {"first": 0, "multiple": 1},
            "groups": None,
        }
        return {**usual, **self.unusual}


FIRST = {"first": ["first call"]}
MADE = (
    # Calls of 9, 8, 8 ... frames and 3, 2, 2 ... latents, on which the result depends, with flags.
    Made(
        "exact",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 8},
            "encoder": calls(8, 8, first=9, exact=True, flags=FIRST),
            "decoder": calls(2, 2, first=3, exact=True, drop=3, flags={"later": ["second call"]}),
        },
        (1, 2, 9, 10, 26),
        told=True,
    ),
    # Windows of one call each, whose latents hold more frames than the window has; frames of 0..1.
    Made(
        "surplus",
        {
            "time_factor": 4,
            "pixel_range": [0.0, 1.0],
            "groups": groups(17, 5),
            "encoder": calls(),
            "decoder": calls(drop="surplus"),
        },
        (1, 5, 16, 17, 18, 34, 40),
        told=True,
    ),
    # Windows that share a frame and a latent with the one before, padded to 1 + 4k; an odd latent is a call of its own.
    Made(
        "shared",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 4},
            "groups": groups(17, 5, 1),
            "encoder": calls(flags=FIRST),
            "decoder": calls(2, drop=3),
        },
        (1, 16, 17, 18, 33, 34, 40),
        told=True,
    ),
    # The same in short calls of a chain of two graphs, whose weights lie in a file.
    Made(
        "parts",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 4},
            "groups": groups(13, 4, 1),
            "encoder": calls(4, 8, first=1, flags=FIRST),
            "decoder": calls(1, 2, first=1, drop=3, flags={**FIRST, "last": ["flush call"]}),
        },
        (1, 12, 13, 14, 30),
        in_parts=True,
    ),
    # Squares of -0.5..0.5, windows padded to their full length.
    Made(
        "squares",
        {
            "time_factor": 4,
            "square": True,
            "pixel_range": [-0.5, 0.5],
            "length": {"first": 17, "multiple": 16},
            "groups": groups(17, 5),
            "encoder": calls(1, 17, exact=True),
            "decoder": calls(5, 5, exact=True, drop=3),
        },
        (3, 17, 20),
        told=True,
    ),
    # Look-ahead: a flush call after calls of one latent, which is the second one of the shortest clip.
    Made(
        "flush",
        {
            "time_factor": 3,
            "front_frames": 2,
            "length": {"first": 0, "multiple": 3},
            "latent_mean": [0.25 * i for i in range(11)],
            "latent_std": [0.5 + i for i in range(11)],
            "encoder": calls(3, 6),
            "decoder": calls(
                1,
                1,
                first=1,
                exact=True,
                drop=4,
                flush={"size": 2, "keep": 2},
                flags={"boundary": ["second call", "flush call"]},
            ),
        },
        (1, 2, 4, 11),
    ),
    # Windows that may be asked for in another length.
    Made(
        "windows",
        {
            "time_factor": 4,
            "length": {"first": 0, "multiple": 4},
            "groups": groups(8, 2, multiple=4),
            "encoder": calls(4),
            "decoder": calls(),
        },
        (1, 8, 9, 19),
        told=True,
    ),
)
