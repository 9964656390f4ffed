"""Parts of clips, other rates, other sizes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import make, number_of, numbered, read, round_trip

from vidtok_runtime.errors import InputError
from vidtok_runtime.video.selection import Selection, placed, resize, scaled_size


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264"])
@pytest.mark.parametrize(
    ("start", "end"), [(0, 3), (Fraction(37, 10), None), (2, Fraction(21, 5)), (Fraction(39, 10), 9)]
)
def test_a_part_of_a_clip(tmp_path: Path, name: str, start: Fraction, end: Fraction | None) -> None:
    """Frames at the start and before the end, whatever lies between key frames."""
    path = make(tmp_path / name, [numbered(i) for i in range(120)], options={"g": "40", "bf": "2"})
    found, times, _ = read(path, Selection(start=Fraction(start), end=end))
    wanted = [i for i in range(120) if i / 25 >= start and (end is None or i / 25 < end)]
    assert [number_of(picture) for picture in found] == wanted
    assert times == pytest.approx([i / 25 - float(start) for i in wanted], abs=0.001)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("fps", "count"), [(5, 10), (25, 50), (50, 100), (Fraction(30000, 1001), 60)])
def test_another_rate(tmp_path: Path, name: str, fps: Fraction, count: int) -> None:
    path = make(tmp_path / name, [numbered(i) for i in range(60)])
    found, times, reader = read(path, Selection(end=Fraction(2), fps=Fraction(fps)))
    assert len(found) == count
    assert times == pytest.approx([i / float(fps) for i in range(count)])
    wanted = [int(time * 25 + 0.01) for time in times]  # the one on show
    assert [number_of(picture) for picture in found] == wanted
    assert reader.frame_count == count


def test_fit() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200

    def fitted(fit: str) -> np.ndarray:
        return placed(resize(wide, *scaled_size(40, 80, (32, 32), fit)), 32, 32)

    padded = fitted("pad")
    assert padded.shape == (32, 32, 3)
    assert padded[:8].max() == padded[24:].max() == 0
    assert padded[16, 16, 0] == 200
    assert fitted("crop").min() == 200
    stretched = fitted("stretch")
    assert stretched[0, 0, 0] == 0
    assert stretched[0, 16, 0] == 200


@pytest.mark.parametrize(("fit", "aspect"), [("stretch", Fraction(4, 3)), ("crop", 1), ("pad", 1)])
def test_the_shape_of_the_picture_is_kept(tmp_path: Path, fit: str, aspect: Fraction) -> None:
    path = make(tmp_path / "a.mp4")
    _, back = round_trip(path, tmp_path, "--size", "32x32", "--fit", fit)
    found, _, reader = read(back)
    assert found[0].shape == (32, 32, 3)
    assert reader.display.pixel_aspect == aspect


@pytest.mark.parametrize(
    "values",
    [{"size": "big"}, {"fit": "bend"}, {"start": Fraction(-1)}, {"start": Fraction(3), "end": Fraction(3)}, {"fps": 0}],
)
def test_selections_that_mean_nothing(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Selection(**values)
