"""Archives that PyTorch writes: read like torch itself reads them, and nothing in them is run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vidtok_ref import ModelError, build
from vidtok_ref.archives import read_saved
from vidtok_ref.weights import UNREADABLE, read_weights, weights_sha256

# TorchScript is deprecated; what is published in it stays.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
COSMOS = {"ch": 2, "ch_mult": (1, 2), "decoder_mult": (1,), "num_res_blocks": 1}
CONFIG = {"channels": 2, "channels_mult": [1, 2], "num_res_blocks": 1}


class Small(nn.Module):
    """Parameters, buffers, a shared module, lists, and attributes of every plain kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)])
        self.shared = self.blocks[0]
        self.register_buffer("bfloats", torch.arange(3).bfloat16(), persistent=False)
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.register_buffer("scalar", torch.tensor(3.0))
        self.register_buffer("empty", torch.empty(0, 2))
        self.sizes, self.factor, self.name, self.nothing = [1, 2], 0.5, "small", None
        self.wide, self.pair, self.by_name = 1 << 40, (1, True), {"a": 1.0}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x)) * self.factor
        return y


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("archive") / "small.jit"
    torch.jit.save(torch.jit.script(Small()), path)
    return path


def equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        t.dtype == wanted[k].dtype and torch.equal(t, wanted[k]) for k, t in found.items()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_scripted_and_traced_modules(tmp_path: Path, dtype: torch.dtype) -> None:
    module, path = Small().eval().to(dtype), tmp_path / "small.pt"  # no suffix tells it apart from torch.save's
    traced = torch.jit.trace(module, torch.ones(1, 2, 1, 1, dtype=dtype), check_trace=False)
    for made in (torch.jit.script(module), traced):
        torch.jit.save(made, path)
        assert equal(read_weights(path), torch.jit.load(path).state_dict())


def released_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a narrow Cosmos under the names of the release, whose convolutions lie in `conv3d`."""
    renamed = {}
    for name, tensor in weights.items():
        name = re.sub(r"^(en|de)coder\.(post_)?quant_conv\.", r"\2quant_conv.conv3d.", name)
        name = name.replace(".space.", ".0.conv3d.").replace(".time.", ".1.conv3d.").replace(".conv.", ".conv3d.")
        name = name.replace("downsample.conv3d", "downsample.conv1.conv3d")
        name = name.replace("upsample.conv3d", "upsample.conv2.conv3d").replace("sample.point", "sample.conv3.conv3d")
        renamed[name.replace("nin_shortcut.", "nin_shortcut.conv3d.")] = tensor
    return renamed


def tree(tensors: dict[str, Tensor], buffers: dict[str, Tensor]) -> nn.Module:
    """A module whose attributes have these names."""
    root = nn.Module()
    for name, tensor in {**tensors, **buffers}.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            if part not in dict(at.named_children()):
                at.add_module(part, nn.Module())
            at = at.get_submodule(part)
        if name in tensors:
            at.register_parameter(last, nn.Parameter(tensor.clone()))
        else:
            at.register_buffer(last, tensor, persistent=False)
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three archives that the release of Cosmos has, with constants and a layer that nobody uses."""
    model, folder = build("cosmos-cv-4x8x8", seed=3, **COSMOS), tmp_path_factory.mktemp("cosmos")
    weights = released_names(model.state_dict())
    weights["encoder.down.0.downsample.conv2.conv3d.weight"] = torch.zeros(2, 2, 3, 1, 1)
    wavelets = {f"{name}.wavelets": torch.ones(2) for name in ("encoder.patcher3d", "decoder.unpatcher3d")}
    halves = {
        "encoder": ("encoder.", "quant_conv."),
        "decoder": ("decoder.", "post_quant_conv."),
    }
    for name, prefixes in {**halves, "autoencoder": ("",)}.items():
        part = {k: t for k, t in weights.items() if k.startswith(prefixes)}
        constants = {k: t for k, t in wavelets.items() if k.startswith(prefixes)}
        torch.jit.save(torch.jit.script(tree(part, constants)), folder / f"{name}.jit")
    return folder


def test_what_cosmos_publishes(published: Path, tmp_path: Path) -> None:
    wanted = weights_sha256(build("cosmos-cv-4x8x8", seed=3, **COSMOS))
    assert weights_sha256(build("cosmos-cv-4x8x8", published, released_config=CONFIG)) == wanted
    alone = build("cosmos-cv-4x8x8", published / "autoencoder.jit", released_config=CONFIG)
    assert weights_sha256(alone) == wanted
    for name in ("encoder", "decoder"):
        (tmp_path / f"{name}.jit").write_bytes((published / f"{name}.jit").read_bytes())
    assert weights_sha256(build("cosmos-cv-4x8x8", tmp_path, released_config=CONFIG)) == wanted
    with pytest.raises(ModelError, match=r"missing: decoder.*nearest to cosmos-cv-4x8x8"):
        build("cosmos-cv-4x8x8", published / "encoder.jit", released_config=CONFIG)
    torch.jit.save(torch.jit.script(tree({"quant_conv.conv3d.bias": torch.zeros(16)}, {})), tmp_path / "other.jit")
    with pytest.raises(ModelError, match=r"other\.jit has another quant_conv\.conv3d\.bias"):
        build("cosmos-cv-4x8x8", tmp_path, released_config=CONFIG)


def test_a_frozen_module_has_no_names(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.script(Small().eval())), tmp_path / "frozen.jit")
    assert "no tensor under a name" in refused(tmp_path / "frozen.jit")


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_weights(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text


def rewritten(
    source: Path, out: Path, *, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED, more: str = ""
) -> Path:
    """A copy of an archive with another description, and with a storage of three numbers."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, pickled if pickled is not None and name.endswith("/data.pkl") else content)
        new.writestr("small/data/three", np.arange(3, dtype="<f4").tobytes())
        if more:
            new.writestr(more, b"")
    return out


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def row(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str = "three", kind: str = "FloatStorage", count: int = 3) -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(numbers: bytes = storage(), offset: int = 0, size: bytes = row(3), stride: bytes = row(1)) -> bytes:
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + numbers + number(offset) + size + stride + b"\x89" + hooks + b"tR"


def module(attribute: bytes) -> bytes:
    """A description of a module with one attribute, as opcodes."""
    return b"\x80\x02c__torch__\nM\n)\x81}(" + text("w") + attribute + b"ub."


class Command:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("exit 7",)


HOSTILE = {
    "a command": (pickle.dumps(Command(), 2), "is not allowed"),
    "eval": (module(b"c__builtin__\neval\n(" + text("1") + b"tR"), "asks for '__builtin__ eval', which is not allowed"),
    "an inner command": (module(b"cos\nsystem\n(" + text("true") + b"tR"), "asks for 'os system'"),
    "a name below torch": (module(b"ctorch.hub\nload\n)R"), "asks for 'torch.hub load'"),
    "a name like ours": (module(b"c__torch__x\nM\n)\x81"), "asks for '__torch__x M'"),
    "a call of a module": (module(b"c__torch__\nM\n)R"), "calls what is no function"),
    "a call of a text": (module(text("eval") + b")R"), "calls what is no function"),
    "a call of a storage": (module(b"ctorch\nFloatStorage\n)R"), "calls what is no function"),
    "an object of a function": (module(b"ccollections\nOrderedDict\n)\x81"), "no module"),
    "a state that is none": (b"\x80\x02c__torch__\nM\n)\x81Nb.", "state is no dictionary"),
    "a state for a list": (b"\x80\x02]}b.", "state is no dictionary"),
    "other opcodes": (module(b"cx\ny\n(i1\nI\n"), "not allowed"),
    "an opcode of protocol 4": (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.", "opcode FRAME"),
    "an extension": (module(b"\x82\x01"), "opcode EXT1"),
    "no module": (b"\x80\x02].", "holds no module"),
    "an absent storage": (module(tensor(storage("99"))), "lacks 'data/99'"),
    "a storage elsewhere": (module(tensor(storage("../data.pkl"))), "lacks 'data/../data.pkl'"),
    "a longer storage": (module(tensor(storage(count=4))), "does not hold 4 numbers of float32"),
    "a negative storage": (module(tensor(storage(count=-1))), "does not hold -1"),
    "an unknown dtype": (module(tensor(storage(kind="QInt8Storage"))), "asks for 'torch QInt8Storage'"),
    "a storage of nothing": (module(b"NQ"), "names a storage in a way"),
    "a tensor of no storage": (module(tensor(b"N")), "makes a tensor in a way that is not known"),
    "a longer tensor": (module(tensor(size=row(4))), "does not lie within its storage"),
    "a later tensor": (module(tensor(offset=1)), "does not lie within its storage"),
    "an earlier tensor": (module(tensor(offset=-1)), "whose size is none"),
    "wide steps": (module(tensor(stride=row(2))), "does not lie within its storage"),
    "no steps": (module(tensor(size=row(1 << 30), stride=row(0))), "does not lie within its storage"),
    "negative axes": (module(tensor(size=row(-1, -1), stride=row(1, 1))), "whose size is none"),
    "axes that overflow": (module(tensor(size=row(0, 1 << 62), stride=row(1, 1))), "whose size is none"),
    "fewer steps": (module(tensor(size=row(1, 1), stride=row(1))), "2 axes with 1 strides"),
    "many axes": (module(tensor(size=row(*[1] * 9), stride=row(*[1] * 9))), "9 axes"),
    "a size of words": (module(tensor(size=b"(" + text("3") + b"t")), "whose size is none"),
    "one name twice": (
        module(tensor() + text("v.w") + tensor() + text("v") + b"}" + text("w") + tensor() + b"s"),
        "twice",
    ),
    "a list in itself": (module(b"]q\x00h\x00a"), "nested too deeply"),
    "a module in itself": (b"\x80\x02c__torch__\nM\n)\x81q\x00}" + text("w") + b"h\x00sb.", "nested too deeply"),
    "a deep list": (module(b"]" * 200 + b"a" * 199), "nested too deeply"),
    "lists of lists": (module(b"(]" + b"".join(b"q\x00](" + b"h\x00" * 9 + b"e" for _ in range(9)) + b"t"), "too many"),
    "a deep tuple": (module(b")" + b"\x85" * 100_000), "nested too deeply"),
    "a tuple as a key": (module(b"}))s"), "no tensor under a name"),
    "an unknown memory": (module(b"h\x07"), "damaged"),
    "nothing to take": (b"\x80\x02\x86.", "damaged"),
    "no mark": (b"\x80\x02t.", "damaged"),
    "an odd dictionary": (module(b"}(Nu"), "none of a dictionary"),
    "a long name": (module(b"}" + text("w" * 2000) + tensor() + b"s"), "name is too long"),
    "no end": (module(tensor())[:-1], "pickle exhausted"),
    "five bytes of a text": (b"\x80\x02X\xff\xff\xff\x7fa.", "expected 2147483647 bytes"),
    "an endless description": (b"\x80\x02" + b"N" * (5 << 20) + b".", "too much"),
}


# What is wrong with numbers and opcodes is so in a checkpoint, too, which has a dictionary in the place of the module.
ALIKE = re.compile("lacks|hold -?[0-9]|lie within|size is none|axes|a tensor in a|opcode (FRAME|EXT)|storage in a way")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions_of_checkpoints(archive: Path, tmp_path: Path, name: str) -> None:
    """Names stay names there: what would make or call something gives neither an object nor a tensor."""
    pickled, said = HOSTILE[name]
    pickled = pickled.replace(b"c__torch__\nM\n)\x81", b"").replace(b"ub.", b"u.")
    path = rewritten(archive, tmp_path / "bad.pt", pickled=pickled)
    if ALIKE.search(said):
        with pytest.raises(ValueError, match=re.escape(said)):
            read_saved(path)
        return
    with contextlib.suppress(*UNREADABLE):
        found = read_saved(path)
        if isinstance(found, dict) and name != "one name twice":
            assert not isinstance(found.get("w"), Tensor | int)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions(archive: Path, tmp_path: Path, name: str) -> None:
    pickled, said = HOSTILE[name]
    assert said in refused(rewritten(archive, tmp_path / "bad.jit", pickled=pickled))


def test_the_opcodes_of_these_tests_are_right(archive: Path, tmp_path: Path) -> None:
    found = read_weights(rewritten(archive, tmp_path / "good.jit", pickled=module(tensor())))
    assert found["w"].tolist() == [0, 1, 2]


def test_hostile_archives(archive: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jit"
    assert "compressed" in refused(rewritten(archive, bad, compression=zipfile.ZIP_DEFLATED))  # no bombs
    with pytest.warns(UserWarning, match="Duplicate"):
        rewritten(archive, bad, more="small/data.pkl")
    assert "a file twice" in refused(bad)
    assert "or several" in refused(rewritten(archive, bad, more="other/data.pkl"))
    with zipfile.ZipFile(bad, "w") as empty:
        empty.writestr("small/constants.pkl", b"")
    assert "no data.pkl" in refused(bad)
    bad.write_bytes(archive.read_bytes().replace(b"little", b"bigbig"))
    refused(bad)
    bad.write_text("no archive")
    refused(bad)
    bad.write_bytes(b"")
    refused(bad)
    out = tmp_path / "out"
    done = run_export("--variant", "cosmos-cv-4x8x8", "--checkpoint", bad, "--out", out)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert not out.exists()
    whole = archive.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        bad.write_bytes(whole[:length])
        refused(bad)


def test_files_of_an_archive_that_overlap(archive: Path, tmp_path: Path) -> None:
    """A size in the directory that goes beyond the end, and so over the other files."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        name = next(n for n in file.namelist() if n.endswith("/data.pkl")).encode()
    entry = content.rfind(name) - 46  # in the central directory
    content[entry + 20 : entry + 28] = struct.pack("<II", len(content) + 1, len(content) + 1)
    (tmp_path / "bad.jit").write_bytes(content)
    refused(tmp_path / "bad.jit")


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
FUZZ = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutated(content: bytes, changes: list[tuple[float, int]]) -> bytes:
    result = bytearray(content)
    for place, value in changes:
        result[int(place * len(result))] = value
    return bytes(result)


@FUZZ
@given(CHANGES)
def test_any_bytes_of_an_archive(archive: Path, tmp_path: Path, changes: list[tuple[float, int]]) -> None:
    path = tmp_path / "bad.jit"
    path.write_bytes(mutated(archive.read_bytes(), changes))
    with contextlib.suppress(ModelError):
        read_weights(path)


@FUZZ
@given(CHANGES)
def test_any_bytes_of_a_description(archive: Path, tmp_path: Path, changes: list[tuple[float, int]]) -> None:
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as file:
        pickled = file.read(next(n for n in file.namelist() if n.endswith("/data.pkl")))
    path = rewritten(archive, tmp_path / "bad.jit", pickled=mutated(pickled, changes))
    with contextlib.suppress(ModelError):
        read_weights(path)
