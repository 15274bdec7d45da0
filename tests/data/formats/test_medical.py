"""NIfTI and DICOM: the values that their heads mean, and where their axes go."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from helpers.formats import dicom, every, nifti, real, whole

from scorefield.data import read
from scorefield.data.formats import file_rows
from scorefield.data.formats.file_rows import FileRows

# NIfTI


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_is_one_sample_or_its_slices(name, tmp_path):
    volume = whole(4, 5, 3)
    path = nifti(tmp_path / name, volume, np.diag([-2.0, 2, 3, 1]))
    with pytest.raises(ValueError, match=r"several arrays: volumes 1 x 1 x 4 x 5 x 3 int16, slices 3 x 1 x 4 x 5"):
        read(path)
    assert np.array_equal(every(read(path, array="volumes"))[0, 0], volume)
    slices = read(path, array="slices")
    assert np.array_equal(every(slices)[:, 0], volume.transpose(2, 0, 1)) and "axes towards LAS" in str(slices.found)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_scaled_volumes_of_a_series_are_those_of_nibabel(name, tmp_path):
    """Mutant: the integers of the file."""
    path = nifti(tmp_path / name, real(4, 5, 3, 6), dtype="int16")
    data = read(path)
    assert np.array_equal(every(data)[:, 0], nibabel.load(path).get_fdata().transpose(3, 0, 1, 2))
    assert "volumes of NIfTI, float64, axes towards RAS, scaled: int16 x " in str(data.found)


def test_rows_of_a_large_series_are_read_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(file_rows, "IN_MEMORY", 100)
    values = whole(4, 5, 3, 6)
    data = read(nifti(tmp_path / "a.nii", values))
    assert isinstance(data.x, FileRows) and np.array_equal(every(data)[:, 0], values.transpose(3, 0, 1, 2))


def test_a_head_written_by_hand(tmp_path):
    """By the standard alone: sizeof_hdr, dim, datatype, bitpix, vox_offset, scl_slope, scl_inter, magic."""
    head = np.zeros(352, "u1")
    values = whole(3, 2, 2, dtype=">f4")
    for at, dtype, value in (
        (0, ">i4", 348),
        (40, ">i2", [3, 3, 2, 2, 1, 1, 1, 1]),
        (70, ">i2", [16, 32]),
        (108, ">f4", [352, 2, 1]),
        (344, "S4", b"n+1\0"),
    ):
        part = np.atleast_1d(np.array(value, dtype)).view("u1")
        head[at : at + len(part)] = part
    (tmp_path / "a.nii").write_bytes(head.tobytes() + values.tobytes(order="F"))
    assert np.array_equal(every(read(tmp_path / "a.nii", array="volumes"))[0, 0], 2.0 * values + 1)


def test_a_folder_of_volumes_has_one_orientation(tmp_path):
    volumes = [whole(4, 5, 3) for _ in range(3)]
    for k, volume in enumerate(volumes):
        nifti(tmp_path / f"{k}.nii.gz", volume)
    assert np.array_equal(every(read(tmp_path, array="volumes"))[:, 0], np.stack(volumes))
    nifti(tmp_path / "9.nii.gz", volumes[0], np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(
        ValueError, match=r"9.nii.gz: volumes is axes towards LAS; in the first file it is axes towards R"
    ):
        read(tmp_path, array="volumes")


def test_a_pair_of_files_lies_in_one_folder(tmp_path):
    values = whole(4, 5, 3)
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Pair(values, np.eye(4)), tmp_path / "in" / "a.img")
    for name in ("a.img", "a.hdr"):
        assert np.array_equal(every(read(tmp_path / "in" / name, array="volumes"))[0, 0], values)
    (tmp_path / "in" / "a.hdr").rename(tmp_path / "b.hdr")
    (tmp_path / "in" / "a.hdr").symlink_to(tmp_path / "b.hdr")
    with pytest.raises(ValueError, match=r"a.img: a.hdr is a link out of the folder, which is not followed"):
        read(tmp_path / "in" / "a.img", array="volumes")


def test_a_claim_of_a_large_volume_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", whole(4, 5, 3))
    image = nibabel.load(path)
    image.header["dim"][1:4] = 30000
    import gzip

    content = image.header.binaryblock + bytes(100)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"a.nii.gz: cannot be read as NIfTI \(it claims the shape"):
        read(path, array="volumes")


# DICOM


def test_hounsfield_units_by_slope_and_intercept(tmp_path):
    """Mutants: stored values; the window applied."""
    stored = whole(8, 6, dtype="i2")
    fields = {"RescaleSlope": 2, "RescaleIntercept": -1024, "RescaleType": "HU", "WindowCenter": 40, "WindowWidth": 400}
    data = read(dicom(tmp_path / "a.dcm", stored, **fields))
    assert np.array_equal(every(data)[0, 0], 2.0 * stored - 1024)
    assert "pictures of DICOM, float64, in HU, with slope and intercept of the head" in str(data.found)


def test_a_series_is_in_the_order_of_its_places(tmp_path):
    """Mutants: in the order of names; of numbers, which run the other way."""
    stored = whole(5, 8, 6, dtype="u2")
    across = [1, 0, 0, 0, 1, 0]
    for k, name in enumerate(("e", "a", "d", "b", "c")):
        place = {"ImagePositionPatient": [0, 0, 3.0 * k], "ImageOrientationPatient": across, "InstanceNumber": 9 - k}
        dicom(tmp_path / name, stored[k], **place)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ValueError, match="several arrays: pictures 5 x 1 x 8 x 6 uint16, volumes 1 x 1 x 5 x 8 x 6"):
        read(tmp_path)
    assert np.array_equal(every(read(tmp_path, array="pictures"))[:, 0], stored)
    assert np.array_equal(every(read(tmp_path, array="volumes"))[0, 0], stored)


def test_pictures_of_several_frames_and_colours(tmp_path):
    frames, colour = whole(3, 4, 5, dtype="u1"), whole(4, 5, 3, dtype="u1")
    assert np.array_equal(every(read(dicom(tmp_path / "a.dcm", frames), array="pictures"))[:, 0], frames)
    assert np.array_equal(every(read(dicom(tmp_path / "b.dcm", colour)))[0], colour.transpose(2, 0, 1))


def test_pictures_of_two_kinds_are_not_mixed(tmp_path):
    dicom(tmp_path / "a.dcm", whole(4, 4, dtype="u2"))
    dicom(tmp_path / "b.dcm", whole(4, 4, dtype="u2"), PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(ValueError, match=r"b.dcm is 4 x 4, MONOCHROME1, 16 bits; a.dcm is 4 x 4, MONOCHROME2, 16 bits"):
        read(tmp_path)
    assert "MONOCHROME1, 16 bits, where low values are bright: not inverted" in str(read(tmp_path / "b.dcm").found)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "numbers of colours instead of colours"),
        ({"NumberOfFrames": 10**9}, "claims 1000000000 frames"),
        ({"Rows": 65535, "Columns": 65535}, "65535"),
    ],
)
def test_heads_that_do_not_say_the_values_are_refused(fields, why, tmp_path):
    with pytest.raises(ValueError, match=rf"a.dcm.*{why}"):
        every(read(dicom(tmp_path / "a.dcm", whole(4, 4, dtype="u2"), **fields), array="pictures"))


def test_links_out_of_a_folder_of_dicom_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    dicom(tmp_path / "in" / "a.dcm", whole(4, 4))
    dicom(tmp_path / "b.dcm", whole(4, 4))
    (tmp_path / "in" / "b.dcm").symlink_to(tmp_path / "b.dcm")
    with pytest.raises(ValueError, match=r"b.dcm is a link out of the folder, which is not followed"):
        read(tmp_path / "in")


def test_files_that_are_no_pictures_are_said(tmp_path):
    import pydicom

    dicom(tmp_path / "a.dcm", whole(4, 4))
    report = pydicom.dcmread(dicom(tmp_path / "b.dcm", whole(4, 4)))
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.SOPClassUID = pydicom.uid.EnhancedSRStorage
    report.save_as(tmp_path / "b.dcm")
    assert "left: 1 of DICOM's Enhanced SR Storage" in str(read(tmp_path).found)
