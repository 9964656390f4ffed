"""Triton Inference Server itself, on repositories that `vidtok-export triton` writes.

scripts/triton_server.sh && python -m pytest -m slow tests/export/test_triton_live.py
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_export
from triton_server import Sequence, TritonServer, running

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.tools.demo import make_clip, synthetic_frame

pytestmark = pytest.mark.slow
KIT = Path(__file__).parents[1] / "conformance/kit"
CASES = json.loads((KIT / "cases.json").read_text())["cases"]
# No second start of Python for each model, and no wait for sequences that a test leaves open.
QUICK = "--disable-auto-complete-config", "--exit-timeout-secs=1"
EXAMPLE = Path(__file__).parents[2] / "docs/examples/triton_client.py"


def repository(folder: Path, *bundles: Path, **settings: int) -> Path:
    """A model repository of bundles, in whose configurations settings have these numbers."""
    for bundle in bundles:
        result = run_export("triton", bundle, folder, "--backend", "python")
        assert result.exit_code == 0, result.output
    for path in folder.glob("*/config.pbtxt"):
        text = path.read_text()
        for name, value in settings.items():
            text, changed = re.subn(rf"\b{name}: \d+", f"{name}: {value}", text)
            assert changed == 1
        path.write_text(text)
    return folder


def failure(sequence: Sequence, data: np.ndarray, *, end: bool = False) -> str:
    """The one line that a request fails with."""
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        sequence.send(data, end=end)
    text = str(caught.value).strip()
    assert text.count("\n") == 0
    return text


def wait_for(found: Any) -> None:
    """Until something has happened; the timeout of the test is the limit."""
    while not found():
        time.sleep(0.1)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with every bundle of the kit."""
    folder = tmp_path_factory.mktemp("kit")
    bundles = sorted({KIT / case["bundle"] for case in CASES})
    with running(repository(folder / "models", *bundles), folder / "log", *QUICK) as server:
        yield server


def frames(count: int, height: int, width: int, first: int = 0) -> np.ndarray:
    return np.stack([synthetic_frame(first + i, height, width) for i in range(count)])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
@pytest.mark.parametrize("name", ["http", "grpc"])
def test_the_kit(live: TritonServer, case: dict[str, Any], name: str) -> None:
    client, model = live.client(name), read_manifest(KIT / case["bundle"]).name
    size = {"height": case["height"], "width": case["width"]}
    shape = (case["frames"], *size.values(), 3)
    clip = np.fromfile(KIT / case["input"], np.uint8).reshape(shape)
    tokens = Tokens.load(KIT / case["tokens"]).data
    video = np.rint((np.fromfile(KIT / case["video"], "<f4").reshape(shape).clip(-1, 1) + 1) * 127.5)
    for number, sizes in enumerate(case["pushes"], 1):
        found = Sequence(client, f"{model}_encoder", number).send_all(clip, sizes)
        assert found.dtype == tokens.dtype
        assert found.shape == tokens.shape
        assert np.abs(found.astype(np.float64) - tokens).max() <= case["latent_tolerance"]
    for number, sizes in enumerate(case["pulls"], 1):
        decoder = Sequence(client, f"{model}_decoder", f"clip {number}", num_frames=len(clip), **size)
        found = decoder.send_all(tokens, sizes)
        assert found.dtype == np.uint8
        assert np.abs(found - video).max() <= 1  # an eighth of a level may round either way


@pytest.mark.parametrize("count", [1, 2])
def test_eight_sequences_at_once(tmp_path: Path, count: int) -> None:
    bundle = read_manifest(KIT / "kl-causal-v1.1")
    with running(repository(tmp_path / "models", bundle.folder, count=count), tmp_path / "log", *QUICK) as server:
        found = _eight_at_once(bundle, server)
    tok = Tokenizer(bundle, "cpu", threads=1)
    for number, (tokens, video) in enumerate(found):
        wanted = tok.encode(_clip(number), sample=number)
        assert np.abs(tokens - wanted.data).max() < 1e-4
        assert np.abs(video.astype(int) - tok.decode(wanted)).max() <= 1


def _clip(number: int) -> np.ndarray:
    return frames(9 + number, 16 + 5 * number, 40 - 3 * number, 7 * number)


def _eight_at_once(bundle: Manifest, server: TritonServer) -> list[tuple[np.ndarray, np.ndarray]]:
    """Latents and frames of clips of different sizes and lengths, a client and a way of cutting for each."""

    def there_and_back(number: int) -> tuple[np.ndarray, np.ndarray]:
        clip, client = _clip(number), server.client("http" if number % 2 else "grpc")
        encoder = Sequence(client, f"{bundle.name}_encoder", number + 1, sample=number)
        several, left = divmod(len(clip), 1 + number % 3)
        latents = encoder.send_all(clip, [1 + number % 3] * several + [left])
        size = {"num_frames": len(clip), "height": clip.shape[1], "width": clip.shape[2]}
        decoder = Sequence(client, f"{bundle.name}_decoder", number + 1, **size)
        return latents, decoder.send_all(latents, [1] * len(latents))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(there_and_back, range(8)))


def test_errors_are_those_of_triton_and_end_the_sequence(live: TritonServer) -> None:
    client = live.client()
    clip = frames(9, 16, 24)
    name = "kl-4chn-v1.1"

    def sequence(role: str = "encoder", key: Any = 1, **options: Any) -> Sequence:
        return Sequence(client, f"{name}_{role}", key, **options)

    other = sequence(key="undisturbed")
    parts = [other.send(clip[:4])]
    assert "data-type is 'FP32', but model" in failure(sequence(), clip.astype(np.float32))
    assert "unexpected shape for input 'frames'" in failure(sequence(), clip[..., :2])
    assert "there is no parameter 'gob'; the encoder takes gop, sample" in failure(sequence(gob=2), clip)
    assert "the parameter gop is a whole number, got 2.5" in failure(sequence(gop=2.5), clip)
    assert "video must be [T, H, W, 3]" in failure(sequence(), clip[:, :0])
    assert "must specify a non-zero or non-empty correlation ID" in failure(sequence(key=0), clip)

    begun = sequence(key=2)
    begun.send(clip)
    assert "frames of one stream are all [16, 24, 3], got [24, 16, 3]" in failure(begun, clip.swapaxes(1, 2).copy())
    assert "sequence 2 is not known here: an error ended it" in failure(begun, clip)
    begun = sequence(key=2)  # the same number may begin again at once
    begun.send(clip, end=True)
    assert "must specify the START flag on the first request" in failure(begun, clip)

    latents = sequence(key=3).send(clip, end=True)
    decoder = sequence("decoder", num_frames=9)
    decoder.send(latents[:1])
    assert "latents hold NaN or infinite values" in failure(decoder, np.full_like(latents[1:], np.nan))
    assert "is not known here" in failure(decoder, latents[1:], end=True)
    assert "the tokens end 4 frames too early" in failure(sequence("decoder", num_frames=9), latents[:2], end=True)
    assert "a height of 9 pixels needs 3 latents, got 4" in failure(
        sequence("decoder", num_frames=9, height=9), latents
    )

    parts += [other.send(clip[4:]), other.send(clip[:0], end=True)]
    assert np.allclose(np.concatenate([part for part in parts if len(part)]), latents, atol=1e-5)


def test_an_answer_may_be_empty(live: TritonServer) -> None:
    encoder = Sequence(live.client(), "fsq-4096_encoder", "nothing")
    nothing = np.zeros((0, 16, 24, 3), np.uint8)
    assert encoder.send(nothing).shape == (0, 4, 6)
    assert encoder.send(nothing, end=True).shape == (0, 4, 6)


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_the_example(live: TritonServer, tmp_path: Path, name: str) -> None:
    make_clip(tmp_path / "clip.mp4", 11, 30, 50)
    address = f"{name}://127.0.0.1:{live.ports[name]}"
    command = [sys.executable, EXAMPLE, tmp_path / "clip.mp4", "fsq-4096", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(11, 30, 50, 3) -> int32 (4, 8, 13) -> (11, 30, 50, 3), ")


def test_abandoned_sequences_give_their_memory_back(tmp_path: Path) -> None:
    models = repository(tmp_path / "models", SHIPPED / "tiny-fsq-32768", max_sequence_idle_microseconds=6_000_000)
    with running(models, tmp_path / "log", *QUICK) as server:
        name, client, clip = "fsq-32768_encoder", server.client(), frames(4, 192, 192)
        for _ in range(2):  # what the engine keeps for itself
            Sequence(client, name, "warm").send(clip, end=True)
        before = server.stub(name).memory_info().rss
        abandoned = [Sequence(client, name, number) for number in range(1, 7)]
        for sequence in abandoned:
            sequence.send(clip)
        states = server.stub(name).memory_info().rss - before
        assert states > 40e6
        wait_for(lambda: all(re.search(rf"were let go: .*\b{s.key}\b", server.log) for s in abandoned))
        wait_for(lambda: server.stub(name).memory_info().rss - before < 0.2 * states)
        assert "must specify the START flag" in failure(abandoned[0], clip)
        assert len(Sequence(client, name, 1).send(clip)) == 1


def test_others_wait_until_an_abandoned_sequence_is_forgotten(tmp_path: Path) -> None:
    limits = {"max_sequence_idle_microseconds": 3_000_000, "max_candidate_sequences": 2}
    models = repository(tmp_path / "models", KIT / "fsq-causal", **limits)
    with running(models, tmp_path / "log", *QUICK) as server:
        clip = frames(5, 16, 24)
        for number in (1, 2):
            Sequence(server.client(), "fsq-4096_encoder", number).send(clip)
        with ThreadPoolExecutor() as pool:
            third = pool.submit(Sequence(server.client(), "fsq-4096_encoder", 3).send, clip, end=True)
            assert third.result().shape == (2, 4, 6)


ENDLESS = """
import sys
sys.path[:0] = {path!r}
import numpy as np
from triton_server import Sequence, protocol
client = protocol("grpc").InferenceServerClient({address!r})
sequence = Sequence(client, "fsq-4096_encoder", 5)
while True:
    print(len(sequence.send(np.zeros((8, 64, 64, 3), np.uint8))), flush=True)
"""


def test_a_killed_client(tmp_path: Path) -> None:
    models = repository(tmp_path / "models", KIT / "fsq-causal", max_sequence_idle_microseconds=2_000_000)
    with running(models, tmp_path / "log", *QUICK) as server:
        text = ENDLESS.format(path=sys.path, address=f"127.0.0.1:{server.ports['grpc']}")
        with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            for _ in range(5):
                assert client.stdout.readline()
            client.kill()
        clip = frames(5, 16, 24)
        other = Sequence(server.client(), "fsq-4096_encoder", 6).send(clip, end=True)
        wait_for(lambda: "were let go: 5" in server.log)
        assert np.array_equal(Sequence(server.client(), "fsq-4096_encoder", 5).send(clip, end=True), other)


def test_a_restart(tmp_path: Path) -> None:
    models = repository(tmp_path / "models", KIT / "fsq-causal")
    clip, name = frames(9, 16, 24), "fsq-4096_encoder"
    with running(models, tmp_path / "log") as server:
        clients = [server.client()]
        wanted = Sequence(clients[0], name, 1).send(clip, end=True)
        assert server.stop() == 0
        server.start()
        clients.append(server.client("http"))  # not before: an open connection holds the server up
        begun = [Sequence(client, name, number) for number, client in enumerate(clients, 1)]
        for sequence in begun:
            assert len(sequence.send(clip[:4])) == 1
        server.stop(signal.SIGKILL)
        server.start()
        for sequence in begun:  # their clients live on
            assert "must specify the START flag" in failure(sequence, clip[4:], end=True)
            again = Sequence(sequence.client, name, sequence.key)
            assert np.array_equal(again.send_all(clip, [4, 5]), wanted)


def test_a_model_whose_process_died_comes_back_when_it_is_loaded_anew(tmp_path: Path) -> None:
    models = repository(tmp_path / "models", KIT / "fsq-causal")
    options = *QUICK, "--model-control-mode=explicit", "--load-model=*"
    with running(models, tmp_path / "log", *options) as server:
        client, name, clip = server.client(), "fsq-4096_encoder", frames(5, 16, 24)
        wanted = Sequence(client, name, 1).send(clip, end=True)
        server.stub(name).kill()
        assert "is not healthy" in failure(Sequence(client, name, 2), clip)
        client.unload_model(name)
        wait_for(lambda: not client.is_model_ready(name))
        client.load_model(name)
        assert np.array_equal(Sequence(client, name, 3).send(clip, end=True), wanted)


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    models = repository(tmp_path / "models", KIT / "fsq-causal", KIT / "fsq-noncausal")
    broken = models / "fsq-4096_encoder/1/bundle/encoder.local.onnx"
    content = broken.read_bytes()
    broken.unlink()  # it may be the decoder's file, too
    broken.write_bytes(content[:-1])
    config = models / "fsq-4096_decoder/config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "cpu"', 'string_value: "directml"'))
    options = "--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"
    with running(models, tmp_path / "log", *options) as server:
        client = server.client()
        assert not client.is_model_ready("fsq-4096_encoder")
        assert client.is_model_ready("fsq-262144-noncausal_encoder")
        assert f"{broken} is altered: its size or SHA-256 is not the manifest's" in server.log
        assert "provider directml: " in server.log


def test_triton_accepts_the_models_of_its_onnx_runtime_backend(tmp_path: Path) -> None:
    bundles = ["fsq-causal", "kl-causal-v1.1", "fsq-noncausal", "wan-causal"]
    for bundle in bundles:
        result = run_export("triton", KIT / bundle, tmp_path / "models", "--size", "32x24", "--batch", 2)
        assert result.exit_code == 0, result.output
    names = [path.parent.name for path in (tmp_path / "models").glob("*/config.pbtxt")]
    assert len(names) == 2 * len(bundles)
    with running(tmp_path / "models", tmp_path / "log", "--exit-on-error=false") as server:
        if os.environ.get("VIDTOK_TRITONSERVER") and "unable to find backend library" not in server.log:
            assert all(server.client().is_model_ready(name) for name in names)  # this Triton has the backend
            return
        rows = {row["name"]: row["reason"] for row in server.client("http").get_model_repository_index()}
        missing = "Invalid argument: unable to find backend library for backend 'onnxruntime', try specifying runtime"
        assert rows.keys() == set(names)
        assert all(reason.startswith(missing) for reason in rows.values()), rows
