"""The parts of the trainer against what is worked out by hand: recipe, data, losses, GAN, average, schedule."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import tiny

from vidtok_ref import ModelError, build
from vidtok_ref.errors import DataError
from vidtok_ref.layers import TimeBlock
from vidtok_ref.regularizer import Encoded
from vidtok_ref.train.average import update_average
from vidtok_ref.train.clips import FileClip, HeldClip
from vidtok_ref.train.cut import choose_frames, cut_video
from vidtok_ref.train.gan import Discriminator, adaptive_weight, hinge, lecam, non_saturating
from vidtok_ref.train.loader import Numbers, Samples, make_loader, to_tensor
from vidtok_ref.train.losses import Objective, entropy_weight, log_error
from vidtok_ref.train.material import list_files, load_material
from vidtok_ref.train.module import sample_latent
from vidtok_ref.train.optimizer import learning_rate, make_optimizer
from vidtok_ref.train.recipe import RECIPES, DataPart, GanPart, LossPart, load_recipe
from vidtok_ref.train.recompute import recompute_blocks
from vidtok_ref.train.validate import psnr

NARROW = {"ch": 4, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1}
PART = DataPart(batch=4, frames=5, size=32, short_side=40, held_back=("held",), held_back_frames=5, held_back_size=32)


# --- recipe ---


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("frames = 5", "frame = 5", r"\[data\] has no 'frame'; did you mean frames\?"),
        ("frames = 5", 'frames = "five"', r"\[data\] frames must be a whole number, got 'five'"),
        ("frames = 5", "frames = 5.0", "must be a whole number"),
        ("frames = 5", "frames = true", "must be a whole number"),
        ("frames = 5", "frames = 0", "at least 1"),
        ("short_side = 40", "short_side = 16", "no crop fits"),
        ('held_back = ["held"]', 'held_back = "held"', "must be a list"),
        ('held_back = ["held"]', "held_back = [1]", "must be text"),
        ("l2 = 1.0", 'l2 = "much"', "must be a number"),
        ("batch = 2", "batch = 2\nworkers = -1", r"\[data\] workers must be 0 or more, got -1"),
        ("batch = 2", "batch = 2\nmax_clip_frames = 0", r"\[data\] max_clip_frames must be at least 1, got 0"),
        ("warmup = 1", "learning_rate = 0", r"\[optimizer\] learning_rate must be above 0, got 0"),
        ("warmup = 1", "learning_rate = nan", "must be above 0, got nan"),
        ("[report]", "[gan]\nlearning_rate = -1.0\n[report]", r"\[gan\] learning_rate must be above 0, got -1"),
        ("ch = 8", "ch = 8.5", r"\[model\] overrides ch must be a whole number, got 8.5"),
        ("[1, 1, 2, 2]", "4", r"overrides ch_mult must be a list, got 4"),
        ("ch = 8", "channels = 8", r"overrides has no 'channels'"),
        ("overrides = {", "overrides = 3 #", r"overrides must be a table, got 3"),
        ("warmup = 1", 'name = "sgd"', "one of adam, adamw, muon, got 'sgd'"),
        ('variant = "kl-4chn"', "", "lacks variant"),
        ("steps = 6", "", "lacks steps"),
        ("[loss]", "[losses]", "did you mean loss"),
        ("[loss]", "[loss", "line"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_recipe(str(tiny(tmp_path, (old, new))))
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


def test_whole_numbers_are_numbers_and_lists_are_tuples(tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny(tmp_path, ("l2 = 1.0", "l2 = 2"))))
    assert type(recipe.loss.l2) is float
    assert recipe.model.overrides["ch_mult"] == (1, 1, 2, 2)
    assert hash(recipe.data.held_back) == hash(("held",))


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_shipped_recipes_name_models_that_learn(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.size % 8 == 0
    if not name.startswith("tiny"):
        return
    assert "repo licence may not cover footage" in recipe.data.skip_notes
    model = build(recipe.model.variant, **recipe.model.overrides)
    video = torch.zeros(1, 3, 1, 16, 16)
    Objective(recipe.loss).reconstruction(video, model.decode(model.encode(video).latent, 1))["l1"].backward()
    assert all(p.grad is not None for n, p in model.named_parameters())


def test_released_recipes_are_as_published() -> None:
    one, two = load_recipe("released-stage1"), load_recipe("released-stage2")
    assert (one.steps, one.data.batch, one.data.size, one.data.fps) == (50_000, 16, 128, (3.0,))
    assert (two.steps, two.data.batch, two.data.size, two.model.train) == (30_000, 8, 256, "decoder")
    for recipe in (one, two):
        assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.clip_norm) == ("adam", 1e-5, 20)
        assert (recipe.loss.l1, recipe.loss.perceptual, recipe.loss.kl, recipe.loss.log_variance) == (1, 1, 1e-6, True)
        assert (recipe.gan.weight, recipe.gan.start, recipe.gan.layers, recipe.gan.lecam) == (0.2, 20_001, 3, 0.005)
        assert recipe.model.precision == "bf16-mixed"


# --- data ---


def test_material_is_cut_as_told(clips: Path) -> None:
    material = load_material(clips, PART)
    assert [len(x) for x in (material.videos, material.images, material.held_back)] == [2, 1, 1]
    assert material.held_back[0].shape == (5, 32, 32, 3)
    assert len(material.skipped) == 1
    assert "broken.mp4" in material.skipped[0]
    (clips / "SOURCES.csv").write_text("file,note\ntrain/a.mp4,footage of doubtful licence\nb.mp4,doubtful licence\n")
    try:
        with pytest.raises(ModelError, match="0 clips to train on"):
            load_material(clips, replace(PART, skip_notes=("doubtful licence",)))
    finally:
        (clips / "SOURCES.csv").unlink()


@pytest.mark.parametrize("names", [(), ("street",)])
def test_every_tenth_video_is_held_back_where_none_is_named(
    clips: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    part = replace(PART, held_back=names)
    assert [e.path.name for e in list_files(clips, part) if e.split == "held_back"] == ["a.mp4"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("every 10th video is: a.mp4")
    assert [len(x) for x in (load_material(clips, part).videos, load_material(clips, part).held_back)] == [2, 1]


def test_how_many_are_held_back(tmp_path: Path) -> None:
    def held(count: int, marked: str = "train") -> list[str]:
        rows = [f"{i:02}.mp4,{marked if i == 5 else 'train'}" for i in range(count)]
        (tmp_path / "list.csv").write_text("\n".join(["file,split", "photo.png,", *rows]))
        entries = list_files(tmp_path / "list.csv", replace(PART, held_back=()), quiet=True)
        return [e.path.stem for e in entries if e.split == "held_back"]

    assert [held(1), held(2), held(10), held(11)] == [[], ["00"], ["00"], ["00", "10"]]
    assert held(11, "held_back") == ["05"]
    assert len(held(999)) == 31


def test_a_folder_heeds_the_splits_and_notes_of_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/a.mp4", "train/b.mp4", "train/c.mp4", "eval/a.mp4", "more/b.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "SOURCES.csv").write_text(
        "file,split,note\nvideos/train/a.mp4,train,\nvideos/eval/a.mp4,eval,\nvideos/train/b.mp4,held_back,\n"
        "moved/c.mp4,train,doubt\n"
    )
    part = replace(PART, held_back=(), skip_notes=("doubt",))
    entries = list_files(tmp_path / "videos", part)
    assert [(str(e.path.relative_to(tmp_path / "videos")), e.split) for e in entries] == [
        ("more/b.mp4", "train"),
        ("train/a.mp4", "train"),
        ("train/b.mp4", "held_back"),
    ]
    assert not capsys.readouterr().out
    (tmp_path / "SOURCES.csv").unlink()
    list_files(tmp_path / "videos", replace(part, held_back=("c",)))
    (line,) = capsys.readouterr().out.splitlines()
    assert "has no notes" in line


def test_a_list_names_files_notes_and_splits(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    rows = [("a.mp4", "", "train"), ("b.mp4", "doubt", ""), ("held.mp4", "", "held_back"), ("photo.png", "", "test")]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "note", "split"), *((str(clips / n), *rest) for n, *rest in rows)])
    plain = replace(PART, held_back=())
    assert [(e.path.name, e.split) for e in list_files(table, plain)] == [
        ("a.mp4", "train"),
        ("b.mp4", "train"),
        ("held.mp4", "held_back"),
    ]
    assert [e.path.name for e in list_files(table, replace(plain, skip_notes=("doubt",)))] == ["a.mp4", "held.mp4"]
    assert len(load_material(table, plain).videos) == 2
    table.write_text("name\na.mp4\n")
    with pytest.raises(DataError, match="no column `file`"):
        list_files(table, plain)
    table.write_text("note,file\n,a.mp4\nno path\n")
    with pytest.raises(DataError, match="row 2 names no file"):
        list_files(table, plain)
    table.write_bytes(b"file\n\xff\xfe.mp4\n")
    with pytest.raises(DataError, match="no CSV list that can be read"):
        list_files(table, plain)
    with pytest.raises(DataError, match="neither a folder nor"):
        list_files(clips / "a.mp4", plain)


def test_files_give_the_frames_that_memory_holds(clips: Path) -> None:
    held = HeldClip(clips / "a.mp4", 40, 100)
    with FileClip(clips / "a.mp4", 40) as file:
        np.testing.assert_allclose(file.times, held.times, atol=1e-3)
        for index in ([0, 1, 2], [7, 9, 11], [3, 3, 4], [11, 11, 11]):
            np.testing.assert_array_equal(file.take(np.array(index)), held.take(np.array(index)))


def test_frames_are_chosen_by_their_time() -> None:
    rng = np.random.default_rng(0)
    times = 0.5 + np.arange(300) / 30
    for _ in range(20):
        index = choose_frames(times, replace(PART, fps=(3.0,)), rng)
        assert (np.diff(index) == 10).all()
        assert index[-1] <= 299
    # An uneven clock: the frame that is on the screen at each moment.
    uneven = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 2.0])
    moments = uneven[choose_frames(uneven, replace(PART, frames=3, fps=(1.0,)), rng)]
    assert moments.tolist() == [0.0, 1.0, 2.0]
    # Too short for three a second: the whole clip. Its own rate: every or every second frame.
    assert choose_frames(np.arange(9) / 30, replace(PART, fps=(3.0,)), rng).tolist() == [0, 2, 4, 6, 8]
    steps = {int(s) for _ in range(20) for s in np.diff(choose_frames(times, PART, rng))}
    assert steps == {1, 2}
    assert choose_frames(np.zeros(1), PART, rng).tolist() == [0] * 5
    mixed = {int(np.diff(choose_frames(times, replace(PART, fps=(3.0, 10.0)), rng))[0]) for _ in range(20)}
    assert mixed == {10, 3}


def test_samples_are_cut_flipped_and_reversed(clips: Path) -> None:
    clip = HeldClip(clips / "a.mp4", 40, 100)
    seen = {cut_video(clip, PART, np.random.default_rng(i)).tobytes() for i in range(30)}
    assert len(seen) > 25
    still = replace(PART, flip=False, reverse=False, image_share=0, short_side=32)
    samples = Samples(load_material(clips, still), still, 0)
    times = [samples[i][0].astype(int) for i in range(8)]
    assert all(clip.shape == (5, 32, 32, 3) for clip in times)


@pytest.mark.parametrize("cache", [True, False])
def test_batches_are_the_same_whatever_cuts_them(clips: Path, cache: bool) -> None:
    part = replace(PART, cache=cache)
    material = load_material(clips, part)

    def batches(workers: int, first: int = 0, rank: int = 0, world: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
        samples = Samples(material, replace(part, workers=workers), 3)
        return [(b.video, b.number) for b in make_loader(samples, Numbers(4, first, 3, rank, world))]

    alone = batches(0)
    assert [number.tolist() for _, number in alone] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    halves = [batches(0, rank=rank, world=2) for rank in (0, 1)]
    joined = [tuple(torch.cat(pair) for pair in zip(*both, strict=True)) for both in zip(*halves, strict=True)]
    for other in (batches(2), joined, [*alone[:1], *batches(0, first=1)]):
        assert len(other) == len(alone)
        assert all(torch.equal(a, b) for x, y in zip(alone, other, strict=True) for a, b in zip(x, y, strict=True))


def test_unreadable_files_are_counted_and_given_up_on(clips: Path) -> None:
    part = replace(PART, cache=False, image_share=0)
    material = load_material(clips, part)
    assert len(material.videos) == 3
    seen = {line for number in range(20) for line in Samples(material, part, 0)[number][2]}
    assert len(seen) == 1
    material.videos = [clips / "broken.mp4"]
    with pytest.raises(DataError, match="100 files drawn in a row cannot be read"):
        Samples(material, part, 0)[0]


def test_noise_depends_on_the_sample_alone() -> None:
    encoded = Encoded(torch.zeros(3, 2, 2, 4, 4), log_variance=torch.zeros(3, 2, 2, 4, 4))
    drawn = sample_latent(encoded, 5, [10, 11, 12])
    one = Encoded(encoded.latent[:1], log_variance=encoded.log_variance[:1])  # type: ignore[index]
    assert torch.equal(sample_latent(one, 5, [11])[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(sample_latent(one, 6, [11])[0], drawn[1])
    assert 0.8 < drawn.std() < 1.2


# --- losses ---


def test_reconstruction_terms_by_hand() -> None:
    video, recon = torch.zeros(2, 3, 2, 4, 4), torch.zeros(2, 3, 2, 4, 4)
    recon[0], recon[1] = 0.1, 0.5
    part = LossPart(l1=1, l2=2, psnr=0.5, perceptual=3)
    terms = Objective(part, Brightness()).reconstruction(video, recon)
    assert {k: round(v.item(), 4) for k, v in terms.items()} == {
        "l1": 0.3,
        "l2": 0.13,
        "perceptual": 0.3,
        "psnr": round((10 * math.log10(0.01 + 1e-6) + 10 * math.log10(0.25 + 1e-6)) / 2, 4),
    }
    total = Objective(part, Brightness()).likelihood(terms, video)
    assert total.item() == pytest.approx(0.3 + 2 * 0.13 + 3 * 0.3 + 0.5 * terms["psnr"].item(), rel=1e-5)
    assert log_error(torch.zeros(1, 3)).item() == pytest.approx(-60)


class Brightness(torch.nn.Module):
    """A stand-in for LPIPS: distance of the mean brightness of frames `N 3 H W`."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape == b.shape
        assert a.shape[1] == 3
        return (a - b).abs().mean((1, 2, 3))


def test_the_log_variance_settles_at_the_log_of_the_error() -> None:
    video = torch.zeros(1, 3, 2, 4, 4)
    for per, scale in (("number", 1), ("frame", 3 * 4 * 4)):
        objective = Objective(LossPart(log_variance=True, per=per))  # type: ignore[arg-type]
        terms = objective.reconstruction(video, video + 0.2)
        with torch.no_grad():
            objective.log_variance.fill_(-0.5)  # type: ignore[union-attr]
        loss = objective.likelihood(terms, video)
        loss.backward()
        assert loss.item() == pytest.approx(scale * (0.2 * math.exp(0.5) - 0.5), rel=1e-5)
        assert objective.log_variance.grad.item() == pytest.approx(scale * (1 - 0.2 * math.exp(0.5)), rel=1e-5)  # type: ignore[union-attr]
    descent = torch.optim.SGD(objective.parameters(), lr=0.01)
    for _ in range(200):
        descent.zero_grad()
        objective.likelihood(terms, video).backward()
        descent.step()
    assert math.exp(objective.log_variance.item()) == pytest.approx(0.2, rel=1e-3)  # type: ignore[union-attr]


def test_regularizer_terms_are_weighted_and_annealed() -> None:
    part = LossPart(kl=1e-3, entropy=0.1, commitment=0.25)
    assert [entropy_weight(part, step) for step in (0, 1000, 2000, 9000)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    video = torch.zeros(1, 3, 2, 4, 4)
    terms = {"kl": torch.tensor(960.0), "entropy": torch.tensor(-2.0), "commitment": torch.tensor(4.0)}
    total = Objective(part).regularization(terms, video, 1000)
    assert total.item() == pytest.approx(1e-3 * 960 / 96 - 0.4 + 1)
    total = Objective(replace(part, per="frame")).regularization({"kl": terms["kl"]}, video, 0)
    assert total.item() == pytest.approx(0.96)
    endless = {"kl": torch.tensor(torch.inf), "commitment": terms["commitment"]}
    assert Objective(replace(part, kl=0)).regularization(endless, video, 0).item() == pytest.approx(1)


def test_gan_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert hinge(real, fake).item() == pytest.approx(0.5 * ((0 + 1) / 2 + (0 + 2) / 2))
    assert non_saturating(fake).item() == pytest.approx((math.log1p(math.exp(3)) + math.log1p(math.exp(-1))) / 2)
    levels = torch.tensor(0.5), torch.tensor(-1.0)
    # Real logits above the fakes' level by 3 and 1; the reals' level above fake logits by 3.5, and below by 0.5.
    assert lecam(real, fake, *levels).item() == pytest.approx((9 + 1) / 2 + 3.5**2 / 2)
    assert adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])).item() == pytest.approx(2.5, rel=1e-3)
    assert adaptive_weight(torch.tensor([1e9]), torch.tensor([0.0])).item() == 1e4


def test_the_discriminator_remembers_mean_logits() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(GanPart(weight=1, width=4))
    frames = torch.rand(2, 3, 32, 32)
    assert discriminator(frames).shape == (2, 1, 2, 2)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in discriminator.modules()) == 5
    torch.testing.assert_close(discriminator(frames)[:1], discriminator(frames[:1]))
    mean = discriminator(frames).mean().item()
    discriminator.loss(frames, -frames, lambda x: x)
    assert discriminator.real_level.item() == pytest.approx(mean / 1000, rel=1e-4)


# --- mechanics ---


def test_the_average_follows_by_its_decay() -> None:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("seen", torch.zeros(1))
    average = copy.deepcopy(model).requires_grad_(False)
    before = average.weight.clone()
    with torch.no_grad():
        model.weight += 1
        model.seen += 7
    update_average(average, model, 0.9, 1)  # (1 + 1) / (10 + 1) is below 0.9
    torch.testing.assert_close(average.weight, before + 1 - 2 / 11)
    assert average.seen.item() == 7
    before = average.weight.clone()
    update_average(average, model, 0.9, 10_000)
    torch.testing.assert_close(average.weight, 0.9 * before + 0.1 * model.weight.detach())


def test_learning_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    recipe = load_recipe(
        str(tiny(tmp_path, ("warmup = 1", "warmup = 4\nlearning_rate = 1.0"), ("steps = 6", "steps = 10")))
    )
    assert [learning_rate(recipe, s) for s in (0, 3, 7, 8, 9)] == pytest.approx([0.25, 1, 1, 1, 0.5])
    cosine = replace(recipe, optimizer=replace(recipe.optimizer, fall="cosine", cooldown=4))
    assert [learning_rate(cosine, s) for s in (6, 7, 8)] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5])
    flat = replace(recipe, optimizer=replace(recipe.optimizer, warmup=0, cooldown=0))
    assert [learning_rate(flat, s) for s in (0, 9)] == [1, 1]
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = make_optimizer(model, recipe).param_groups
    assert group["params"] == [model.weight]


@pytest.mark.parametrize("variant", ["kl-4chn", "kl-4chn-v1.1", "fsq-262144-noncausal"])
def test_recomputed_blocks_give_equal_gradients(variant: str) -> None:
    plain = build(variant, **NARROW)
    lean = copy.deepcopy(plain)
    recompute_blocks(lean)
    assert lean.state_dict().keys() == plain.state_dict().keys()
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    next(m for m in lean.modules() if isinstance(m, TimeBlock)).norm1.register_forward_hook(count)
    video = torch.rand(1, 3, 8, 16, 16) * 2 - 1
    for model in (plain, lean):
        model(video)[0].square().mean().backward()
    assert runs == 2
    for (name, one), (_, other) in zip(plain.named_parameters(), lean.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]


def test_psnr_of_pixels() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 16) == pytest.approx(20 * math.log10(255 / 16))
    assert 90 < psnr(black, black) < 110
    clip = torch.full((1, 2, 4, 4, 3), 255, dtype=torch.uint8)
    assert to_tensor(clip).shape == (1, 3, 2, 4, 4)
    assert to_tensor(clip).max() == 1
