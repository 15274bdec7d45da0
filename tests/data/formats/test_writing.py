"""Samples written in the formats that are read, with what a file like them says of itself."""

from __future__ import annotations

import h5py
import nibabel
import numpy as np
import pytest
import torch
import zarr
from astropy.io import fits as astro
from helpers.formats import every, fits, hdf5, nifti, real, whole

from scorefield.data import read
from scorefield.data.formats import write_fits, write_hdf5, write_nifti, write_zarr

WRITERS = {
    "a.h5": write_hdf5,
    "a.zarr": write_zarr,
    "a.fits": write_fits,
    "a.nii.gz": write_nifti,
    "a.nii": write_nifti,
}
SAMPLES = {
    "pictures": torch.from_numpy(real(3, 1, 5, 4)),
    "integers": torch.from_numpy(whole(3, 1, 5, 4, dtype="u1")),
    "volumes": torch.from_numpy(real(3, 1, 5, 4, 2).astype("f4")),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_what_was_written_is_read(kind, name, tmp_path):
    x = SAMPLES[kind]
    WRITERS[name](x, tmp_path / name, None)
    array = "slices" if ".nii" in name and kind != "volumes" else None
    data = read(tmp_path / name, array=array)
    found = every(data).reshape(x.shape)
    assert np.array_equal(found, x.numpy()) and data.levels == (256 if kind == "integers" else None)
    WRITERS[name](x[:1], tmp_path / f"one_{name}", None)
    array = None if ".nii" not in name or kind != "volumes" else "volumes"
    one = every(read(tmp_path / f"one_{name}", array=array))
    assert np.array_equal(one.reshape(x[:1].shape), x[:1].numpy())


def test_what_a_file_says_of_itself_is_taken_over(tmp_path):
    x = SAMPLES["volumes"]
    affine = np.diag([-2.0, 2, 3, 1])
    like = nifti(tmp_path / "like.nii.gz", real(5, 4, 2), affine, dtype="int16")
    write_nifti(x, tmp_path / "a.nii.gz", like)
    written = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(written.affine, affine) and written.get_data_dtype() == np.float32
    assert np.array_equal(every(read(tmp_path / "a.nii.gz")), x.numpy())

    like = fits(tmp_path / "like.fits", whole(4, 5))
    astro.setval(like, "BSCALE", value=0.5)
    astro.setval(like, "OBJECT", value="M13")
    write_fits(x, tmp_path / "a.fits", like)
    assert astro.getval(tmp_path / "a.fits", "OBJECT") == "M13"
    assert np.array_equal(every(read(tmp_path / "a.fits")).reshape(x.shape), x.numpy())

    with h5py.File(hdf5(tmp_path / "like.h5", deep__er=real(2)), "r+") as file:
        file["deep/er"].attrs["units"] = "K"
    write_hdf5(x, tmp_path / "a.h5", tmp_path / "like.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["deep/er"].attrs["units"] == "K" and file["deep/er"].shape == tuple(x.shape)

    zarr.create_array(str(tmp_path / "like.zarr"), shape=(2,), dtype="f4", attributes={"units": "K"})
    write_zarr(x, tmp_path / "a.zarr", tmp_path / "like.zarr")
    assert "in K" in str(read(tmp_path / "a.zarr").found)


def test_samples_that_a_format_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.nii: NIfTI takes pictures or volumes of one channel; got .*\(3, 5, 4\)"):
        write_nifti(torch.zeros(2, 3, 5, 4), tmp_path / "a.nii", None)
    assert not list(tmp_path.iterdir())
