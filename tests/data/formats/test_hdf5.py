"""HDF5 as h5py, netCDF's C library and scanners' tools write it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers.formats import every, hdf5, netcdf, real, waves, whole

from scorefield.data import read


def test_k_space_of_fastmri(tmp_path):
    """Real and imaginary part of each coil one behind the other; the rest of the file is said."""
    kspace = waves(3, 4, 6, 5)
    path = hdf5(
        tmp_path / "file1.h5", kspace=kspace, reconstruction_rss=real(3, 4, 4).astype("f4"), ismrmrd_header="<x/>"
    )
    data = read(path, array="kspace")
    found = every(data)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0::2] + 1j * found[:, 1::2], kspace)
    assert "3 samples of 8 x 6 x 5, complex numbers as real and imaginary part: kspace of HDF5" in str(data.found)
    assert "left: the arrays reconstruction_rss 3 x 4 x 4 float32; left: ismrmrd_header: no numbers" in str(data.found)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", "u1", "?", ">i4", ">c16"])
def test_numbers_of_any_kind_and_order_of_bytes(dtype, tmp_path):
    values = real(5, 3).astype(dtype) if dtype[1:2] in ("f", "c") else whole(5, 3).astype(dtype)
    found = every(read(hdf5(tmp_path / "a.h5", x=values)))
    assert np.array_equal(found[:, 0] + 1j * found[:, 1] if "c" in dtype else found.astype(dtype), values)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}]
)
def test_packed_numbers(options, tmp_path):
    values = whole(9, 4, 4, dtype="u1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(2, 4, 4), **options)
    assert np.array_equal(every(read(tmp_path / "a.h5", axes="ncl")), values)


def test_a_file_of_netcdf_s_library(tmp_path):
    values = real(4, 3).astype("f4")
    netcdf(tmp_path / "a.nc", values, ("n", "d"))
    path = (tmp_path / "a.nc").rename(tmp_path / "a.hdf5")
    assert np.array_equal(every(read(path, array="t2m")), values)


def test_what_was_never_written_is_said(tmp_path):
    """Mutant: made-up zeros without a word."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (8, 2), "f4", chunks=(2, 2))[:4] = 1
        file.create_dataset("empty", (8, 2), "f4", fillvalue=7)
    assert "2 of 4 chunks never written: 0.0 there" in str(read(tmp_path / "a.h5").found)
    assert "never written: all 7.0" in str(read(tmp_path / "a.h5", array="empty").found)


# what lies outside


def test_what_lies_in_other_files_is_not_opened(tmp_path):
    """Mutants: each of the three ways is followed."""
    np.arange(6, dtype="f8").tofile(tmp_path / "secret.bin")
    hdf5(tmp_path / "secret.h5", x=real(3, 2))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/x")
        file["soft"] = h5py.SoftLink("/link")
        file.create_dataset("raw", (3, 2), "f8", external=[(str(tmp_path / "secret.bin"), 0, 48)])
        layout = h5py.VirtualLayout((3, 2), "f8")
        layout[:] = h5py.VirtualSource("secret.h5", "x", (3, 2))
        file.create_virtual_dataset("virtual", layout)
        file["x"] = real(3, 2)
    assert "left: link: a link to another file, which is not followed" in str(read(tmp_path / "a.h5").found)
    for name in ("raw", "virtual"):
        with pytest.raises(ValueError, match=f"a.h5: {name} has its numbers in other files, which are not opened"):
            read(tmp_path / "a.h5", array=name)
    for name in ("link", "soft"):
        with pytest.raises(ValueError, match=f"a.h5: has no array '{name}'"):
            read(tmp_path / "a.h5", array=name)


def test_a_way_of_packing_that_would_load_a_program_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 2))
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard, a plugin
        space = h5py.h5s.create_simple((4, 2))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)
    with pytest.raises(ValueError, match=r"a.h5: x is packed by the filter 32015, which is no part of HDF5: h5repack"):
        read(tmp_path / "a.h5")


def test_groups_that_hold_each_other_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = real(3, 2)
        file["g/again"] = file["g"]
        file["g/top"] = file["/"]
    assert len(read(tmp_path / "a.h5", array="g/x")) == 3


def test_a_claim_of_a_large_chunk_is_refused_before_memory_is_taken(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1 << 40, 64), "f8", chunks=(1, 64))
    with pytest.raises(ValueError, match=r"x claims 562949953421312 bytes, of which the file holds 0"):
        read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (60, 1000), "f8", chunks=(1 << 19, 64), maxshape=(None, None))
    with pytest.raises(ValueError, match=r"x: a chunk of \(524288, 64\) would take 256 MiB, more than the 102.4 MiB"):
        read(tmp_path / "a.h5", largest=0.1)
