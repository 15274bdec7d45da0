"""Which format a path is of."""

from __future__ import annotations

import pytest
from helpers.formats import SOUND, dicom, whole
from PIL import Image

from scorefield.data import read
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
    with pytest.raises(ValueError, match=r"b.h5 is a link out of the folder, which is not followed: name what"):
        read(tmp_path / "in")
    (tmp_path / "in" / "b.h5").unlink()
    (tmp_path / "in" / "b.h5").symlink_to("a.h5")
    assert len(read(tmp_path / "in")) == 12
    assert len(read(tmp_path / "b.h5")) == 6
