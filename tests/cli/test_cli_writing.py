"""What samples are written as, by the ending of the name; what is written is read again as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from test_cli_values import model

from scorefield.cli.parts.values import measurement
from scorefield.cli.parts.writing import WRITERS, Samples, save_samples, target
from scorefield.data import Audio, read
from scorefield.operators import Identity

RNG = np.random.default_rng(0)


def whole(levels, *shape):
    kind = np.uint8 if levels <= 256 else np.int32
    return Samples(torch.as_tensor(RNG.integers(0, levels, shape).astype(kind)), levels)


def real(*shape, **known):
    return Samples(torch.as_tensor(RNG.normal(size=shape).astype("f4")), **known)


def pages(path):
    with Image.open(path) as file:
        for k in range(file.n_frames):
            file.seek(k)
            yield np.array(file)


TIFFS = {
    "8 bits": whole(256, 3, 1, 4, 6),
    "few levels": whole(17, 2, 1, 4, 6),
    "colours": whole(256, 2, 3, 4, 6),
    "12 bits": whole(4096, 2, 1, 4, 6),
    "16 bits": whole(65536, 2, 1, 4, 6),
    "real numbers": real(2, 1, 4, 6),
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("ending", [".tif", ".TIFF"])
def test_a_tiff_has_a_page_for_each_with_the_values_as_they_are(kind, ending, tmp_path):
    samples, out = TIFFS[kind], tmp_path / f"x{ending}"
    assert target(out, samples) == tmp_path
    save_samples(samples, out)
    found = list(pages(out))
    assert len(found) == len(samples.x)
    for page, x in zip(found, samples.x.numpy(), strict=True):
        assert np.array_equal(page, x[0] if len(x) == 1 else x.transpose(1, 2, 0))


def test_digits_that_a_tiff_loses_are_said(tmp_path):
    samples = Samples(torch.full((1, 1, 2, 2), 1 / 3, dtype=torch.float64))
    with pytest.warns(UserWarning, match="rounded to float32"):
        save_samples(samples, tmp_path / "x.tif")


@pytest.mark.parametrize("samples", [whole(256, 3, 1, 4, 6), whole(4096, 2, 5), real(3, 7), real(2, 2, 3, 4, 5)])
def test_arrays_are_as_they_are(samples, tmp_path):
    for name in ("x.npy", "x.npz"):
        save_samples(samples, tmp_path / name)
    assert np.array_equal(np.load(tmp_path / "x.npy"), samples.x.numpy())
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["x"], samples.x.numpy())


def test_recordings_are_one_after_another_at_their_rate(tmp_path):
    samples = real(3, 2, 10, rate=16000)
    save_samples(samples, tmp_path / "a.wav")
    rate, values = wavfile.read(tmp_path / "a.wav")
    assert rate == 16000 and np.array_equal(values[10:20].T, samples.x[1].numpy())
    (tmp_path / "a").mkdir()
    (tmp_path / "a.wav").rename(tmp_path / "a" / "0.wav")
    again = read(tmp_path / "a", audio=Audio(length=10))
    assert torch.equal(again.x, samples.x) and again.how.rate == 16000
    wavfile.write(tmp_path / "like.wav", 8000, np.zeros(5, "i2"))
    save_samples(real(1, 1, 4, rate=16000, like=tmp_path / "like.wav"), tmp_path / "b.wav")
    assert wavfile.read(tmp_path / "b.wav")[0] == 8000


def test_a_folder_gets_a_file_for_each(tmp_path):
    """Pictures of 8 bits, recordings of a known rate, arrays of all else: what is lost nowhere."""
    for name, samples in {
        "grey": whole(256, 2, 1, 4, 6),
        "colours": whole(256, 2, 3, 4, 6),
        "deep": whole(4096, 2, 1, 4, 6),
        "sound": real(2, 1, 9, rate=8000),
        "signals": real(2, 1, 9),
    }.items():
        (tmp_path / name).mkdir()
        assert target(tmp_path / name, samples) == tmp_path / name
        save_samples(samples, tmp_path / name)
        names = sorted(path.name for path in (tmp_path / name).iterdir())
        suffix = {"grey": "png", "colours": "png", "sound": "wav"}.get(name, "npy")
        assert names == [f"00000{k}.{suffix}" for k in range(2)]
        if suffix == "npy":
            assert np.array_equal(np.load(tmp_path / name / names[1]), samples.x[1].numpy())
        else:
            again = read(tmp_path / name, audio=Audio(length=9))
            assert torch.equal(again.x, samples.x)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("columns", [(), ("a", "b, c")])
def test_tables_have_the_columns_of_the_data(ending, columns, tmp_path):
    pytest.importorskip("pyarrow")
    samples = real(4, 2, columns=columns)
    save_samples(samples, tmp_path / f"x{ending}")
    again = read(tmp_path / f"x{ending}")
    assert np.array_equal(again.x.numpy(), samples.x.numpy()) and again.how.columns == (columns or ("0", "1"))
    save_samples(whole(4096, 3, 2), tmp_path / f"y{ending}")
    assert (read(tmp_path / f"y{ending}").x == read(tmp_path / f"y{ending}").x.round()).all()


def test_a_model_knows_the_columns_and_the_rate_of_its_data(tmp_path):
    made = model(levels=None, shape=(2,))
    made.about["reading"] = {"class": "Reading", "table": {"class": "Table", "columns": ["u", "v"]}}
    assert Samples.of(made).columns == ["u", "v"] and target(tmp_path / "x.parquet", Samples.of(made)) == tmp_path
    made = model(levels=None, shape=(1, 9))
    assert Samples.of(made).rate is None
    made.about["reading"] = {"class": "Reading", "audio": {"class": "Audio", "rate": 8000}}
    assert Samples.of(made).rate == 8000 and target(tmp_path / "x.wav", Samples.of(made)) == tmp_path


REFUSED = [
    ("x.png", real(0, 2, 5, 5), "are no pictures: write .npz, or into a folder"),
    ("x.tif", real(0, 3, 4, 4), "are neither pictures of 8 bits nor grey ones"),
    ("x.tif", whole(4096, 0, 3, 4, 4), "nor grey ones"),
    ("x.wav", real(0, 5, rate=8000), "are no recordings"),
    ("x.wav", real(0, 1, 5), "have no rate .*--like"),
    ("x.csv", real(0, 1, 5), "are no rows of a table"),
    ("x.flac", real(0, 1, 5), "wanted a name that ends in .png, .npz, .npy, .tif, .tiff, .wav, .csv, .tsv, .parquet"),
    ("x.npz", real(0, 1, 5, like=Path("a.wav")), "--like a.wav: .npz files get no metadata"),
    ("x", real(0, 1, 5, like=Path("a.wav")), "--like a.wav: is for one file"),
]


@pytest.mark.parametrize(("name", "samples", "words"), REFUSED)
def test_what_does_not_suit_is_refused_before_it_is_drawn(name, samples, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        target(tmp_path / name, samples)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_folder_in_the_place_of_a_file_is_refused(ending, tmp_path):
    (tmp_path / f"x{ending}").mkdir()
    with pytest.raises(ValueError, match=f"wanted the name of a {ending} file"):
        target(tmp_path / f"x{ending}", real(0, 1, 4, 4))


@pytest.mark.parametrize(("levels", "shape"), [(256, (1, 8, 8)), (256, (3, 8, 8)), (17, (1, 8, 8)), (2, (1, 8, 8))])
def test_a_picture_of_one_sample_is_a_measurement(levels, shape, tmp_path):
    """By its own pixels, whatever the model's levels."""
    samples = whole(levels, 1, *shape)
    save_samples(samples, tmp_path / "x.png")
    made = model(levels, shape)
    _, values = measurement(tmp_path / "x.png", Identity(), made)
    assert torch.equal(values.round(), samples.x.double())
    assert float((values - samples.x).abs().max()) < 0.04  # of 8 bits


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".zarr", ".h5", ".fits"])
def test_what_is_written_in_a_format_is_read_from_it(ending, tmp_path):
    x = torch.arange(2 * 4 * 5, dtype=torch.float32).reshape(2, 1, 4, 5) / 3
    out = tmp_path / f"a{ending}"
    samples = Samples(x)
    assert target(out, samples) == tmp_path
    save_samples(samples, out)
    found = read(out, array="slices" if ending.startswith(".nii") else None, axes=None if "nii" in ending else "nchw")
    assert torch.equal(found.rows(torch.arange(2)).x.float(), x)


def test_a_volume_has_one_channel(tmp_path):
    with pytest.raises(ValueError, match=r"samples of shape \(3, 4, 5\) are no pictures or volumes of one channel"):
        target(tmp_path / "a.nii", Samples(torch.zeros(1, 3, 4, 5)))
