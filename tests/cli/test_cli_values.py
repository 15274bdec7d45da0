"""Masks, measurements and conditions as people give them: found, or refused with a word on how they are read."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from scorefield import VP
from scorefield.cli import main
from scorefield.cli.parts.reading import told
from scorefield.cli.parts.sources import load_conditions
from scorefield.cli.parts.values import load_mask, load_values, measurement
from scorefield.data import Affine, Images
from scorefield.model import ScoreModel
from scorefield.nn import MLP, seeded
from scorefield.operators import Blur, Identity, Mask, SuperResolution, box
from scorefield.score import EDMPrecond, Preconditioned

KNOWN = np.zeros((8, 8), bool)
KNOWN[:, :4] = True
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(1, 256, (8, 8, 3), dtype="u1")


def picture(values, mode=None):
    return Image.fromarray(values.astype("u1") if values.dtype == bool else values, mode)


def with_alpha(colours, alpha):
    return picture(np.concatenate((colours, (255 * alpha[..., None]).astype("u1")), -1))


def palette():
    """Of two colours, 0 and 1, red and black."""
    made = Image.new("P", (8, 8))
    made.putdata(KNOWN.astype(int).ravel().tolist())
    made.putpalette([0, 0, 0, 255, 0, 0])
    return made


GREY = np.where(KNOWN, RNG.integers(140, 256, (8, 8)), RNG.integers(0, 120, (8, 8)))
MASKS = {
    "black and white": lambda: picture(255 * KNOWN.astype("u1")),
    "0 and 1": lambda: picture(KNOWN),
    "one bit": lambda: picture(255 * KNOWN.astype("u1")).convert("1"),
    "a palette": palette,
    "in colours": lambda: picture(np.repeat(255 * KNOWN.astype("u1")[..., None], 3, -1)),
    "grey at the edges": lambda: picture(GREY.astype("u1")),
    "a transparent hole": lambda: with_alpha(np.full_like(PHOTO, 255), KNOWN),
    "a hole in black": lambda: with_alpha(np.zeros_like(PHOTO), KNOWN),
    "a hole in a photo": lambda: with_alpha(PHOTO, KNOWN),
    "grey and alpha": lambda: picture(np.stack((GREY, 255 * KNOWN), -1).astype("u1")),
    "opaque, black and white": lambda: with_alpha(np.repeat(255 * KNOWN.astype("u1")[..., None], 3, -1), KNOWN | True),
    "16 bits": lambda: picture((65535 * KNOWN).astype("u2")),
    "16 bits, 0 and 255": lambda: picture((255 * KNOWN).astype("u2")),
    "16 bits, grey": lambda: picture((257 * GREY).astype("u2")),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_picture_is_a_mask_where_it_is_white_or_opaque(kind, tmp_path):
    MASKS[kind]().save(tmp_path / "mask.png")
    assert np.array_equal(load_mask(tmp_path / "mask.png").numpy(), KNOWN)


FLOATS = {
    "of 0 and 1": KNOWN.astype("f4"),
    "with NaN for nothing": np.where(KNOWN, 1, np.nan).astype("f4"),
    "of shares": (GREY / 255).astype("f4"),
    "a field with holes": np.where(KNOWN, 300 * RNG.random((8, 8)), np.nan).astype("f4"),
}


@pytest.mark.parametrize("kind", FLOATS)
def test_real_numbers_are_one_where_they_are_known(kind, tmp_path):
    picture(FLOATS[kind]).save(tmp_path / "mask.tif")
    assert np.array_equal(load_mask(tmp_path / "mask.tif").numpy(), KNOWN)


ARRAYS = {
    "booleans": KNOWN,
    "0 and 255": 255 * KNOWN.astype("u1"),
    "0, 1 and 2": KNOWN * np.arange(1, 9).clip(0, 2),
    "0.0 and 1.0": KNOWN.astype("f8"),
    "1 and NaN": np.where(KNOWN, 1.0, np.nan),
    "0, 1 and NaN": np.where(KNOWN, 1.0, np.where(RNG.random((8, 8)) < 0.5, 0.0, np.nan)),
    "a field with holes": np.where(KNOWN, RNG.normal(size=(8, 8)), np.nan),
    "a field with zeros and holes": np.where(KNOWN, RNG.integers(0, 3, (8, 8)), np.nan),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_is_a_mask_where_it_is_not_zero_nor_nan(kind, tmp_path):
    np.save(tmp_path / "mask.npy", ARRAYS[kind])
    assert np.array_equal(load_mask(tmp_path / "mask.npy").numpy(), KNOWN)


REFUSED = {
    "dark.png": (lambda: picture(np.arange(64, dtype="u1").reshape(8, 8)), r"nothing of it is known \(.* 0 to 63\)"),
    "black.png": (lambda: picture(np.zeros((8, 8), "u1")), "nothing of it is known"),
    "both.png": (
        lambda: with_alpha(255 * (RNG.random((8, 8, 1)) < 0.5).astype("u1").repeat(3, -1), KNOWN),
        "which may mean either",
    ),
    "far.tif": (lambda: picture((300 * RNG.random((8, 8))).astype("f4")), "holds values up to"),
    "soft.npy": (lambda: RNG.random((8, 8)), "holds 64 different values"),
    "nan.npy": (lambda: np.full((8, 8), np.nan), "nothing of it is known: a mask"),
    "complex.npy": (lambda: np.ones((8, 8), complex), "complex numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_be_read_in_two_ways_is_refused(name, tmp_path):
    make, words = REFUSED[name]
    made = make()
    np.save(tmp_path / name, made) if isinstance(made, np.ndarray) else made.save(tmp_path / name)
    with pytest.raises(ValueError, match=words) as refused:
        load_mask(tmp_path / name)
    assert "white where the sample is known" in str(refused.value)


def model(levels=256, shape=(1, 8, 8), images=None):
    with seeded(0):
        net = MLP(shape, features=4, blocks=1)
    about = {} if images is None else {"reading": {"class": "Reading", "images": images}}
    transform = Affine() if levels is None else Affine.of_levels(levels)
    return ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), shape, transform, about=about)


Y = RNG.integers(0, 256, (1, 8, 8)).astype(float)


def test_numbers_that_are_nan_are_unknown(tmp_path, capsys):
    np.save(tmp_path / "y.npy", np.where(KNOWN, Y, np.nan))
    operator, values = measurement(tmp_path / "y.npy", Identity(), model())
    assert isinstance(operator, Mask) and np.array_equal(operator.observed.numpy(), KNOWN.ravel().nonzero()[0])
    assert np.array_equal(values.numpy()[0], Y[0][KNOWN])
    assert "32 of 64 numbers are NaN, and taken for unknown" in capsys.readouterr().out
    mask = Mask(torch.as_tensor(RNG.random((8, 8)) < 0.5), (1, 8, 8))
    seen = mask.A(torch.as_tensor(Y[None]))[0].numpy()
    for k, y in enumerate((np.where(KNOWN, Y, np.nan), np.where(seen > 100, seen, np.nan))):  # whole, and the known
        np.save(tmp_path / "y.npy", y)
        operator, values = measurement(tmp_path / "y.npy", mask, model())
        assert torch.equal(operator.A(torch.as_tensor(Y[None])), values)
        assert len(operator.observed) == int((seen > 100).sum() if k else KNOWN.ravel()[mask.observed].sum())
    np.save(tmp_path / "y.npy", np.where(KNOWN, Y, np.nan))
    with pytest.raises(ValueError, match=r"has NaN, which only Identity and Mask leave out; got Blur"):
        measurement(tmp_path / "y.npy", Blur(torch.ones(1, 1)), model())


@pytest.mark.parametrize(("scaled", "low"), [(Y / 255, "0"), (Y / 127.5 - 1, "-1")])
def test_units_of_others_are_noticed(scaled, low, tmp_path):
    np.save(tmp_path / "y.npy", scaled)
    np.save(tmp_path / "small.npy", scaled[:, ::2, ::2])
    for name, operator in (("y", Identity()), ("small", SuperResolution(2, box))):
        with pytest.raises(ValueError, match=rf"lies in \[{low}, 1\], where the model is of integers from 0 to 255"):
            measurement(tmp_path / f"{name}.npy", operator, model())
    assert measurement(tmp_path / "y.npy", Identity(), model(levels=None))[1].numpy() == pytest.approx(scaled[None])
    np.save(tmp_path / "dark.npy", np.round(scaled))
    assert torch.equal(measurement(tmp_path / "dark.npy", Identity(), model())[1][0], torch.as_tensor(np.round(scaled)))


@pytest.fixture
def nothing_told():
    """No option of how data are read is on the command line."""
    token = told.set(frozenset())
    yield
    told.reset(token)


def test_photos_come_to_the_size_of_the_training(nothing_told, tmp_path, capsys):
    """An upright picture of another size, stored on its side, as training reads it."""
    images = {"class": "Images", "size": [8, 8], "fit": "crop", "colour": "auto", "alpha": "refuse", "labels": True}
    large = Image.fromarray(PHOTO).resize((24, 16), Image.Resampling.NEAREST)
    tags = large.getexif()
    tags[0x0112] = 6
    large.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=tags)
    made = model(images={**images, "size": list(Images(size=8).sides)})
    _, values = measurement(tmp_path / "photo.png", Identity(), made)
    wanted = ImageOps.fit(large.convert("L"), (8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(values[0, 0].numpy(), np.asarray(wanted))
    assert "brought to the shape (1, 8, 8)" in capsys.readouterr().out


def conditional(features):
    made = model(levels=None, shape=(2,))
    made.cond_transform = Affine(tuple(0.0 for _ in range(features)), tuple(1.0 for _ in range(features)))
    return made


CONDITIONS = {  # what is given, of how many numbers the model's are, for how many samples: the rows
    "280,1": (2, 5, [[280.0, 1.0]]),
    "-1.5": (1, 5, [[-1.5]]),
    "one row": (2, 5, [[1, 2]]),
    "a row for each": (2, 3, [[1, 2], [3, 4], [5, 6]]),
    "one row without its axis": (3, 5, [[1, 2, 3]]),
    "as many rows as numbers": (2, 2, [[1, 2]]),
    "a number for each": (1, 3, [[1], [2], [3]]),
    "a number for all": (1, 5, [[7]]),
}
SAVED = {
    "one row": [[1, 2]],
    "a row for each": [[1, 2], [3, 4], [5, 6]],
    "one row without its axis": [1, 2, 3],
    "as many rows as numbers": [1, 2],
    "a number for each": [1, 2, 3],
    "a number for all": 7,
}


@pytest.mark.parametrize("given", CONDITIONS)
def test_conditions_are_rows(given, tmp_path):
    features, count, rows = CONDITIONS[given]
    if given in SAVED:
        np.save(tmp_path / "cond.NPY.npy", SAVED[given])
        (tmp_path / "cond.NPY.npy").rename(tmp_path / "cond.NPY")
    found = load_conditions(str(tmp_path / "cond.NPY") if given in SAVED else given, count, conditional(features))
    assert found.dtype == torch.float64 and found.tolist() == rows
    assert load_conditions("", count, conditional(features)) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("280;1", "wanted a .npy file of numbers, or numbers such as 280,1"),
        ("cat", "wanted a .npy file of numbers, or numbers such as 280,1"),
        ("1,nan", "numbers such as 280,1"),
        ("none.npy", "none.npy: no such file"),
        ("notes.txt", "wanted a .npy file of numbers"),
        ("two.npy", r"one row for each of 5 samples, or one row for all; got shape \(2, 1\)"),
        ("complex.npy", "wanted real numbers"),
    ],
)
def test_conditions_that_are_none_are_refused(given, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("1")
    np.save(tmp_path / "two.npy", np.ones((2, 1)))
    np.save(tmp_path / "complex.npy", np.ones((5, 1), complex))
    with pytest.raises((ValueError, OSError), match=words):
        load_conditions(given, 5, conditional(1))


def test_a_number_for_each_sample_is_a_condition(unchecked, tmp_path):
    """From training to samples and measurements: x is near its condition, which is in other units."""
    cond = RNG.normal(280, 8, 200)
    np.savez(tmp_path / "d.npz", x=(cond[:, None] + RNG.normal(size=(200, 1))), cond=cond)
    train = ["train", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", "--steps", 80, "--batch_size", 64]
    net = ["--net", "MLP", "--net.features", 8, "--net.blocks", 1, "--net.cond_features", 1, "--device", "cpu"]
    lr = ["--optimisation.lr", 0.03, "--optimisation.half_lives", 1000, "--previews", 0]
    assert main([str(word) for word in (*train, *net, *lr)]) == 0
    common = ["--device", "cpu", "--seeds", "0-19", "--out", str(tmp_path / "s.npy")]
    means = []
    for value in ("270", "290"):
        assert main(["sample", str(tmp_path / "run"), "--cond", value, *common]) == 0
        means.append(np.load(tmp_path / "s.npy").mean())
    assert means == pytest.approx([270, 290], abs=5)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_picture_of_16_bits_is_measured_to_the_bit(bands, tmp_path):
    """Mutant: the upper byte alone, of colours."""
    values = RNG.integers(0, 65536, (8, 8, bands)).astype(np.uint16)
    rows = b"".join(b"\0" + values[k].astype(">u2").tobytes() for k in range(8))
    kind = {1: 0, 3: 2}[bands]

    def chunk(name, content):
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    (tmp_path / "y.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    found = load_values(tmp_path / "y.png")
    wanted = torch.from_numpy(values.astype(np.float64)).movedim(-1, 0)
    assert torch.equal(found, wanted if bands == 3 else wanted[0])


def test_one_frame_is_measured(tmp_path):
    frames = [picture(KNOWN), picture(~KNOWN)]
    frames[0].save(tmp_path / "y.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"y.gif: .*2 pages or frames: save the one that is meant"):
        load_values(tmp_path / "y.gif")
