"""The page and the module in a real Chromium, against the kit and this package's own engine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from cases import KIT, Case, every_case
from web_programs import check_tokens, convert, drive, drive_on_gpu, needs_chromium

from vidtok_runtime import Tokenizer
from vidtok_runtime.quality.metrics import Quality
from vidtok_runtime.tools.demo import synthetic_frame

pytestmark = needs_chromium
BUNDLES = ("tiny-fsq-32768", "tiny-kl-16chn")


class Computed(NamedTuple):
    """Of the kit's cases whose names end so the files of every chunking, in a folder."""

    folder: Path
    names: list[str]
    ending: str


# A software device takes seconds for each new shape, and minutes for the whole kit.
@pytest.fixture(
    scope="module",
    params=[
        ("wasm", ""),
        pytest.param(("webgpu", "-one-frame"), marks=pytest.mark.timeout(1300)),
        pytest.param(("webgpu", ""), marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
    ids=["wasm", "webgpu-one-frame", "webgpu"],
)
def computed(address: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """What the page computed for the kit."""
    folder = tmp_path_factory.mktemp("kit")
    provider, ending = request.param
    seconds = 600 if ending else 3000
    return Computed(folder, drive_on_gpu("kit.mjs", address, KIT, folder, provider, ending, seconds=seconds), ending)


@every_case
def test_the_kit_in_the_page(case: Case, computed: Computed) -> None:
    if not case.name.endswith(computed.ending):
        pytest.skip("on a software device only one frame of each bundle by default; -m slow has every case")
    folder = computed.folder
    mine = [name for name in computed.names if name.rpartition(".")[0] == case.name]
    assert len(mine) == max(len(case.pushes), len(case.pulls))
    for name in mine:
        case.check_token_file(folder / f"{name}.safetensors")
        case.check_video(np.fromfile(folder / f"{name}.f32", "<f4").reshape(*case.size, 3))


@pytest.mark.parametrize("bundle", [BUNDLES[0], pytest.param(BUNDLES[1], marks=pytest.mark.slow)])
def test_pictures_become_the_tokens_that_python_makes(address: str, tmp_path: Path, bundle: str) -> None:
    frames = np.stack([synthetic_frame(4 * i, 64, 93) for i in range(11)])
    for i, picture in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[:, :, ::-1])  # 10 comes after 9
    fields = {"bundle": bundle, "short": 64, "fps": 12.5}
    said, found = convert(address, tmp_path, fields, *sorted(tmp_path.glob("*.png")))
    used = np.fromfile(tmp_path / "frames.rgb", np.uint8).reshape(frames.shape)
    np.testing.assert_array_equal(used, frames)
    tok = Tokenizer(bundle, "cpu", threads=1)
    check_tokens(found, tok.encode(frames, fps=Fraction(25, 2)))

    quality = Quality()
    for original, decoded in zip(frames, tok.decode(found), strict=True):
        quality.add(original, decoded)
    assert abs(float(said["figures"]["PSNR"].split()[0]) - quality.psnr) < 0.05
    numbers = found.data.size * (15 if found.data.dtype == np.int32 else 16)
    assert float(said["figures"]["Bits per pixel"]) == pytest.approx(numbers / (11 * 64 * 93), abs=1e-4)
    size = (tmp_path / "tokens.safetensors").stat().st_size
    assert said["figures"]["Token file"] == f"{size:,} bytes"


@pytest.mark.slow
def test_camera_and_test_clip(address: str, tmp_path: Path) -> None:
    fields = {"bundle": BUNDLES[0], "short": 64, "frames": 6, "fps": 60}
    _, found = convert(address, tmp_path, fields, "camera")
    assert found.info.num_frames == 6
    used = np.fromfile(tmp_path / "frames.rgb", np.uint8).reshape(6, 64, found.info.width, 3)
    assert used.std() > 10  # Chromium's made-up camera shows something
    check_tokens(found, Tokenizer(BUNDLES[0], "cpu", threads=1).encode(used, fps=found.info.fps))
    _, found = convert(address, tmp_path, fields, "test")
    assert (found.info.num_frames, found.info.height, found.info.width) == (6, 64, 114)


def test_large_frames_are_computed_in_tiles(address: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), synthetic_frame(0, 384, 560)[:, :, ::-1])
    said, found = convert(address, tmp_path, {"bundle": BUNDLES[0], "short": 384}, tmp_path / "0.png")
    assert said["figures"]["Computed in"] == "tiles of at most 512 x 512"
    used = np.fromfile(tmp_path / "frames.rgb", np.uint8).reshape(1, 384, 560, 3)
    tok = Tokenizer(BUNDLES[0], "cpu", threads=1)
    check_tokens(found, tok.encode(used, fps=found.info.fps))
    quality = Quality()
    quality.add(used[0], tok.decode(found)[0])
    assert abs(float(said["figures"]["PSNR"].split()[0]) - quality.psnr) < 0.05


@pytest.mark.slow
def test_keyboard_alone_on_a_phone(address: str, tmp_path: Path) -> None:
    found = drive("keyboard.mjs", address, tmp_path)
    assert found == {"last": "9 of 9", "before": "8 of 9", "wide": 360}
    dark, light = (cv2.imread(str(tmp_path / f"phone-{name}.png")) for name in ("dark", "light"))
    assert dark[:20].mean() < 60
    assert light[:20].mean() > 200


def test_what_a_browser_cannot_read_is_said(address: str, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(AssertionError, match=r"the page says: this browser cannot play no\.mp4"):
        convert(address, tmp_path, {}, tmp_path / "no.mp4")
    with pytest.raises(AssertionError, match=r"the page says: no\.png is no picture that this browser can read"):
        convert(address, tmp_path, {}, tmp_path / "no.png")
