"""Data sets: what their densities are, what files they are read from, and what is refused."""

from __future__ import annotations

import io
import math
import pickle
import zipfile

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from scorefield.data import (
    ArrayDataset,
    Dataset,
    Subset,
    checkerboard,
    digits,
    load_arrays,
    mixture,
    read,
    rings,
    split,
    two_moons,
)

TOYS = [two_moons, checkerboard, rings, mixture]
MISTAKE = 1e-6  # false-positive rate of each statistical test
X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)


def values(data):
    return data.rows(torch.arange(len(data))).x


def labels(data):
    return data.rows(torch.arange(len(data))).cond["label"]


def standard_normal(x):
    """Whether numbers could be N(0, 1): by their law, and by their standard deviation to 4.9 sigma."""
    spread = abs(float(x.double().std()) - 1) < 4.9 / math.sqrt(2 * len(x))
    return spread and stats.kstest(x.double().numpy(), "norm").pvalue > MISTAKE


def p_uniform(x):
    return stats.kstest(x.double().numpy(), "uniform").pvalue


def test_two_moons_are_half_circles_that_face_each_other():
    data, exact = two_moons(20_000), two_moons(20_000, noise=0.0)
    which = labels(exact)[:, None]
    moon = torch.where(which == 0, exact.x, -exact.x) + torch.tensor([0.5, 0.25])
    torch.testing.assert_close(moon.norm(dim=1), torch.ones(20_000))
    assert bool((moon[:, 1] >= 0).all())
    assert p_uniform(torch.atan2(moon[:, 1], moon[:, 0]) / math.pi) > MISTAKE
    assert standard_normal((data.x - exact.x).flatten() / 0.05)  # noise of 0.049 is caught


def test_rings_have_four_radii():
    data, exact = rings(4000), rings(4000, noise=0.0)
    torch.testing.assert_close(exact.x.norm(dim=1), 0.5 * (labels(exact) + 1).float())
    assert p_uniform(torch.atan2(exact.x[:, 1], exact.x[:, 0]) / (2 * math.pi) + 0.5) > MISTAKE
    assert standard_normal((data.x.norm(dim=1) - 0.5 * (labels(data) + 1)) / 0.05)


def test_checkerboard_is_uniform_on_eight_dark_squares():
    x = checkerboard(8000).x
    assert bool((x.abs() <= 2).all())
    cell = (x + 2).floor().long().clamp_max(3)
    assert bool(((cell[:, 0] + cell[:, 1]) % 2 == 0).all())
    counts = torch.bincount(4 * cell[:, 1] + cell[:, 0], minlength=16)
    counts = counts[counts > 0]
    assert len(counts) == 8 and stats.chisquare(counts.numpy()).pvalue > MISTAKE
    assert min(p_uniform(axis) for axis in (x + 2 - cell).T) > MISTAKE


def test_mixture_has_normal_components_on_a_circle():
    data = mixture(4000, components=5, std=0.3)
    angle = 2 * math.pi / 5 * labels(data)
    centres = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    assert standard_normal(((data.x - centres) / 0.3).flatten())


@pytest.mark.parametrize(("make", "classes"), list(zip(TOYS, (2, 0, 4, 8), strict=True)))
def test_toys_are_balanced_and_follow_their_seed(make, classes):
    data = make(400)
    assert (len(data), data.event_shape, data.levels, data.classes) == (400, (2,), None, classes)
    if classes:
        assert torch.bincount(labels(data)).tolist() == [400 // classes] * classes
    assert torch.equal(make(400).x, data.x)
    assert not torch.isin(make(400, seed=1).x, data.x).any()
    assert isinstance(data, Dataset)


def test_digits_are_those_of_scikit_learn():
    data, theirs = digits(), load_digits()
    assert (data.event_shape, data.levels, data.classes) == ((1, 8, 8), 17, 10)
    assert np.array_equal(data.x.numpy()[:, 0], theirs.images)
    assert np.array_equal(labels(data).numpy(), theirs.target)


def test_rows_and_subsets_keep_samples_with_their_conditions():
    x, label = torch.arange(5.0), torch.tensor([0, 1, 0, 1, 0])
    data = ArrayDataset(x, label, cond=10 * x[:, None], classes=3)
    rows = data.rows(torch.tensor([3, 0, 3]))
    assert rows.x.tolist() == [3, 0, 3]
    assert rows.cond["label"].tolist() == [1, 0, 1]
    assert rows.cond["cond"].tolist() == [[30], [0], [30]]
    part = Subset(data, torch.tensor([4, 2]))
    assert (values(part).tolist(), labels(part).tolist(), part.classes) == ([4, 2], [0, 0], 3)


def test_a_split_is_a_partition_of_its_seed():
    data = ArrayDataset(torch.arange(20.0), torch.arange(20) % 4)
    kept, held = split(data, 0.25, seed=3)
    assert (len(kept), len(held)) == (15, 5)
    assert sorted(torch.cat((values(kept), values(held))).tolist()) == list(range(20))
    assert torch.equal(labels(held), values(held).long() % 4) and held.classes == kept.classes == 4
    assert torch.equal(values(split(data, 0.25, seed=3)[1]), values(held))
    assert not torch.equal(values(split(data, 0.25, seed=4)[1]), values(held))
    assert len(split(data, 1e-9)[1]) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, 0.99, math.nan])
def test_a_split_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match="held_out"):
        split(ArrayDataset(torch.arange(20.0)), share)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.empty(0, 2)}, "empty"),
        ({"x": torch.empty(3, 0)}, "empty"),
        ({"x": torch.tensor(1.0)}, r"shape is \(\)"),
        ({"x": torch.zeros(2, 2, dtype=torch.complex64)}, "complex"),
        ({"x": torch.tensor([[1.0, math.nan], [math.inf, 0]])}, "2 values that are NaN or infinite"),
        ({"x": torch.tensor([[5]]), "levels": 5}, "0 to 4"),
        ({"x": torch.tensor([[-1]]), "levels": 5}, "0 to 4"),
        ({"x": torch.tensor([[1.0]]), "levels": 5}, "0 to 4"),
        ({"label": torch.tensor([0, 1])}, "3 samples but 2 rows of `label`"),
        ({"cond": torch.zeros(4, 1)}, "3 samples but 4 rows of `cond`"),
        ({"cond": torch.tensor(1.0)}, "cond"),
        ({"cond": torch.full((3, 1), math.nan)}, "cond"),
        ({"label": torch.tensor(1)}, "label"),
        ({"label": torch.tensor([0, 1, -1])}, "integers from 0; .* -1"),
        ({"label": torch.tensor([0.0, 1, 2])}, "integers from 0; got torch.float32"),
        ({"label": torch.zeros(3, dtype=torch.complex64)}, "integers from 0; got torch.complex64"),
        ({"label": torch.zeros(3, 1, dtype=torch.int64)}, "list of integers"),
        ({"label": torch.tensor([0, 1, 2]), "classes": 2}, "beyond its 2 classes"),
    ],
)
def test_impossible_data_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        ArrayDataset(**{"x": torch.zeros(3, 2), **arguments}, name="my data")
    assert "my data" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "levels", "dtype"),
    [
        (X, None, torch.float32),
        (X.astype(np.float64), None, torch.float64),
        (X.astype(">f8"), None, torch.float64),
        (X.astype(np.float16), None, torch.float32),
        (np.asfortranarray(X), None, torch.float32),
        ((100 * X).astype(np.uint8), 256, torch.uint8),
        (X > 0, 2, torch.uint8),
        (X[:, 0], None, torch.float32),
        (np.zeros((2, 3, 4, 5), np.uint8), 256, torch.uint8),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_come_back_as_they_were_written(tmp_path, values, levels, dtype, suffix):
    path = tmp_path / f"data{suffix}"
    np.save(path, values) if suffix == ".npy" else np.savez(path, values)
    data = load_arrays(path)
    assert (data.levels, data.x.dtype, data.event_shape) == (levels, dtype, values.shape[1:])
    assert np.array_equal(data.x.numpy(), values)


@pytest.mark.parametrize(
    ("values", "levels", "dtype"),
    [(np.arange(17, dtype=np.uint8), 17, torch.uint8), (np.arange(4096, dtype=">i2"), 4096, torch.int32)],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_integers_of_other_levels_are_read_as_such(tmp_path, values, levels, dtype, suffix):
    path = tmp_path / f"data{suffix}"
    np.save(path, values[:, None]) if suffix == ".npy" else np.savez(path, values[:, None])
    data = read(path, levels=levels)
    assert (data.levels, data.x.dtype) == (levels, dtype) and np.array_equal(data.x[:, 0].numpy(), values)
    with pytest.raises(ValueError, match=f"wanted integers from 0 to {levels - 2}; got 0 to {levels - 1}"):
        read(path, levels=levels - 1)
    np.save(tmp_path / "real.npy", X)
    with pytest.raises(
        ValueError, match=r"real.npy: wanted integers from 0 to 16, or such scaled to .*; got float32 from"
    ):
        read(tmp_path / "real.npy", levels=17)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"t.csv: levels are for arrays"):
        read(tmp_path / "t.csv", levels=17)


def test_labels_and_conditions_come_with_an_archive(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=X, labels=np.array([2, 0, 1, 1, 0, 2], np.uint8), cond=X.astype(np.float64))
    data = load_arrays(str(path))
    x, cond = data.rows(torch.tensor([4, 1]))
    assert data.classes == 3
    assert np.array_equal(x.numpy(), X[[4, 1]])
    assert cond["label"].tolist() == [0, 0] and cond["label"].dtype == torch.int64
    assert np.array_equal(cond["cond"].numpy(), X[[4, 1]]) and cond["cond"].dtype == torch.float32


def written(path, value, **more):
    """Writes an array, a dictionary of arrays, or bytes."""
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif isinstance(value, dict):
        np.savez(path, **value)
    else:
        np.save(path, value, **more)


def bytes_of(save, *args, **kwargs):
    file = io.BytesIO()
    save(file, *args, **kwargs)
    return file.getvalue()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


NPY, NPZ = bytes_of(np.save, X), bytes_of(np.savez, x=X)
COMPRESSED = bytes_of(np.savez_compressed, x=np.repeat(X, 50, 0))
HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117)
OBJECTS = np.array([{}, 1], dtype=object)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1 2 3", "npy or .npz"),
        ("a", NPY, "no suffix"),
        ("empty.npy", b"", "cannot be read"),
        ("empty.npz", b"", "cannot be read"),
        ("truncated.npy", NPY[:-5], "cannot be read"),
        ("header.npy", NPY[:60], "cannot be read"),
        ("truncated.npz", NPZ[:-30], "cannot be read"),
        ("half.npz", NPZ[: len(NPZ) // 2], "cannot be read"),
        ("flipped.npz", flipped(NPZ, len(NPZ) // 2), "cannot be read"),
        ("checksum.npz", flipped(COMPRESSED, 60), "cannot be read"),
        ("stream.npz", flipped(COMPRESSED, 55), "cannot be read"),
        ("text.npy", b"hello", "cannot be read"),
        ("raw member.npz", zipped(x="hello"), "cannot be read|'x'"),
        ("member.npz", zipped(**{"x.npy": "hello"}), "cannot be read|'x'"),
        ("huge.npy", HUGE + b"\n", "cannot be read"),
        ("pickle.npy", pickle.dumps([1, 2]), "cannot be read"),
        ("objects.npy", OBJECTS, "cannot be read.*[Oo]bject"),
        ("objects.npz", {"x": OBJECTS}, "cannot be read.*[Oo]bject"),
        ("object labels.npz", {"x": X, "labels": np.array([{}] * 6)}, "cannot be read.*[Oo]bject"),
        ("number.npy", np.float64(3), "single number"),
        ("no rows.npy", np.zeros((0, 2)), "empty"),
        ("no values.npy", np.zeros((2, 0)), "empty"),
        ("nan.npy", np.array([[1, np.nan]]), "1 values that are NaN"),
        ("infinite.npy", np.array([[1, -np.inf]]), "infinite"),
        ("complex.npy", X + 1j, "complex64"),
        ("text.npy", np.array(["a", "b"]), "<U1"),
        ("dates.npy", np.array(["2020-01-01"], "M8"), "datetime64"),
        ("records.npy", np.zeros(3, [("a", "f4")]), "'a'"),
        ("int8.npy", np.zeros((2, 2), np.int8), "int8.*astype"),
        ("int64.npy", np.zeros((2, 2), np.int64), "int64.*astype"),
        ("none.npz", {}, "'x'"),
        ("other.npz", {"y": X}, r"\['y'\]"),
        ("more.npz", {"x": X, "weights": X}, r"\['weights', 'x'\]"),
        ("few labels.npz", {"x": X, "labels": np.arange(5)}, "6 samples but 5 rows"),
        ("float labels.npz", {"x": X, "labels": np.arange(6.0)}, "labels must be integers; got float64"),
        ("negative labels.npz", {"x": X, "labels": np.arange(6) - 1}, "integers from 0"),
        ("one label.npz", {"x": X, "labels": np.int64(3)}, "label"),
        ("label table.npz", {"x": X, "labels": np.zeros((6, 1), int)}, "list of integers"),
        ("many classes.npz", {"x": X, "labels": np.arange(6) * 10**12}, "label"),
        ("few conditions.npz", {"x": X, "cond": X[:3]}, "6 samples but 3 rows"),
        ("one condition.npz", {"x": X, "cond": np.float64(1)}, "cond"),
        ("nan condition.npz", {"x": X, "cond": X * np.nan}, "cond"),
        ("complex condition.npz", {"x": X, "cond": X + 1j}, "cond"),
        ("text condition.npz", {"x": X, "cond": np.array(["a"] * 6)}, "cond"),
        ("large condition.npz", {"x": X, "cond": np.full((6, 1), 1e300)}, "cond"),
    ],
)
def test_files_that_are_no_data_are_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    written(path, content, **({"allow_pickle": True} if content is OBJECTS else {}))
    with pytest.raises(ValueError, match=message) as caught:
        load_arrays(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_or_folder_is_refused_by_name(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    for name in ("none.npy", "folder.npy"):
        with pytest.raises(FileNotFoundError, match=name):
            load_arrays(tmp_path / name)


EXECUTED = []


class Fuse:
    """What a pickle of it would run."""

    def __reduce__(self):
        return light, ()


def light():
    EXECUTED.append("bang")


def test_nothing_in_a_file_is_executed(tmp_path):
    bomb = pickle.dumps(Fuse())
    pickle.loads(bomb)
    assert EXECUTED.pop() == "bang"  # it would go off
    for name, content in (("a.npy", bomb), ("b.npz", zipped(**{"x.npy": bomb}))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_arrays(tmp_path / name)
    np.save(tmp_path / "c.npy", np.array([Fuse()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"c\.npy"):
        load_arrays(tmp_path / "c.npy")
    assert not EXECUTED
