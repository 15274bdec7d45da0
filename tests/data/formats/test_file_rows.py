"""Rows of files: those that are asked for, of one file or of many, and which of several arrays."""

from __future__ import annotations

import os
import pickle
import sys

import h5py
import numpy as np
import pytest
import torch
from helpers.formats import every, hdf5, real, whole

from scorefield.data import Stored, read
from scorefield.data.formats import file_rows
from scorefield.data.formats.file_rows import FileRows


@pytest.fixture
def large(monkeypatch):
    """More than a kilobyte counts as too much for memory."""
    monkeypatch.setattr(file_rows, "IN_MEMORY", 1000)
    monkeypatch.setattr("scorefield.data.stored.IN_MEMORY", 1000)
    monkeypatch.setattr(file_rows, "APIECE", 500)
    monkeypatch.setattr(file_rows, "TOGETHER", 100)


def test_rows_of_a_large_file_are_those_that_are_asked_for(large, tmp_path):
    values = real(40, 2, 3)
    data = read(hdf5(tmp_path / "a.h5", x=values))
    assert isinstance(data.x, FileRows) and data.x.shape == (40, 2, 3)
    index = torch.tensor([7, 3, 4, 39, 3, 0])
    assert np.array_equal(data.rows(index).x.numpy(), values[index])
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again.rows(index).x.numpy(), values[index])
    last = torch.tensor([-1, 0, -40])
    assert np.array_equal(data.x[last].numpy(), values[last])
    with pytest.raises(IndexError, match="there are 40 rows; got the numbers 0 to 40"):
        data.x[torch.tensor([0, 40])]


def test_rows_of_many_files_come_from_their_file(large, tmp_path):
    values = {f"{kind}/{k}.h5": real(k + 2, 30) for kind in ("cat", "dog") for k in range(3)}
    for name, some in values.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        hdf5(tmp_path / name, x=some)
    data = read(tmp_path)
    assert isinstance(data.x, FileRows) and data.class_names == ("cat", "dog")
    assert np.array_equal(every(data), np.concatenate(list(values.values())))
    index = torch.tensor([17, 0, 9, 8, 2])
    assert np.array_equal(data.rows(index).x.numpy(), np.concatenate(list(values.values()))[index])
    assert data.rows(index).cond["label"].tolist() == [1, 0, 1, 0, 0]
    assert str(data.found).startswith("18 samples of 30, real numbers: x of 6 HDF5 files, float64")
    assert np.array_equal(every(read(tmp_path, limit=4)), every(data)[:4])


def test_rows_that_are_packed_with_many_others_go_to_a_temporary_file(large, tmp_path):
    values = real(50, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(25, 6), compression="gzip")
        file.create_dataset("few", data=values, chunks=(2, 6), compression="gzip")
    data = read(tmp_path / "a.h5", array="x")
    assert isinstance(data.x, Stored) and np.array_equal(every(data), values)
    assert isinstance(read(tmp_path / "a.h5", array="few").x, FileRows)


def test_a_file_that_has_changed_is_not_read_as_the_one_it_was(large, tmp_path):
    data = read(hdf5(tmp_path / "a.h5", x=real(60, 3)))
    pickled = pickle.dumps(data)
    os.utime(tmp_path / "a.h5", ns=(1, 1))
    for attempt in (lambda: every(data), lambda: every(pickle.loads(pickled))):
        with pytest.raises(ValueError, match=r"a.h5 is not the file that the data were read from, or has changed"):
            attempt()


@pytest.mark.parametrize("large_too", [False, True])
def test_numbers_that_are_not_finite_are_refused_with_their_rows(large_too, tmp_path, request):
    if large_too:
        request.getfixturevalue("large")
    values = real(60, 3)
    values[[4, 17], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"a.h5: NaN, infinite or missing values in the rows 4(, 17)?: fill or drop"):
        every(read(hdf5(tmp_path / "a.h5", x=values)))


def test_one_of_several_arrays_is_asked_for(tmp_path):
    path = hdf5(tmp_path / "a.h5", kspace=real(2, 3), deep__er=whole(4, 2), number=1.0)
    with pytest.raises(ValueError, match=r"several arrays: .*kspace 2 x 3 float64.*: choose one: --reading.array"):
        read(path)
    with pytest.raises(ValueError, match=r"a.h5: has no array 'other'; it has "):
        read(path, array="other")
    for name in ("deep/er", "/deep/er"):
        data = read(path, array=name)
        assert data.event_shape == (2,)
        assert "left: the arrays kspace 2 x 3 float64" in str(data.found)
        assert "or else another array: --reading.array" in str(data.found)
    with pytest.raises(ValueError, match=r"array is for files of several arrays"):
        read(tmp_path / "a.npy", array="x") if np.save(tmp_path / "a.npy", real(2, 2)) is None else None


def test_labels_and_conditions_lie_beside_x(tmp_path):
    cond = real(4, 2)
    data = read(hdf5(tmp_path / "a.h5", g__x=real(4, 3), g__labels=[[0], [2], [1], [0]], g__cond=cond), array="g/x")
    rows = data.rows(torch.tensor([1, 3]))
    assert rows.cond["label"].tolist() == [2, 0] and data.classes == 3
    assert np.allclose(rows.cond["cond"].numpy(), cond[[1, 3]])
    with pytest.raises(ValueError, match=r"b.h5: labels 3 int64 does not go with the 4 rows of x"):
        read(hdf5(tmp_path / "b.h5", x=real(4, 3), labels=[0, 1, 0]))


def test_files_of_a_folder_are_alike(tmp_path):
    hdf5(tmp_path / "a.h5", x=real(4, 3))
    hdf5(tmp_path / "b.h5", x=real(4, 2))
    with pytest.raises(ValueError, match=r"b.h5: x has rows of 2, float64, the first file x 4 x 3 float64: separate"):
        read(tmp_path)
    (tmp_path / "b.h5").unlink()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = real(4, 3)
        file["x"].attrs["units"] = "K"
    with pytest.raises(ValueError, match=r"b.h5: x is in K; in the first file it is without units"):
        read(tmp_path)


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "a.h5", x=real(4, 3))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"a.h5: reading HDF5 takes h5py: pip install 'scorefield\[arrays\]'"):
        read(path)


def test_levels_limit_and_largest(tmp_path):
    path = hdf5(tmp_path / "a.h5", x=whole(6, 3, dtype="u2"))
    data = read(path, levels=1000, limit=4)
    assert (data.levels, len(data), data.x.dtype) == (1000, 4, torch.int32)
    with pytest.raises(ValueError, match=r"a.h5: an array of shape \(6, 3\) would take .* allow more"):
        read(path, largest=5e-8)
