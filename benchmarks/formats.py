"""Seconds and peak memory of training on a file of 2 GiB in each format that is read in rows.

    pip install '.[formats]' netCDF4
    python benchmarks/formats.py --markdown
    python benchmarks/formats.py --only "HDF5, packed" --gib 0.5

Each file holds pictures of 64 x 64 in float32 (DICOM's are of 16 bits). `scorefield train` takes three steps of 32 of
them in a process of its own, which also reads the 20 million numbers that its statistics are made of. Memory is what
the process had at most, less what the same command had on a file of 64 pictures of the format.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIDE, TOGETHER = 64, 1024

TRAIN = """
import json, sys, time
from pathlib import Path
from scorefield.cli import main

options = json.loads(sys.argv[1])
start = time.perf_counter()
status = main(["train", "--steps", "3", "--batch_size", "32", "--previews", "0", "--net", "MLP", "--net.features", "8",
               "--net.blocks", "1", *options])
seconds = time.perf_counter() - start
assert not status
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print("measured", seconds, int(line.split()[1]) << 10)
"""


def blocks(count: int) -> Iterator[np.ndarray]:
    """Pictures (k, 1, h, w), some at a time."""
    block = np.random.default_rng(0).normal(size=(min(count, TOGETHER), 1, SIDE, SIDE)).astype("f4")
    for start in range(0, count, TOGETHER):
        yield block[: count - start]


def raw(path: Path, head: bytes, count: int, dtype: str = "<f4", end: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        for block in blocks(count):
            file.write(block.astype(dtype).tobytes())
        file.write(end)


def hdf5(path: Path, count: int, **options: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        array = file.create_dataset("x", (count, 1, SIDE, SIDE), "f4", **options)
        for k, block in enumerate(blocks(count)):
            array[k * TOGETHER : k * TOGETHER + len(block)] = block


def zarr(path: Path, count: int, together: int, version: int) -> None:
    import zarr

    shape, chunks = (count, 1, SIDE, SIDE), (min(together, count), 1, SIDE, SIDE)
    array = zarr.create_array(str(path), shape=shape, chunks=chunks, dtype="f4", zarr_format=version)
    for k, block in enumerate(blocks(count)):
        array[k * TOGETHER : k * TOGETHER + len(block)] = block


def netcdf(path: Path, count: int, kind: str) -> None:
    import netCDF4

    with netCDF4.Dataset(path, "w", format=kind) as file:
        for name, side in (("time", count), ("lat", SIDE), ("lon", SIDE)):
            file.createDimension(name, side)
        variable = file.createVariable("t2m", "f4", ("time", "lat", "lon"))
        for k, block in enumerate(blocks(count)):
            variable[k * TOGETHER : k * TOGETHER + len(block)] = block[:, 0]


def nifti(path: Path, count: int) -> None:
    import nibabel

    head = nibabel.Nifti2Header()  # whose sides may be larger than 32,767
    head.set_data_dtype("f4")
    head.set_data_shape((SIDE, SIDE, 1, count))
    head["vox_offset"] = 544
    raw(path, head.binaryblock + bytes(4), count)


def fits(path: Path, count: int) -> None:
    from astropy.io import fits

    head = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3), ("NAXIS1", SIDE), ("NAXIS2", SIDE)])
    head["NAXIS3"] = count
    raw(path, head.tostring().encode(), count, ">f4", bytes(-4 * count * SIDE**2 % 2880))


def safetensors(path: Path, count: int) -> None:
    about = {"x": {"dtype": "F32", "shape": [count, 1, SIDE, SIDE], "data_offsets": [0, 4 * count * SIDE**2]}}
    head = json.dumps(about).encode()
    raw(path, len(head).to_bytes(8, "little") + head, count)


def bart(path: Path, count: int) -> None:
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{SIDE} {SIDE} 1 1 1 1 1 1 1 1 {count // 2} 1 1 1 1 1\n")
    raw(path, b"", count)


def matlab(path: Path, count: int) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        array = file.create_dataset("x", (count, SIDE, SIDE), "f4", chunks=(1, SIDE, SIDE), compression="gzip")
        array.attrs["MATLAB_class"] = np.bytes_("single")
        for k, block in enumerate(blocks(count)):
            array[k * TOGETHER : k * TOGETHER + len(block)] = block[:, 0]


def parquet(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), SIDE**2)
    with pq.ParquetWriter(path, pa.schema([("x", kind)])) as file:
        for block in blocks(count):
            file.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(block.reshape(-1), type=kind)}))


def dicom(path: Path, count: int) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers.formats import dicom as write

    pictures = np.random.default_rng(0).integers(0, 4096, (min(count, TOGETHER), SIDE, SIDE)).astype("u2")
    write(path, np.tile(pictures, (max(1, 2 * count // TOGETHER), 1, 1)))


def npy(path: Path, count: int) -> None:
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (count, 1, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(file, head)
        for block in blocks(count):
            file.write(block.tobytes())


FORMATS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "NumPy, to compare": ("x.npy", npy),
    "HDF5": ("x.h5", hdf5),
    "HDF5, a chunk for each picture": ("x.h5", lambda p, n: hdf5(p, n, chunks=(1, 1, SIDE, SIDE), compression="lzf")),
    "HDF5, packed": ("x.h5", lambda p, n: hdf5(p, n, chunks=(64, 1, SIDE, SIDE), compression="lzf")),
    "Zarr 2": ("x.zarr", lambda p, n: zarr(p, n, 16, 2)),
    "Zarr 3": ("x.zarr", lambda p, n: zarr(p, n, 64, 3)),
    "NetCDF 4": ("x.nc", lambda p, n: netcdf(p, n, "NETCDF4")),
    "NetCDF 3": ("x.nc", lambda p, n: netcdf(p, n, "NETCDF3_64BIT_OFFSET")),
    "NIfTI": ("x.nii", nifti),
    "DICOM": ("x.dcm", dicom),
    "FITS": ("x.fits", fits),
    "MATLAB 7.3": ("x.mat", matlab),
    "BART": ("x.cfl", bart),
    "safetensors": ("x.safetensors", safetensors),
    "Parquet, lists": ("x.parquet", parquet),
}


def trained(write: Callable[[Path, int], None], name: str, count: int) -> tuple[float, int, str, int]:
    """Seconds, peak bytes, the line of what was found, and bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, count)
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")))
        options = [
            "--data",
            str(path),
            "--out",
            f"{folder}/run",
            *(["--reading.array", "pictures"] * (path.suffix == ".dcm")),
        ]
        command = [sys.executable, "-c", TRAIN, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr[-2000:]}")
        _, seconds, peak = next(line for line in done.stdout.splitlines() if line.startswith("measured")).split()
        said = next((line for line in done.stderr.splitlines() if " samples of " in line), "")
        return float(seconds), int(peak), said.partition(": ")[2], size


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", help="formats by their names")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if options.markdown:
        print("| format | GiB | s | MiB more than for 64 pictures |\n|---|--:|--:|--:|")
    for kind, (name, write) in FORMATS.items():
        if options.only and kind not in options.only:
            continue
        begun = time.monotonic()
        _, before, _, _ = trained(write, name, 64)
        seconds, peak, found, size = trained(write, name, int(options.gib * 2**30) // (4 * SIDE**2))
        more = (peak - before) / 2**20
        print(f"| {kind} | {size / 2**30:.2f} | {seconds:.1f} | {more:.0f} |", flush=True)
        print(f"{kind}: {found[:120]} ({time.monotonic() - begun:.0f} s in all)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
