"""FITS, with the values that astropy gives."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits as astro
from helpers.formats import every, fits, real, whole

from scorefield.data import read
from scorefield.data.formats import file_rows
from scorefield.data.formats.file_rows import FileRows


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_planes_of_a_cube(name, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(file_rows, "IN_MEMORY", 100)
    values = whole(4, 5, 6).astype(dtype)
    data = read(fits(tmp_path / name, values))
    assert np.array_equal(every(data)[:, 0], values)
    assert isinstance(data.x, FileRows)


def test_a_picture_is_one_sample_and_names_choose(tmp_path):
    values = real(5, 6).astype("f4"), whole(3, 2, 2, 2)
    path = fits(tmp_path / "a.fits", *values)
    assert np.array_equal(every(read(path, array="PRIMARY"))[0, 0], values[0])
    assert np.array_equal(every(read(path, array="PART0")), values[1])


def test_scaled_numbers_and_those_that_are_missing(tmp_path):
    """Mutants: the integers of the file; BLANK taken for a number."""
    stored = whole(3, 4, 5, dtype="i2")
    image = astro.PrimaryHDU(stored)
    image.header["BSCALE"], image.header["BZERO"], image.header["BUNIT"] = 0.5, 10.0, "adu"
    image.writeto(tmp_path / "a.fits")
    data = read(tmp_path / "a.fits")
    with astro.open(tmp_path / "a.fits") as file:
        assert np.array_equal(every(data)[:, 0], file[0].data)
    assert "in adu, scaled: BITPIX 16 x 0.5 + 10" in str(data.found)
    image = astro.PrimaryHDU(stored)
    image.header["BSCALE"], image.header["BLANK"] = 0.5, int(stored[1, 2, 2])
    image.writeto(tmp_path / "b.fits")
    with pytest.raises(ValueError, match=r"b.fits: NaN, infinite or missing values in the rows .*1"):
        read(tmp_path / "b.fits")


@pytest.mark.parametrize("packing", ["RICE_1", "GZIP_1", "HCOMPRESS_1"])
def test_packed_pictures(packing, tmp_path):
    values = whole(40, 50, dtype="i4")
    packed = astro.CompImageHDU(values, name="SCI", compression_type=packing)
    astro.HDUList([astro.PrimaryHDU(), packed]).writeto(tmp_path / "a.fits")
    assert np.array_equal(every(read(tmp_path / "a.fits"))[0, 0], values)


def test_tables_are_left_and_said(tmp_path):
    table = astro.BinTableHDU.from_columns([astro.Column("ra", "D", array=real(7))], name="CATALOG")
    astro.HDUList([astro.PrimaryHDU(real(4, 4)), table]).writeto(tmp_path / "a.fits")
    assert "left: CATALOG: a table of 7 rows" in str(read(tmp_path / "a.fits").found)


def test_a_claim_of_a_large_picture_is_refused(tmp_path):
    path = fits(tmp_path / "a.fits", whole(4, 5))
    content = path.read_bytes().replace(b"NAXIS1  =                    5", b"NAXIS1  =            500000000")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.fits: cannot be read as FITS"):
        read(path)
