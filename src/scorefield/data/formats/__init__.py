"""Formats of other fields, one file each; each is read by the library that is made for it, if that is installed.

A new format is a file with a `Format` and its name in the list below. Its reader opens nothing but what it is given,
follows no link out of it, runs nothing, and looks at what a head claims before it takes memory for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from scorefield.data.audio import RECORDINGS
from scorefield.data.formats.bart import BART
from scorefield.data.formats.contract import Format as Format
from scorefield.data.formats.dicom import DICOM, is_dicom, is_series
from scorefield.data.formats.fits import FITS
from scorefield.data.formats.fits import write_fits as write_fits
from scorefield.data.formats.hdf5 import HDF5
from scorefield.data.formats.hdf5 import write_hdf5 as write_hdf5
from scorefield.data.formats.matlab import MATLAB
from scorefield.data.formats.netcdf import NETCDF
from scorefield.data.formats.nifti import NIFTI
from scorefield.data.formats.nifti import write_nifti as write_nifti
from scorefield.data.formats.reading import read_format as read_format
from scorefield.data.formats.safetensors import SAFETENSORS
from scorefield.data.formats.torch_tensors import TORCH
from scorefield.data.formats.zarr import ZARR, is_store
from scorefield.data.formats.zarr import write_zarr as write_zarr
from scorefield.data.images import SUFFIXES

FORMATS = HDF5, ZARR, NETCDF, NIFTI, DICOM, FITS, MATLAB, BART, SAFETENSORS, TORCH
VIDEO = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")


def format_of(path: Path) -> Format | None:
    """The format of a file by its name, or that of the files in a folder; None if it is of none.

    Pictures and recordings come first: what lies beside them may be about them.

    Raises:
        ValueError: it is a video, which is not read; or the files are of several formats.
    """
    if path.is_dir():
        return ZARR if is_store(path) else _within(path)
    name = path.name.lower()
    if name.endswith(VIDEO):
        raise ValueError(f"{path}: videos are not read: save their frames as pictures, a folder for each")
    if name.endswith(".hdr"):  # the text beside BART's numbers, or NIfTI's head beside its voxels
        return next((form for form in (BART, NIFTI) if path.with_suffix(form.suffixes[-1]).is_file()), None)
    return next((form for form in FORMATS if name.endswith(form.suffixes)), DICOM if is_dicom(path) else None)


def _within(path: Path) -> Format | None:
    """The one format of the files in a folder, by their names; DICOM's may have none."""
    found = dict[str, Format]()
    for _, _, files in os.walk(path):
        for name in map(str.lower, files):
            if name.endswith((*SUFFIXES, *RECORDINGS)) and not name.startswith("."):
                return None
            found |= {form.name: form for form in FORMATS if name.endswith(form.suffixes) and not name.startswith(".")}
    if len(found) > 1:
        raise ValueError(f"{path}: holds files of {' and '.join(found)}: separate them")
    return next(iter(found.values()), DICOM if is_series(path) else None)
