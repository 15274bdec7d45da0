"""NetCDF as netCDF4 and SciPy write it."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from helpers.formats import every, hdf5, netcdf, real
from scipy.io import netcdf_file

from scorefield.data import read

AXES = ("time", "lat", "lon")


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF4_CLASSIC", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET"])
def test_packed_numbers_are_unpacked_as_netcdf_does(kind, tmp_path):
    """Mutant: the integers of the file."""
    options = {"dtype": "i2", "fill": -32767, "scale_factor": 0.01, "add_offset": 270.0, "units": "K"}
    path = netcdf(tmp_path / "a.nc", 280 + real(4, 3, 5), AXES, kind, **options)
    data = read(path)
    with netCDF4.Dataset(path) as file:
        assert np.array_equal(every(data)[:, 0], file["t2m"][:].filled())
    line = "t2m of NetCDF, float64, in K, axes time, lat, lon, packed as int16: x 0.01 + 270, -32767 are missing"
    assert line in str(data.found)


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_missing_values_are_refused_with_their_rows(kind, tmp_path):
    """Mutant: the fill value taken for a number."""
    values = np.ma.masked_array(real(6, 3, 5), False)
    values[2, 1, 1] = np.ma.masked
    path = netcdf(tmp_path / "a.nc", values, AXES, kind, fill=-999.0)
    with pytest.raises(ValueError, match=r"a.nc: NaN, infinite or missing values in the rows 2: fill or drop them"):
        read(path)


@pytest.mark.parametrize("options", [{}, {"dtype": "i2"}, {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0}])
@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_numbers_that_were_never_written_are_refused(kind, options, tmp_path):
    """Mutant: xarray's 9.97e36, which the file does not say is NetCDF's default for what is missing."""
    path = netcdf(tmp_path / "a.nc", real(4, 3, 5), AXES, kind, **options)
    every(read(path))
    with netCDF4.Dataset(path, "r+") as file:
        file.set_auto_maskandscale(False)
        variable = file["t2m"]
        variable[2, 1, 1] = netCDF4.default_fillvals[variable.dtype.str[1:]]
    with pytest.raises(ValueError, match=r"a.nc: .*(missing values in the rows 2|were never written)"):
        read(path)


def test_a_file_of_scipy(tmp_path):
    values = real(4, 3).astype(">f4")
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, side in (("n", 4), ("d", 3)):
            file.createDimension(name, side)
        file.createVariable("u", "f4", ("n", "d"))[:] = values
    assert np.array_equal(every(read(tmp_path / "a.nc")), values)


def test_coordinates_are_left_and_groups_have_names(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        for name, side in (("time", 4), ("lat", 3)):
            file.createDimension(name, side)
            file.createVariable(name, "f8", (name,))[:] = np.arange(side)
        file["time"].units = "days since 2000-01-01"
        file.createVariable("t2m", "f4", ("time", "lat"))[:] = 1.5
        file.createGroup("deep").createVariable("u", "f4", ("time", "lat"))[:] = 2.5
    data = read(tmp_path / "a.nc", array="t2m")
    assert "left: the arrays deep/u 4 x 3 float32; left: coordinates lat, time" in str(data.found).replace(
        "time, lat", "lat, time", 2
    ).replace("lat, lat", "lat")
    assert (every(read(tmp_path / "a.nc", array="deep/u")) == 2.5).all()


def test_a_range_of_valid_numbers_is_said(tmp_path):
    path = netcdf(tmp_path / "a.nc", real(4, 3), ("n", "d"), valid_range=np.array([-1.0, 1.0]))
    assert "valid_range not applied" in str(read(path).found)


def test_links_to_other_files_are_refused(tmp_path):
    import h5py

    hdf5(tmp_path / "other.h5", x=real(3, 2))
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["x"] = real(3, 2)
        file["y"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(ValueError, match=r"a.nc: y is a link to another file, which is not followed"):
        read(tmp_path / "a.nc", array="x")


def test_another_format_of_the_name(tmp_path):
    (tmp_path / "a.cdf").write_bytes(bytes.fromhex("cdf30001") + bytes(100))
    with pytest.raises(ValueError, match=r"a.cdf: is CDF of NASA, another format: convert it to NetCDF"):
        read(tmp_path / "a.cdf")
