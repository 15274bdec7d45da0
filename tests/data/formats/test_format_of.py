"""Which format a path is of."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from helpers.formats import SOUND, dicom, whole
from PIL import Image

from scorefield.data import read, split
from scorefield.data.formats import FORMATS, format_of


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_names_in_any_case(form, tmp_path):
    for suffix in form.suffixes:
        (tmp_path / f"a{suffix.upper()}").touch()
        assert format_of(tmp_path / f"a{suffix.upper()}") is form


def test_no_two_formats_have_one_suffix():
    every = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(every) == len(set(every))


def test_dicom_is_known_without_a_suffix(tmp_path):
    for name in ("IM0001", "1.2.840.113619"):
        path = dicom(tmp_path / name, whole(4, 4))
        assert len(read(path)) == 1
    (tmp_path / "notes").write_text("nothing")
    assert format_of(tmp_path / "notes") is None


def test_videos_are_left_alone_and_said(tmp_path):
    (tmp_path / "a.MP4").touch()
    with pytest.raises(ValueError, match=r"a.MP4: videos are not read: save their frames as pictures"):
        read(tmp_path / "a.MP4")


def test_files_of_a_folder_are_of_one_format_and_pictures_come_first(tmp_path):
    SOUND["a.h5"](tmp_path / "a.h5")
    SOUND["a.pt"](tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"holds files of HDF5 and torch: separate them"):
        read(tmp_path)
    Image.fromarray(whole(4, 4, dtype="u1")).save(tmp_path / "a.png")
    assert read(tmp_path).event_shape == (1, 4, 4)


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    SOUND["a.h5"](tmp_path / "in" / "a.h5")
    (tmp_path / "in" / "b.h5").symlink_to(SOUND["a.h5"](tmp_path / "b.h5"))
    data = read(tmp_path / "in")
    assert len(data) == 6 and "left: 1 link that lead out" in str(data.found)
    (tmp_path / "in" / "b.h5").unlink()
    (tmp_path / "in" / "b.h5").symlink_to("a.h5")
    assert len(read(tmp_path / "in")) == 12
    assert len(read(tmp_path / "b.h5")) == 6


def test_axes_are_those_of_arrays_everywhere(tmp_path):
    """Asked about where nothing says them, as of .npy; and turned as the rows are read."""
    values = np.arange(5 * 6 * 6, dtype="f4").reshape(5, 6, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
    with pytest.raises(ValueError, match=r"a.h5: x: an array of shape \(5, 6, 6\) may be signals .*--reading.axes nhw"):
        read(tmp_path / "a.h5")
    for axes, wanted in (("nhw", values[:, None]), ("nlc", values.transpose(0, 2, 1)), ("ncl", values)):
        data = read(tmp_path / "a.h5", axes=axes)
        assert np.array_equal(data.rows(torch.tensor([3, 0])).x.numpy(), wanted[[3, 0]])
    with pytest.raises(ValueError, match="the first axis must be n, the samples; got hwn"):
        read(tmp_path / "a.h5", axes="hwn")


def test_parts_of_a_folder_are_held_out(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        (tmp_path / part).mkdir()
        with h5py.File(tmp_path / part / "a.h5", "w") as file:
            file["x"] = np.full((count, 3), count, "f4")
    data = read(tmp_path)
    kept, held = split(data, 0.1)
    assert data.classes == 0 and (len(kept), len(held)) == (4, 2)
    assert bool((held.rows(torch.arange(2)).x == 2).all())
