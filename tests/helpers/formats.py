"""Small sound files of each format, as its own library writes them, and what is read of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scorefield.data import ArrayDataset

GENERATOR = np.random.default_rng(0)


def every(data: ArrayDataset) -> Any:
    """All rows as an array."""
    return data.rows(torch.arange(len(data))).x.numpy()


def real(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape)


def whole(*shape: int, dtype: str = "i2") -> np.ndarray:
    return GENERATOR.integers(0, 1000, shape).astype(dtype)


def waves(*shape: int) -> np.ndarray:
    return (real(*shape) + 1j * real(*shape)).astype("c8")


def hdf5(path: Path, **arrays: Any) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/")] = values
    return path


def netcdf(path: Path, values: np.ndarray, axes: tuple[str, ...], kind: str = "NETCDF4", **attributes: Any) -> Path:
    import netCDF4

    with netCDF4.Dataset(path, "w", format=kind) as file:
        for name, side in zip(axes, values.shape, strict=True):
            file.createDimension(name, side)
        fill = attributes.pop("fill", None)
        dtype = attributes.pop("dtype", values.dtype)
        variable = file.createVariable("t2m", dtype, axes, fill_value=fill)
        variable.setncatts(attributes)
        variable[:] = values
    return path


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **options: Any) -> Path:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine, **options), path)
    return path


def dicom(path: Path, values: np.ndarray, **fields: Any) -> Path:
    """A picture (h, w), pictures (n, h, w), or one in colour (h, w, 3), as pydicom writes them."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    head = FileMetaDataset()
    head.MediaStorageSOPClassUID, head.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    head.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    made = pydicom.Dataset()
    made.file_meta = head
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, head.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID = fields.pop("series", "1.2.3")
    colour = values.ndim == 3 and values.shape[-1] == 3
    made.Rows, made.Columns = values.shape[:2] if colour else values.shape[-2:]
    if values.ndim == 3 and not colour:
        made.NumberOfFrames = len(values)
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * values.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    made.PixelData = values.tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


def fits(path: Path, *images: np.ndarray) -> Path:
    from astropy.io import fits

    parts = [fits.PrimaryHDU(images[0]), *(fits.ImageHDU(one, name=f"PART{k}") for k, one in enumerate(images[1:]))]
    fits.HDUList(parts).writeto(path)
    return path


def cfl(path: Path, values: np.ndarray) -> Path:
    """As BART's own writecfl does."""
    sides = [*values.shape, *(1,) * (16 - values.ndim)]
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, sides))}\n")
    path.write_bytes(values.astype("<c8").tobytes(order="F"))
    return path


def mat(path: Path, **arrays: Any) -> Path:
    from scipy.io import savemat

    savemat(path, arrays, do_compression=path.stem.endswith("packed"))
    return path


def mat_73(path: Path, **arrays: np.ndarray) -> Path:
    """As MATLAB writes them since 7.3: an HDF5 file behind 512 bytes, its axes the other way round."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            stored = values.T
            if values.dtype.kind == "c":
                pairs = np.empty(stored.shape, [("real", "f8"), ("imag", "f8")])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            array = file.create_dataset(name, data=stored.astype("u1") if values.dtype == bool else stored)
            kind = {"f8": "double", "f4": "single", "c16": "double", "b1": "logical"}.get(values.dtype.str[1:])
            array.attrs["MATLAB_class"] = np.bytes_(kind or values.dtype.name)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return path


def tensors(path: Path, **values: torch.Tensor) -> Path:
    from safetensors.torch import save_file

    save_file(values, path)
    return path


def torch_file(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def sound(kind: str, values: np.ndarray, subtype: str | None = None, rate: int = 8000) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


SOUND: dict[str, Callable[[Path], Path]] = {  # files that are read without an option
    "a.h5": lambda path: hdf5(path, x=real(6, 3)),
    "a.nc": lambda path: netcdf(path, real(4, 3, 5), ("time", "lat", "lon")),
    "old.nc": lambda path: netcdf(path, real(4, 3, 5), ("time", "lat", "lon"), "NETCDF3_CLASSIC"),
    "a.nii": lambda path: nifti(path, whole(4, 5, 3, 2)),
    "a.nii.gz": lambda path: nifti(path, whole(4, 5, 3, 2)),
    "a.dcm": lambda path: dicom(path, whole(8, 8)),
    "a.fits": lambda path: fits(path, whole(50, 60)),
    "a.mat": lambda path: mat(path, x=real(6, 3)),
    "packed.mat": lambda path: mat(path, x=real(6, 3)),
    "new.mat": lambda path: mat_73(path, x=real(6, 3)),
    "a.cfl": lambda path: cfl(path, waves(4, 5, 1, 2, 1, 3)),
    "a.safetensors": lambda path: tensors(path, x=torch.zeros(6, 3)),
    "a.pt": lambda path: torch_file(path, torch.zeros(6, 3)),
}
