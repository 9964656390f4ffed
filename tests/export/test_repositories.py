"""The commands that write a repository for a model server: into a new folder, and beside the models of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import run_export
from simulated_servers import KIT


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_commands(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "models"
    result = run_export(server, KIT / "kl-causal-v1.1", out, "--size", "22x14")
    assert result.exit_code == 0, result.output
    assert "kl-4chn-v1.1_encoder, kl-4chn-v1.1_decoder" in result.output
    rules = (out / "kl-4chn-v1.1.md").read_text()
    for text in ("24x16", "3 copies of the first frame", "first request has 1 latent", "first 6 frames", "`boundary`"):
        assert text in rules
    assert ("Send the input `first`" in rules) == (server == "ovms")
    assert not list(tmp_path.glob("*.part"))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    refused = run_export(server, KIT / "kl-causal-v1.1", out)
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "--force" in refused.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert run_export(server, KIT / "kl-causal-v1.1", out, "--size", "8", "--force").exit_code == 0
    assert "8x8" in (out / "kl-4chn-v1.1.md").read_text()
    monkeypatch.chdir(out)
    assert run_export(server, KIT / "kl-causal-v1.1", ".", "--size", "16x8", "--force").exit_code == 0
    assert "16x8" in (out / "kl-4chn-v1.1.md").read_text()

    for args, code in [
        ((KIT, tmp_path / "b"), 1),
        ((KIT / "fsq-causal", tmp_path / "none" / "b"), 1),
        ((KIT / "fsq-causal", tmp_path / "b", "--size", "0x8"), 2),
        ((KIT / "fsq-causal", tmp_path / "b", "--precision", "int8"), 1 if server == "triton" else 2),
    ]:
        wrong = run_export(server, *args)
        assert wrong.exit_code == code, wrong.output
        assert code == 2 or wrong.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_what_one_graph_cannot_hold_is_one_line(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = sum(path.stat().st_size for path in (KIT / "wan-causal").glob("decoder.*.onnx")) - 1
    monkeypatch.setattr("vidtok_export.servers.served.TWO_GB", largest)
    refused = run_export(server, KIT / "wan-causal", tmp_path / "models", "--size", "16")
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "the decoder of wan-2.1 has more than the 2 GB" in refused.output
    assert "--backend python" in refused.output
    assert not list(tmp_path.iterdir())
    if server == "triton":
        python = run_export(server, KIT / "wan-causal", tmp_path / "models", "--backend", "python")
        assert python.exit_code == 0, python.output


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_models_join_a_repository(server: str, tmp_path: Path) -> None:
    out = tmp_path / "models"
    (out / "mine/1").mkdir(parents=True)
    (out / "mine/1/model.onnx").write_text("not ours")
    mine = {"config": {"name": "mine", "base_path": "mine", "nireq": 2}}
    if server == "ovms":
        (out / "config.json").write_text(json.dumps({"monitoring": {"metrics": {}}, "model_config_list": [mine]}))
    for bundle in ("fsq-causal", "kl-causal-v1.1"):
        result = run_export(server, KIT / bundle, out, "--size", 16)
        assert result.exit_code == 0, result.output
    names = {f"{name}_{role}" for name in ("fsq-4096", "kl-4chn-v1.1") for role in ("encoder", "decoder")}
    common = {"mine", "fsq-4096.md", "kl-4chn-v1.1.md", *names}

    def state() -> dict[Path, bytes]:
        return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def config() -> dict[str, Any]:
        return dict(json.loads((out / "config.json").read_text()))

    assert {path.name for path in out.iterdir()} == common | ({"config.json"} if server == "ovms" else set())
    if server == "ovms":
        assert config()["monitoring"] == {"metrics": {}}
        assert config()["model_config_list"][0] == mine
        assert {row["config"]["name"] for row in config()["model_config_list"]} == {"mine", *names}
    before = state()
    refused = run_export(server, KIT / "fsq-causal", out, "--size", 8)
    assert refused.exit_code == 1
    assert "fsq-4096_encoder exists already; give --force" in refused.output
    assert state() == before
    assert run_export(server, KIT / "fsq-causal", out, "--size", 8, "--force").exit_code == 0
    changed = {path.parts[0] for path, content in state().items() if before[path] != content}
    assert "fsq-4096.md" in changed
    assert changed <= {"fsq-4096.md", "fsq-4096_encoder", "fsq-4096_decoder", "config.json"}
    if server == "ovms":
        assert len(config()["model_config_list"]) == 5
        shutil.rmtree(out / "fsq-4096_encoder")
        shutil.rmtree(out / "fsq-4096_decoder")
        (out / "fsq-4096.md").unlink()
        assert "config.json has fsq-4096_encoder already" in run_export(server, KIT / "fsq-causal", out).output
        (out / "config.json").write_text("{}")
        assert "no configuration of OpenVINO Model Server" in run_export(server, KIT / "fsq-causal", out).output
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_model_comes_back_where_its_successor_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "models"
    assert run_export("triton", KIT / "fsq-causal", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.parent.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    refused = run_export("triton", KIT / "fsq-causal", out, "--size", 8, "--force")
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "No space left on device" in refused.output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_export_writes_a_triton_repository_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(_: object, out: Path, **__: object) -> None:
        shutil.copytree(KIT / "fsq-causal", out)

    monkeypatch.setattr("vidtok_export.bundle.export", export)  # exporting itself is tested elsewhere
    model = ("--variant", "fsq-4096", "--ch", 4, "--seed", 1, "--out", tmp_path / "b")
    result = run_export(*model, "--triton", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "fsq-4096_encoder" in result.output
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"fsq-4096.md", "fsq-4096_encoder", "fsq-4096_decoder"}
    shutil.rmtree(tmp_path / "b")
    assert run_export(*model, "--triton", tmp_path / "m").exit_code == 1  # before the long work
    assert not (tmp_path / "b").exists()
