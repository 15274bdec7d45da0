"""Arrays of any axes, names and numbers: what comes back is what was meant, or an option is asked for."""

from __future__ import annotations

import gzip
import itertools
import pickle
import re
import struct

import numpy as np
import pytest
import torch

from scorefield.data import ArrayDataset, Stored, Subset, read, split, stored
from scorefield.data.axes import arranged, check_axes, likely_axes
from scorefield.data.levels import as_levels, hint

GENERATOR = np.random.default_rng(0)


def every(data):
    return data.rows(torch.arange(len(data)))


def saved(path, x, **more):
    np.savez(path, x=x, **more) if path.suffix == ".npz" else np.save(path, x)
    return path


# axes


@pytest.mark.parametrize("axes", ["nhwc", "cnhw", "hwcn", "nlc", "lcn", "ndhwc", "nhw", "hwn", "ndhw", "nl", "cn", "n"])
def test_axes_are_put_into_their_order(axes, tmp_path):
    """Against the meaning of the letters, each of which has a decimal place of the numbers."""
    sides = {"n": 2, "c": 3, "d": 4, "h": 5, "w": 6, "l": 7}
    weights = {"n": 1e5, "c": 1e4, "d": 1e3, "h": 1e2, "w": 10, "l": 1}
    x = sum(
        (weights[letter] * np.arange(sides[letter])).reshape([-1 if k == place else 1 for k in range(len(axes))])
        for place, letter in enumerate(axes)
    )
    data = read(saved(tmp_path / "x.npy", np.asarray(x, "f8")), axes=axes)
    found = every(data).x.numpy()
    space = [letter for letter in "dhwl" if letter in axes]
    assert found.shape == (2, *([3] if "c" in axes else [1] * bool(space)), *(sides[letter] for letter in space))
    for n, c in itertools.product(range(2), range(3 if "c" in axes else 1)):
        value = 1e5 * n + 1e4 * c + sum(weights[letter] * (sides[letter] - 1) for letter in space)
        one = found[n, c] if "c" in axes or space else found[n]
        assert one.flatten()[-1] == value


@pytest.mark.parametrize("axes", ["hwc", "nhhw", "nxy", "nhl", ""])
def test_letters_that_are_no_axes_are_refused(axes, tmp_path):
    with pytest.raises(ValueError, match="axes must be letters such as nhwc"):
        check_axes(axes)


def test_axes_of_another_number_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"axes nhwc are 4 letters, the array has 3 axes"):
        read(saved(tmp_path / "x.npy", np.zeros((4, 5, 6))), axes="nhwc")
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"a.csv: axes are for arrays"):
        read(tmp_path / "a.csv", axes="nc")


PLAIN = {
    (9,): "n",
    (9, 5): "nc",
    (9, 1, 50): "ncl",
    (9, 12, 1000): "ncl",
    (9, 2, 3): "ncl",
    (9, 3, 32, 32): "nchw",
    (9, 1, 28, 28): "nchw",
    (9, 16, 32, 32): "nchw",
    (9, 3, 4, 4): "nchw",
    (9, 2, 5, 3): "nchw",
    (9, 1, 16, 16, 16): "ncdhw",
    (9, 4, 8, 16, 16): "ncdhw",
}


@pytest.mark.parametrize("shape", PLAIN)
def test_channels_before_space_are_taken_without_a_word(shape):
    assert likely_axes(shape, "x") == PLAIN[shape]


@pytest.mark.parametrize("shape", [(9, 28, 28, 1), (9, 32, 32, 3), (9, 8, 6, 4), (9, 6, 6, 6, 1)])
def test_usual_channels_last_are_taken_and_warned_of(shape, tmp_path):
    x = GENERATOR.normal(size=shape)
    with pytest.warns(UserWarning, match=rf"taken to have its {shape[-1]} channels last: --reading.axes n\w+c says so"):
        data = read(saved(tmp_path / "x.npy", x))
    assert np.array_equal(every(data).x.numpy(), np.moveaxis(x, -1, 1))


ASKED = {
    (9, 12, 12): "ncl.*nlc.*nhw",
    (9, 50, 3): "ncl.*nlc.*nhw",
    (9, 64, 100): "ncl.*nlc.*nhw",
    (9, 12, 12, 2): "2 channels last.*nhwc.*nchw.*12 channels first",
    (9, 12, 12, 5): "5 channels last.*nhwc",
    (9, 16, 16, 16): "ndhw.*nchw",
    (9, 10, 3, 32, 32): "frames of 3 channels.*ndchw.*ncdhw",
    (9, 10, 16, 16, 2): "2 channels last.*ndhwc",
}


@pytest.mark.parametrize("shape", ASKED)
def test_axes_that_may_be_others_are_asked_about(shape, tmp_path):
    """Each option that is named reads it."""
    x = GENERATOR.normal(size=shape)
    path = saved(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=f"x.npy: an array of shape .*{ASKED[shape]}") as said:
        read(path)
    for axes in re.findall(r"\b[ncdhwl]{3,5}\b", str(said.value)):
        assert np.array_equal(every(read(path, axes=axes)).x.numpy(), arranged(x, axes))


def test_rows_of_a_large_file_are_arranged_as_they_are_read(tmp_path, monkeypatch):
    """Also in another process, which opens the file again."""
    monkeypatch.setattr("scorefield.data.arrays.IN_MEMORY", 100)
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    x = GENERATOR.integers(0, 256, (20, 5, 6, 3)).astype("u1")
    data = read(saved(tmp_path / "x.npy", x), axes="nhwc")
    assert isinstance(data.x, Stored) and data.event_shape == (3, 5, 6) and data.levels == 256
    for one in (data, pickle.loads(pickle.dumps(data))):
        assert np.array_equal(one.rows(torch.tensor([7, 0])).x.numpy(), x[[7, 0]].transpose(0, 3, 1, 2))
    last = read(saved(tmp_path / "y.npy", np.moveaxis(x, 0, -1).copy()), axes="hwcn")
    assert np.array_equal(every(last).x.numpy(), x.transpose(0, 3, 1, 2))


# names of other projects


def test_names_of_medmnist(tmp_path):
    """With a part to hold out; several columns of labels are conditions; volumes have no channels."""
    counts = {"train": 6, "val": 3, "test": 2}
    sets = {part: GENERATOR.integers(0, 256, (n, 8, 8)).astype("u1") for part, n in counts.items()}
    label = {part: GENERATOR.integers(0, 4, (len(x), 1)) for part, x in sets.items()}
    arrays = {f"{part}_images": x for part, x in sets.items()} | {f"{part}_labels": y for part, y in label.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    data = read(tmp_path / "a.npz")
    kept, held = split(data, 0.5)
    assert np.array_equal(kept.rows(torch.arange(6)).x[:, 0].numpy(), sets["train"])
    assert np.array_equal(held.rows(torch.arange(3)).x[:, 0].numpy(), sets["val"])
    assert held.rows(torch.arange(3)).cond["label"].tolist() == label["val"][:, 0].tolist()
    assert data.found.left == ("2 samples test_images",) and "3 samples to hold out" in data.found.taken
    many = {name: np.tile(values, (1, 14)) if "labels" in name else values for name, values in arrays.items()}
    np.savez(tmp_path / "b.npz", **many)
    assert every(read(tmp_path / "b.npz")).cond["cond"].shape == (9, 14)
    for shape, event in (((8, 8, 3), (3, 8, 8)), ((8, 8, 8), (1, 8, 8, 8))):
        np.savez(tmp_path / "c.npz", train_images=np.zeros((4, *shape), "u1"), train_labels=np.zeros((4, 1), "u1"))
        assert read(tmp_path / "c.npz").event_shape == event


def test_names_of_keras_and_adm(tmp_path):
    x, y = GENERATOR.integers(0, 256, (5, 8, 8, 3)).astype("u1"), GENERATOR.integers(0, 3, 5)
    np.savez(tmp_path / "k.npz", x_train=x[:3], y_train=y[:3], x_test=x[3:], y_test=y[3:])
    data = read(tmp_path / "k.npz")
    assert (
        np.array_equal(every(data).x.numpy(), x.transpose(0, 3, 1, 2))
        and data.held.tolist() == [False] * 3 + [True] * 2
    )
    assert every(data).cond["label"].tolist() == y.tolist()
    np.savez(tmp_path / "g.npz", x_train=x[..., 0], y_train=y)
    assert read(tmp_path / "g.npz").event_shape == (1, 8, 8)
    np.savez(tmp_path / "a.npz", x, y)
    data = read(tmp_path / "a.npz")
    assert np.array_equal(every(data).x.numpy(), x.transpose(0, 3, 1, 2)) and data.classes == y.max() + 1
    np.savez(tmp_path / "u.npz", x=x, mask=y)
    with pytest.raises(ValueError, match=r"u.npz: wanted the array 'x'.*MedMNIST, Keras or ADM; got \['mask', 'x'\]"):
        read(tmp_path / "u.npz")


@pytest.mark.parametrize("name", ["X.NPY", "X.NPZ", "train-images.IDX.GZ"])
def test_capitals_in_endings(name, tmp_path):
    x = GENERATOR.integers(0, 256, (4, 1, 3)).astype("u1")
    if name.endswith("GZ"):
        head = b"\0\0\x08\x03" + struct.pack(">3I", *x.shape)
        (tmp_path / name).write_bytes(gzip.compress(head + x.tobytes()))
        assert np.array_equal(every(read(tmp_path / name)).x[:, 0].numpy(), x)
        return
    with (tmp_path / name).open("wb") as file:
        np.savez(file, x=x) if name.endswith("Z") else np.save(file, x)
    assert np.array_equal(every(read(tmp_path / name)).x.numpy(), x)


# levels


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_scaled_levels_are_hinted_at_and_taken_when_they_are_said(dtype, low, high, tmp_path):
    whole = GENERATOR.integers(0, 256, (10, 3, 8, 8))
    whole[0, 0, 0, :2] = 0, 255
    x = (low + whole / 255 * (high - low)).astype(dtype)
    data = read(saved(tmp_path / "x.npy", x))
    assert data.levels is None and np.array_equal(every(data).x.numpy(), x.astype("f8" if dtype == "f8" else "f4"))
    assert "which all of them are: --reading.levels 256" in str(data.found)
    data = read(tmp_path / "x.npy", levels=256)
    assert data.levels == 256 and np.array_equal(every(data).x.numpy(), whole) and not data.found.otherwise


def test_real_numbers_are_not_taken_for_levels(tmp_path):
    x = GENERATOR.random((10, 3, 8, 8))
    assert hint(x) == () == hint(GENERATOR.integers(-5, 5, 99).astype("f4")) == hint(np.zeros(9)) == hint(x[:0])
    for values in (x, x * 300, np.array([0, 1, 1.5])):
        with pytest.raises(ValueError, match="wanted integers from 0 to 255, or such scaled"):
            as_levels(values, 256, "x")
    assert "integers from 0 on, which all of them are: --reading.levels 10" in hint(np.arange(10.0))[0]


@pytest.mark.parametrize("dtype", ["i2", "u2", "i8"])
def test_integers_are_asked_about_wherever_they_come_from(dtype, tmp_path):
    import datasets

    x = GENERATOR.integers(0, 4096, (6, 5)).astype(dtype)
    datasets.Dataset.from_dict({"v": x}).save_to_disk(tmp_path / "hub")
    paths = [tmp_path / "hub", saved(tmp_path / "x.npy", x)]
    if dtype == "i2":
        (tmp_path / "x.idx").write_bytes(b"\0\0\x0b\x02" + struct.pack(">2I", *x.shape) + x.astype(">i2").tobytes())
        paths.append(tmp_path / "x.idx")
    for path in paths:
        with pytest.raises(ValueError, match=rf"{path.name}: .*got {x.dtype.name}: say how many values"):
            read(path)
        data = read(path, levels=4096)
        assert data.levels == 4096 and np.array_equal(every(data).x.numpy(), x)


def test_integers_of_8_bits_are_discrete_in_python_as_well():
    """Mutant: real numbers from 0 to 255."""
    x = torch.from_numpy(GENERATOR.integers(0, 256, (6, 5)).astype("u1"))
    assert ArrayDataset(x).levels == 256 == ArrayDataset(x.numpy()).levels and ArrayDataset(x, levels=300).levels == 300
    assert ArrayDataset(x > 5).levels == 2 and ArrayDataset(x > 5).x.dtype == torch.uint8
    assert ArrayDataset(x.float()).levels is None
    with pytest.raises(ValueError, match=r"data holds torch.int32: say how many levels"):
        ArrayDataset(x.int())


def test_real_numbers_of_the_hub_keep_their_bits(tmp_path):
    import datasets

    x = GENERATOR.normal(size=(5, 4))
    datasets.Dataset.from_dict({"v": x.tolist()}).save_to_disk(tmp_path / "hub")
    assert np.array_equal(every(read(tmp_path / "hub")).x.numpy(), x)


def test_parts_of_a_saved_data_set_are_held_out(tmp_path):
    import datasets

    rows = {name: {"v": [[float(k), 0.5]] * (k + 1)} for k, name in enumerate(("train", "validation", "test"))}
    parts = {name: datasets.Dataset.from_dict(columns) for name, columns in rows.items()}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "hub")
    data = read(tmp_path / "hub")
    kept, held = split(data, 0.1)
    assert isinstance(kept, Subset) and every(kept).x[:, 0].tolist() == [0] and every(held).x[:, 0].tolist() == [1, 1]
    assert data.found.left == ("the part test",)
