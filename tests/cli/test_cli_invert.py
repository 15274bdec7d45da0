"""`scorefield invert`: the same samples as from Python, in the data's units."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import scorefield

from scorefield import VP, EDMPrecond, Noise, Preconditioned, ScoreModel, sample
from scorefield.cli import main
from scorefield.cli.invert import _beyond
from scorefield.cli.parts import measuring
from scorefield.data import Affine
from scorefield.guidance import DDRM, DiffPIR, MomentMatching
from scorefield.nn import MLP, seeded
from scorefield.operators import FourierMask, Gaussian, LinearOperator, Mask, SuperResolution, cartesian_mask
from scorefield.posterior import DAPS, TwistedSMC
from scorefield.sampling import stochastic
from scorefield.solvers import Ancestral

SHAPE = (1, 8, 8)
pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.filterwarnings("always:the residual is", "always:.*leave the range"),  # networks that are not trained
]


class EverySecond(LinearOperator):
    """An operator of one's own."""

    gram = 1.0

    def A(self, x):
        return x[..., ::2]

    def A_adjoint(self, y):
        return torch.stack((y, torch.zeros_like(y)), -1).flatten(-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a picture, a mask and measurements of arrays."""
    path = tmp_path_factory.mktemp("invert")
    with seeded(0):
        net = MLP(SHAPE, features=16, blocks=1)
    ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), SHAPE, Affine.of_levels(256)).save(path / "run")
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(picture).save(path / "photo.png")
    mask = np.full((8, 8), 255, np.uint8)
    mask[2:5, 2:5] = 0
    Image.fromarray(mask).save(path / "mask.png")
    np.save(path / "small.npy", picture.astype(float).reshape(4, 2, 4, 2).mean((1, 3)))
    np.save(path / "half.npy", picture[None, :, ::2])
    np.save(path / "nan.npy", np.full((4, 4), np.nan))
    np.save(path / "turned.npy", np.zeros((2, 32)))
    np.save(path / "kernel.npy", np.ones((3, 3, 3)))
    Image.fromarray(picture).convert("RGB").save(path / "colours.png")
    (path / "drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (path / "cut.png").write_bytes((path / "photo.png").read_bytes()[:45])
    np.save(path / "cut.npy", picture.astype(float))
    (path / "cut.npy").write_bytes((path / "cut.npy").read_bytes()[:-8])
    np.save(path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(path / "words.npy", np.array(["a", "b"]))
    return path


def arrays(path):
    with np.load(path / "samples.npz") as file:
        return {name: file[name] for name in file}


def test_inpainting_writes_what_python_gives(folder, tmp_path, capsys):
    common = ["invert", folder / "run", "--y", folder / "photo.png", "--sigma", 0.05, "--samples", 5, "--steps", 4]
    masked = ["--operator", "Mask", "--operator.mask", folder / "mask.png"]
    scorefield(*common, *masked, "--batch_size", 3, "--out", tmp_path / "a")
    model = ScoreModel.load(folder / "run")
    mask = torch.as_tensor(np.array(Image.open(folder / "mask.png"))) > 127
    operator = Mask(mask, SHAPE)
    photo = torch.as_tensor(np.array(Image.open(folder / "photo.png"))).double()
    known = model.measured(operator, operator.A(photo[None, None]), Gaussian(0.05 * 128))
    guided = MomentMatching(model.given(), *known)
    solver, times = stochastic(VP(), 4, 0.05)
    z = sample(guided, SHAPE, times, solver, seeds=range(5), batch_size=3)
    found = arrays(tmp_path / "a")
    assert np.array_equal(found["x"], model.transform.inverse(z).numpy())
    continuous = 128 * z.double() + 127.5
    np.testing.assert_allclose(found["mean"], continuous.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], continuous.std(0), rtol=1e-4, atol=1e-4)
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    residual = (known.y - known.operator.A(z)).square().mean(1).sqrt().mean()
    assert report["residual"] == pytest.approx(float(residual), rel=1e-5)
    assert report["noise"] == pytest.approx(0.05)
    assert re.search("MomentMatching: Gaussian-exact", capsys.readouterr().out)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "samples.npz",
        "samples.png",
        "mean.png",
        "std.png",
        "figure.png",
        "report.json",
    }


def test_methods_of_each_kind(folder, tmp_path):
    """A solver that knows the measurement, and a loop of its own; options go to the class."""
    small = ["invert", folder / "run", "--operator", "SuperResolution", "--operator.factor", 2]
    small += ["--y", folder / "small.npy", "--sigma", 0.1, "--samples", 3]
    scorefield(*small, "--steps", 4, "--method", "DDRM", "--method.eta", 0.5, "--out", tmp_path / "ddrm")
    scorefield(*small, "--method", "DAPS", "--method.levels", 3, "--out", tmp_path / "daps")
    model = ScoreModel.load(folder / "run")
    y = torch.as_tensor(np.load(folder / "small.npy"))[None]
    known = model.measured(SuperResolution(2), y, Gaussian(12.8))
    times = stochastic(VP(), 4, 0.1)[1]
    z = sample(model.denoiser, SHAPE, times, DDRM(*known, eta=0.5), seeds=range(3), batch_size=16)
    assert np.array_equal(arrays(tmp_path / "ddrm")["x"], model.transform.inverse(z).numpy())
    z = DAPS(model.denoiser, *known, levels=3).sample(SHAPE, seeds=range(3), batch_size=16)
    assert np.array_equal(arrays(tmp_path / "daps")["x"], model.transform.inverse(z).numpy())


def test_what_is_whole_or_grey_is_taken_as_such(folder, tmp_path):
    """A grey picture in colours; a whole k-space, of which the mask takes its part."""
    common = ["invert", folder / "run", "--samples", 2, "--steps", 2, "--method", "DiffPIR"]
    photo = np.array(Image.open(folder / "photo.png")).astype(float)
    for name in ("photo.png", "colours.png"):
        scorefield(*common, "--y", folder / name, "--operator", "Identity", "--out", tmp_path / name)
    plain, coloured = (arrays(tmp_path / name)["x"] for name in ("photo.png", "colours.png"))
    assert np.array_equal(plain, coloured)
    whole = np.fft.fftshift(np.fft.fft2(photo, norm="ortho"))
    np.save(tmp_path / "whole.npy", whole)
    columns = cartesian_mask(8, 8, 2.0, seed=0).numpy()
    np.save(tmp_path / "part.npy", whole[columns])
    for name in ("whole", "part"):
        fourier = ["--operator", "FourierMask", "--operator.acceleration", 2]
        scorefield(*common, *fourier, "--y", tmp_path / f"{name}.npy", "--out", tmp_path / name)
    assert np.array_equal(arrays(tmp_path / "whole")["x"], arrays(tmp_path / "part")["x"])


def test_complex_pictures_of_coils_are_measured_from_the_middle(tmp_path):
    """Two channels are real and imaginary part; mask and k-space have the zero frequency in the middle or first."""
    shape = (2, 4, 5)
    with seeded(0):
        net = MLP(shape, features=8, blocks=1)
    model = ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), shape, Affine(0.5, 2.0))
    model.save(tmp_path / "run")
    rng = np.random.default_rng(0)
    maps, image = (rng.normal(size=n) + 1j * rng.normal(size=n) for n in ((3, 4, 5), (4, 5)))
    mask = rng.random((4, 5)) < 0.6
    k_space = np.fft.fft2(np.fft.ifftshift(maps * image, (1, 2)), norm="ortho")
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "mask first.npy", mask)
    np.save(tmp_path / "mask middle.npy", np.fft.fftshift(mask))
    np.save(tmp_path / "y first.npy", k_space)
    np.save(tmp_path / "y middle.npy", np.fft.fftshift(k_space, (1, 2))[:, np.fft.fftshift(mask)])
    common = ["invert", tmp_path / "run", "--samples", 2, "--steps", 3, "--sigma", 0.1, "--method", "DiffPIR"]
    common += [
        "--operator",
        "FourierMask",
        "--operator.centred",
        "true",
        "--operator.sensitivities",
        tmp_path / "maps.npy",
    ]
    for name in ("first", "middle"):
        files = ["--operator.mask", tmp_path / f"mask {name}.npy", "--y", tmp_path / f"y {name}.npy"]
        scorefield(*common, *files, "--operator.zero_first", str(name == "first").lower(), "--out", tmp_path / name)
    operator = FourierMask(torch.as_tensor(mask), True, True, True, torch.as_tensor(maps))
    x = torch.stack((torch.as_tensor(image.real), torch.as_tensor(image.imag)))[None]
    known = model.measured(operator, operator.A(x), Gaussian(0.1))
    solver, times = stochastic(VP(), 3, known.noise.least_std)
    z = sample(DiffPIR(model.given(), *known), shape, times, solver, seeds=range(2), batch_size=16)
    for name in ("first", "middle"):
        np.testing.assert_allclose(arrays(tmp_path / name)["x"], model.transform.inverse(z), rtol=1e-4, atol=1e-4)
    drawn = [measuring.FourierMask(acceleration=2, zero_first=first).build(shape) for first in (False, True)]
    assert torch.equal(*(operator.observed.sort().values for operator in drawn))  # the same frequencies


OPERATORS = {
    "Identity": ([], (1, 8, 8)),
    "Colorize": ([], (1, 8, 8)),
    "Blur": (["--operator.std", 1.0, "--operator.circular", "false"], (1, 2, 2)),
    "FourierMask": (["--operator.acceleration", 2], (1, 32)),
    "Radon": (["--operator.angles", 5, "--operator.detectors", 9], (1, 5, 9)),
    "CompressedSensing": (["--operator.measurements", 20], (20,)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_by_its_name(folder, tmp_path, name):
    options, shape = OPERATORS[name]
    y = 100 + Noise.per_sample([0]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0].numpy()
    np.save(tmp_path / "y.npy", y + 0j if name == "FourierMask" else y)
    common = ["invert", folder / "run", "--y", tmp_path / "y.npy", "--samples", 2, "--steps", 2, "--sigma", 0.2]
    scorefield(*common, "--operator", name, *options, "--method", "DiffPIR", "--out", tmp_path / "a")
    assert arrays(tmp_path / "a")["x"].shape == (2, *SHAPE)


def test_an_operator_of_ones_own(folder, tmp_path):
    common = ["invert", folder / "run", "--y", folder / "half.npy", "--samples", 2, "--steps", 4]
    scorefield(*common, "--operator", f"{__name__}.EverySecond", "--method", "DDNM", "--out", tmp_path / "a")
    x = arrays(tmp_path / "a")["x"]
    assert np.abs(x[..., ::2].astype(float) - np.load(folder / "half.npy")).max() <= 1


BAD = [
    ("--operator Mask --operator.mask none.png --y photo.png", "none.png: no such file"),
    ("--operator Mask --operator.mask mask.png --y small.npy", r"measures \(55,\) of a sample; got \(4, 4\)"),
    ("--operator SuperResolution --operator.factor 3 --y small.npy", "multiples of"),
    ("--operator SuperResolution --operator.factor 2 --y nan.npy", "nan"),
    ("--operator SuperResolution --operator.factor 2 --y run/config.json", "config.json: wanted a picture"),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --sigma -1", "--sigma"),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --samples 0", "--samples"),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --label 3", "label: wanted none"),
    (
        "--operator SuperResolution --operator.factor 2 --y small.npy --method MomentMatching --method.iterations 0",
        "at least 1 iteration",
    ),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --sigma 0 --method TwistedSMC", "no likelihood"),
    (
        "--operator SuperResolution --operator.factor 2 --y small.npy --method DAPS --steps 3",
        "--steps: DAPS has a loop",
    ),
    (
        "--operator SuperResolution --operator.factor 2 --y small.npy --method DDRM --solver DDIM",
        "--solver: DDRM takes",
    ),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --sigma 6.4", "6.4 levels are 0.05"),
    ("--operator SuperResolution --operator.factor 2 --y small.npy --out run", "--out run: holds a model"),
    ("--operator Mask --operator.mask mask.png --y turned.npy", "a sample; got"),
    ("--operator Blur --operator.kernel kernel.npy --y photo.png", "a kernel with 2 axes"),
    ("--operator Identity --y drawing.png", "drawing.png: wanted a picture .*in one of the formats PNG, JPEG"),
    ("--operator Mask --operator.mask drawing.png --y photo.png", "drawing.png: wanted a picture .*formats PNG"),
    ("--operator Blur --operator.kernel drawing.png --y photo.png", "drawing.png: wanted a picture .*formats PNG"),
    ("--operator FourierMask --operator.mask drawing.png --y photo.png", "drawing.png: wanted a picture"),
    ("--operator Identity --y cut.png", r"cut.png: wanted a picture or a .npy array"),
    ("--operator Mask --operator.mask cut.png --y photo.png", "cut.png: wanted a picture"),
    ("--operator Identity --y cut.npy", "cut.npy: cannot be read as NumPy data .*its head claims 512"),
    ("--operator Blur --operator.kernel cut.npy --y photo.png", "cut.npy: cannot be read as NumPy data"),
    ("--operator FourierMask --operator.sensitivities objects.npy --y photo.png", "objects.npy: .*Python objects"),
    ("--operator Identity --y words.npy", "words.npy must hold numbers"),
    ("--operator Identity --y run", "run: is a folder"),
    ("--operator Identity --y photo.png --cond cut.npy", "cut.npy: cannot be read as NumPy data"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[o for o, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(folder, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    assert main(["invert", "run", "--out", str(tmp_path / "new"), *options.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(message, said), said
    assert len([line for line in said.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "new").exists()


RESIDUALS = {
    "met": (["--sigma", 0.05, "--steps", 60], None),
    "met, of rounding": (["--steps", 60, "--method", "MomentMatching", "--method.iterations", 1], None),
    "met, without noise": (["--sigma", 0, "--steps", 60], None),
    "not led": (["--sigma", 0.05, "--steps", 20, "--method", "DPS", "--method.zeta", 1e-6], r"[0-9.]+ times the noise"),
    "not led, of rounding": (["--steps", 20, "--method", "DPS", "--method.zeta", 1e-6], r"[0-9.]+ times the noise"),
    "not led, without noise": (
        ["--sigma", 0, "--steps", 20, "--method", "DPS", "--method.zeta", 1e-6],
        "where there is no noise",
    ),
    "one step": (["--sigma", 0.005, "--steps", 1, "--method", "DiffPIR"], None),
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_a_residual_far_above_the_noise_is_said(folder, tmp_path, capsys, name):
    options, said = RESIDUALS[name]
    masked = ["--operator", "Mask", "--operator.mask", folder / "mask.png", "--y", folder / "photo.png"]
    scorefield("invert", folder / "run", *masked, *options, "--samples", 4, "--out", tmp_path / "a")
    err, report = capsys.readouterr().err, json.loads((tmp_path / "a" / "report.json").read_text())
    if said is None:
        assert "the residual is" not in err
        return
    assert re.search(f"warning: the residual is .*{said}.* more steps", err)
    if report["noise"]:
        assert float(re.search(r"residual is ([0-9.e+]+) times", err)[1]) == pytest.approx(
            report["residual"] / report["noise"], rel=0.01
        )


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A model of real numbers, in which data of mean 5 and standard deviation 2 are standard."""
    path = tmp_path_factory.mktemp("real")
    with seeded(0):
        net = MLP((6,), features=8, blocks=1)
    ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), (6,), Affine(5.0, 2.0)).save(path / "run")
    np.save(path / "far.npy", np.array([[5.0 + 2 * 12, 5, 5, 5, 5, 5]]))
    np.save(path / "near.npy", np.array([[5.0 + 2 * 8, 5, 5, 5, 5, 5]]))
    return path


@pytest.mark.parametrize(("name", "beyond"), [("far", 1 / 6), ("near", 0.0)])
def test_real_numbers_beyond_any_data_are_said(real, tmp_path, capsys, name, beyond):
    options = ["--operator", "Identity", "--y", real / f"{name}.npy", "--sigma", 0.02, "--steps", 60, "--samples", 3]
    scorefield("invert", real / "run", *options, "--out", tmp_path / "a")
    assert ("3 of 3 samples leave the range of the data, within 10" in capsys.readouterr().err) == (beyond > 0)
    assert json.loads((tmp_path / "a" / "report.json").read_text())["beyond"] == pytest.approx(beyond)


@pytest.mark.parametrize("seen", [True, False])
def test_samples_beyond_the_levels_are_said(folder, tmp_path, capsys, seen):
    """By a network that has not learnt them, where nothing is measured."""
    masked = ["--operator", "Mask", "--operator.mask", folder / "mask.png"]
    operator = ["--operator", "Identity"] if seen else masked
    common = ["--y", folder / "photo.png", "--sigma", 0.1, "--steps", 30, "--samples", 2, "--out", tmp_path / "a"]
    scorefield("invert", folder / "run", *operator, *common)
    assert ("2 of 2 samples leave the range of the data, from 0 to 255" in capsys.readouterr().err) != seen


def test_beyond_is_counted_from_the_edges_of_the_range():
    """Cells of 0 to 255 are those of -1 to 1; a twentieth of the range is 0.1."""
    z = torch.tensor([[-1.0, 1.0, 0.0, 0.5], [-1.09, 1.09, 0.0, 0.0], [-1.11, 1.0, 0.0, 1.11], [float("nan"), 0, 0, 0]])
    assert _beyond(z, Affine.of_levels(256)).tolist() == [0.0, 0.0, 0.5, 0.25]
    assert _beyond(10 * z, Affine(3.0, 2.0)).tolist() == [0.0, 0.5, 0.5, 0.25]


def test_clouds_report_their_effective_size(folder, tmp_path):
    small = ["--operator", "SuperResolution", "--operator.factor", 2, "--y", folder / "small.npy", "--sigma", 0.5]
    cloud = ["--method", "TwistedSMC", "--method.count", 60, "--method.steps", 20, "--method.solver", "Ancestral"]
    scorefield("invert", folder / "run", *small, *cloud, "--samples", 3, "--out", tmp_path / "a")
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    model = ScoreModel.load(folder / "run")
    known = model.measured(SuperResolution(2), torch.as_tensor(np.load(folder / "small.npy"))[None], Gaussian(64.0))
    found = {}
    TwistedSMC(model.denoiser, *known, count=60, steps=20, solver=Ancestral()).sample(
        SHAPE, seeds=range(3), batch_size=16, callback=lambda k, knot, step: found.update(step.info)
    )
    assert {name: report[name] for name in found} == pytest.approx(found, rel=1e-6)
