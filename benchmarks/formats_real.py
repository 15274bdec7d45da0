"""Files that packages ship, and files that other tools write, beside what each package's own reader gives.

    pip install '.[formats]' -r benchmarks/formats.txt
    python benchmarks/formats_real.py    # two tables in Markdown

What is read must be equal to the last bit to what the reference gives, in the axes of scorefield; complex numbers are
compared as such. Of tools that are programs (bart, flac, oggenc, opusenc, ncgen, h5repack) those at hand are used.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scorefield.data import Audio, read

Array = np.ndarray
Reference = Callable[[Path], Array]


class Case(NamedTuple):
    """A file, by its place in a package, or by what writes it.

    Args:
        package: that ships it or writes it.
        file: its place or its name.
        reference: the same by the package's own reader, in scorefield's axes.
        array: the option, if it is needed.
        write: makes the file, and gives what was written if that is the reference.
    """

    package: str
    file: str
    reference: Reference | None = None
    array: str | None = None
    write: Callable[[Path], Array | None] | None = None


# readers


def by_nibabel(path: Path) -> Array:
    import nibabel

    values = np.asarray(nibabel.load(path).dataobj)
    values = values.reshape(values.shape[:4])
    return np.moveaxis(values, -1, 0)[:, None]  # slices, or volumes of four axes


def by_simpleitk(path: Path) -> Array:
    import SimpleITK

    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return values.transpose(0, *range(values.ndim - 1, 0, -1))[:, None]


def by_pydicom(path: Path) -> Array:
    import pydicom
    from pydicom.pixels import apply_rescale, pixel_array

    head = pydicom.dcmread(path)
    values = apply_rescale(pixel_array(path), head)
    colour = head.SamplesPerPixel == 3
    values = values if head.get("NumberOfFrames", 1) > 1 else values[None]
    return values.transpose(0, 3, 1, 2) if colour else values[:, None]


def dicom_by_simpleitk(path: Path) -> Array:
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[:, None]


def by_astropy(k: int) -> Reference:
    def values(path: Path) -> Array:
        from astropy.io import fits

        return planes(fits.getdata(path, k))

    return values


def by_fitsio(k: int) -> Reference:
    def values(path: Path) -> Array:
        import fitsio

        return planes(fitsio.read(str(path), k))

    return values


def planes(values: Array) -> Array:
    return values[None, None] if values.ndim < 3 else values[:, None] if values.ndim == 3 else values


def by_sunpy(path: Path) -> Array:
    import sunpy.io

    return planes(sunpy.io.read_file(path)[0].data)


def by_scipy(name: str) -> Reference:
    def values(path: Path) -> Array:
        from scipy.io import loadmat

        return matlab(loadmat(path)[name])

    return values


def by_pymatreader(name: str) -> Reference:
    def values(path: Path) -> Array:
        from pymatreader import read_mat

        return np.atleast_2d(read_mat(path)[name])

    return values


def by_mat73(name: str) -> Reference:
    def values(path: Path) -> Array:
        import mat73

        return matlab(np.atleast_2d(mat73.loadmat(str(path))[name]))

    return values


def matlab(values: Array) -> Array:
    """Samples last of three axes and more, as scorefield takes them."""
    if values.ndim < 3:
        return values
    return np.moveaxis(values, -1, 0)[:, None] if values.ndim == 3 else np.moveaxis(values, (-1, -2), (0, 1))


def by_tables(name: str) -> Reference:
    def values(path: Path) -> Array:
        import tables

        with tables.open_file(path) as file:
            return file.get_node(f"/{name}").read()

    return values


def by_xarray(name: str) -> Reference:
    def values(path: Path) -> Array:
        import xarray

        return lattices(xarray.load_dataset(path, decode_times=False)[name].values)

    return values


def by_netcdf4(name: str) -> Reference:
    def values(path: Path) -> Array:
        import netCDF4

        with netCDF4.Dataset(path) as file:
            return lattices(np.ma.filled(file[name][:], np.nan))

    return values


def lattices(values: Array) -> Array:
    return values[:, None] if values.ndim == 3 else values


def by_soundfile(path: Path) -> Array:
    import soundfile

    return soundfile.read(path, dtype="float32", always_2d=True)[0].T[None]


def by_miniaudio(path: Path) -> Array:
    import miniaudio

    made = miniaudio.decode_file(str(path), miniaudio.SampleFormat.SIGNED16, sample_rate=16000)
    return (np.array(made.samples).reshape(-1, made.nchannels).T[None] / 32768).astype("f4")


# writers

GENERATOR = np.random.default_rng(0)
REAL = GENERATOR.normal(size=(6, 5, 4))
WHOLE = GENERATOR.integers(0, 1000, (6, 5, 4)).astype("i2")
WAVE = (20_000 * np.sin(np.arange(9000) / 20 + np.arange(2)[:, None])).astype("i2").T


def nifti_of_simpleitk(path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(WHOLE), str(path))


def dicom_of_simpleitk(path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(WHOLE[:1].astype("u2")), str(path))


def nifti_of_nilearn(path: Path) -> None:
    import nibabel
    from nilearn.image import new_img_like, smooth_img

    image = nibabel.Nifti1Image(REAL.astype("f4"), np.eye(4))
    smooth_img(new_img_like(image, REAL.astype("f4")), 2).to_filename(path)


def fits_of_fitsio(path: Path) -> None:
    import fitsio

    fitsio.write(str(path), WHOLE, compress="rice" if path.suffix == ".fz" else None)


def hdf5_of_tables(path: Path) -> Array:
    import tables

    with tables.open_file(path, "w", filters=tables.Filters(complevel=5, complib="zlib", shuffle=True)) as file:
        file.create_carray("/", "x", obj=REAL)
    return REAL


def hdf5_of_pandas(path: Path) -> Array:
    import pandas

    pandas.DataFrame(REAL[:, 0]).to_hdf(path, key="frame")
    return REAL[:, 0]


def hdf5_of_h5repack(path: Path) -> Array:
    import h5py

    with h5py.File(path.with_suffix(".raw"), "w") as file:
        file["x"] = REAL
    run("h5repack", "-l", "x:CHUNK=2x5x4", "-f", "GZIP=5", str(path.with_suffix(".raw")), str(path))
    return REAL


def mat_of_hdf5storage(path: Path) -> Array:
    import hdf5storage

    hdf5storage.savemat(str(path), {"x": REAL + 1j * REAL}, format="7.3")
    return matlab(REAL + 1j * REAL)


def mat_of_pymatreader(path: Path) -> Array:
    from scipy.io import savemat

    savemat(path, {"x": REAL[:, 0]}, format="4")
    return REAL[:, 0]


def zarr_of_tensorstore(driver: str, **metadata: Any) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        import tensorstore

        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
        made = tensorstore.open(spec, create=True, dtype=tensorstore.float64, shape=REAL.shape).result()
        made.write(REAL).result()
        return REAL

    return write


def zarr_of_xarray(version: int) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        import xarray

        xarray.Dataset({"x": (("n", "h", "w"), REAL)}).to_zarr(path, zarr_format=version)
        return REAL

    return write


def netcdf_of_xarray(path: Path) -> None:
    import xarray

    made = xarray.Dataset({"t2m": (("time", "lat", "lon"), 280 + REAL)})
    made.to_netcdf(path, engine="netcdf4", encoding={"t2m": {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0}})


def netcdf_of_scipy(path: Path) -> Array:
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, side in zip("nhw", REAL.shape, strict=True):
            file.createDimension(name, side)
        file.createVariable("x", "f8", tuple("nhw"))[:] = REAL
    return lattices(REAL)


def netcdf_of_ncgen(kind: str) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        whole = WHOLE[:, 0]
        text = ", ".join(map(str, whole.reshape(-1)))
        path.with_suffix(".cdl").write_text(
            f"netcdf a {{dimensions: n = {len(whole)}; d = {whole.shape[1]};"
            f" variables: float x(n, d); data: x = {text};}}"
        )
        run("ncgen", "-k", kind, "-o", str(path), str(path.with_suffix(".cdl")))
        return whole.astype("f4")

    return write


def bart(*command: str) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        run("bart", *command, str(path.with_suffix("")))
        sides = [int(word) for word in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
        values = np.fromfile(path, "<c8").reshape(sides, order="F")  # as BART's own cfl.py reads it
        return values[:, :, 0, :, 0].reshape(*values.shape[:2], values.shape[3], -1).transpose(3, 2, 0, 1)

    return write


def kspace_of_ismrmrd(path: Path) -> Array:
    import ismrmrd

    kspace = (GENERATOR.normal(size=(2, 3, 5, 6)) + 1j * GENERATOR.normal(size=(2, 3, 5, 6))).astype("c8")
    with ismrmrd.Dataset(str(path), "dataset") as file:
        for number in range(2):
            for line in range(5):
                one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(kspace[number, :, line]))
                one.idx.slice, one.idx.kspace_encode_step_1 = number, line
                file.append_acquisition(one)
    return kspace


def pictures_of_ismrmrd(path: Path) -> Array:
    import ismrmrd

    pictures = REAL.astype("f4")
    with ismrmrd.Dataset(str(path), "dataset") as file:
        for one in pictures:
            file.append_image("image_0", ismrmrd.Image.from_array(one, transpose=False))
    return pictures[:, None, None]


def tensors_of_numpy(path: Path) -> Array:
    from safetensors.numpy import save_file

    save_file({"x": REAL}, path)
    return REAL


def tensors_of_torch(path: Path) -> Array:
    from safetensors.torch import save_file

    save_file({"x": torch.from_numpy(REAL).bfloat16()}, path)
    return torch.from_numpy(REAL).bfloat16().float().numpy()


def torch_of(old: bool) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        torch.save(torch.from_numpy(REAL), path, _use_new_zipfile_serialization=not old)
        return REAL

    return write


def torch_of_lightning(path: Path) -> Array:
    torch.save({"x": torch.from_numpy(REAL), "epoch": 3}, path)
    return REAL


def wav(path: Path) -> Path:
    from scipy.io import wavfile

    wavfile.write(path, 16000, WAVE)
    return path


def sound_of(*command: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        source = wav(Path(tempfile.mkdtemp()) / "a.wav")
        run(*(word.format(source=source, path=path) for word in command))

    return write


def sound_of_soundfile(path: Path) -> Array:
    import soundfile

    soundfile.write(path, WAVE, 16000)
    return (WAVE.T[None] / 32768).astype("f4")


def sound_of_librosa(path: Path) -> None:
    import librosa
    import soundfile

    soundfile.write(path, librosa.chirp(sr=8000, fmin=100, fmax=2000, duration=1), 8000, subtype="PCM_24")


def lists_of(package: str) -> Callable[[Path], Array]:
    def write(path: Path) -> Array:
        rows = REAL[:, 0].tolist()
        if package == "polars":
            import polars

            polars.DataFrame({"x": polars.Series(rows, dtype=polars.Array(polars.Float64, 4))}).write_parquet(path)
        elif package == "duckdb":
            import duckdb

            duckdb.sql(f"copy (select unnest({rows}::double[][]) as x) to '{path}' (format parquet)")
        elif package == "pandas":
            import pandas

            pandas.DataFrame({"x": rows}).to_parquet(path)
        else:
            import datasets

            datasets.disable_progress_bars()
            datasets.Dataset.from_dict({"x": rows}).to_parquet(str(path))
        return REAL[:, 0]

    return write


def pictures_of_datasets(path: Path) -> Array:
    import datasets
    from PIL import Image

    pixels = GENERATOR.integers(0, 256, (4, 6, 5, 3)).astype("u1")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    made = {"image": [Image.fromarray(one) for one in pixels], "label": [0, 1, 1, 0]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(made, features).to_parquet(str(path))
    return pixels.transpose(0, 3, 1, 2)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


SHIPPED = [
    *(
        Case("nibabel", f"tests/data/{name}", by_nibabel, array)
        for name, array in {
            "example4d.nii.gz": None,
            "example_nifti2.nii.gz": None,
            "functional.nii": None,
            "anatomical.nii": "slices",
            "reoriented_anat_moved.nii": "slices",
        }.items()
    ),
    Case("nibabel", "tests/data/0.dcm", by_pydicom),
    Case("nibabel", "nicom/tests/data/decimal_rescale.dcm", by_pydicom),
    *(
        Case("dipy", f"data/files/{name}", by_nibabel)
        for name in ("small_64D.nii", "small_101D.nii.gz", "func_coef.nii.gz")
    ),
    *(
        Case("nilearn", f"datasets/data/{name}", by_simpleitk, "slices")
        for name in ("image_10426.nii.gz", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    ),
    *(
        Case("pydicom", f"data/test_files/{name}.dcm", by_pydicom)
        for name in (
            "CT_small",
            "MR_small",
            "MR_small_RLE",
            "JPEG2000",
            "693_J2KI",
            "SC_rgb_rle_2frame",
            "ExplVR_BigEnd",
        )
    ),
    Case("pydicom", "data/test_files/MR_small_bigendian.dcm", dicom_by_simpleitk),
    Case("pydicom", "data/test_files/CT_small.dcm", dicom_by_simpleitk),
    *(
        Case("astropy", f"io/fits/tests/data/{name}.fits", by_astropy(k))
        for name, k in {"arange": 0, "scale": 0, "comp": 1, "double_ext": 1, "fixed-1890": 0, "checksum": 0}.items()
    ),
    Case("astropy", "io/fits/hdu/compressed/tests/data/m13_rice.fits", by_fitsio(1)),
    Case("astropy", "io/fits/hdu/compressed/tests/data/m13_hcomp.fits", by_fitsio(1)),
    Case("astropy", "nddata/tests/data/sip-wcs.fits", by_fitsio(0)),
    *(
        Case("sunpy", f"data/test/{name}", by_astropy(0))
        for name in ("aia_171_level1.fits", "EIT/efz20040301.000010_s.fits", "gzip_test.fits.gz")
    ),
    Case("fitsio", "test_images/test_gzip_compressed_image.fits.fz", by_fitsio(1)),
    Case("fitsio", "test_images/test_rice_dither2_seed42.fits.fz", by_astropy(1)),
    *(
        Case("scipy", f"io/matlab/tests/data/{name}.mat", by_scipy(array), array)
        for name, array in {
            "testcomplex_7.4_GLNX86": "testcomplex",
            "testcomplex_4.2c_SOL2": "testcomplex",
            "test3dmatrix_7.1_GLNX86": "test3dmatrix",
            "testmatrix_6.1_SOL2": "testmatrix",
            "big_endian": "floats",
        }.items()
    ),
    Case("scipy", "io/matlab/tests/data/testhdf5_7.4_GLNX86.mat", by_mat73("testdouble")),
    Case("scipy", "io/tests/data/example_1.nc", by_netcdf4("rh"), "rh"),
    *(
        Case("tables", f"tests/{name}.h5", by_tables(array), array)
        for name, array in {
            "smpl_f64be": "TestArray",
            "smpl_i32be": "TestArray",
            "smpl_SDSextendible": "ExtendibleArray",
            "test_szip": "dset_szip",
            "ex-noattr": "columns/TDC",
        }.items()
    ),
    Case("mne", "data/extinction_coef.mat", by_pymatreader("extinct_coef")),
    Case("xarray", "tests/data/bears.nc", by_netcdf4("order"), "order"),
]

WRITTEN = [
    Case("SimpleITK", "a.nii.gz", by_nibabel, "slices", nifti_of_simpleitk),
    Case("SimpleITK", "a.nii", by_simpleitk, "slices", nifti_of_simpleitk),
    Case("SimpleITK", "a.dcm", by_pydicom, "pictures", dicom_of_simpleitk),
    Case("nilearn", "a.nii.gz", by_simpleitk, "slices", nifti_of_nilearn),
    Case("fitsio", "a.fits", by_astropy(0), None, fits_of_fitsio),
    Case("fitsio", "a.fits.fz", by_astropy(1), None, fits_of_fitsio),
    Case("tables", "a.h5", write=hdf5_of_tables),
    Case("pandas", "a.h5", array="frame/block0_values", write=hdf5_of_pandas),
    Case("h5repack", "a.h5", write=hdf5_of_h5repack),
    Case("hdf5storage", "a.mat", write=mat_of_hdf5storage),
    Case("scipy", "a.mat", write=mat_of_pymatreader),
    Case("tensorstore", "a.zarr", write=zarr_of_tensorstore("zarr3")),
    Case(
        "tensorstore",
        "b.zarr",
        write=zarr_of_tensorstore("zarr", chunks=[2, 5, 4], compressor={"id": "zlib", "level": 3}),
    ),
    Case("xarray", "a.zarr", write=zarr_of_xarray(2)),
    Case("xarray", "b.zarr", write=zarr_of_xarray(3)),
    Case("xarray", "a.nc", by_netcdf4("t2m"), None, netcdf_of_xarray),
    Case("scipy", "a.nc", write=netcdf_of_scipy),
    Case("ncgen", "a.nc", write=netcdf_of_ncgen("nc3")),
    Case("ncgen", "b.nc", write=netcdf_of_ncgen("nc4")),
    Case("bart", "a.cfl", write=bart("phantom", "-x", "32", "-s", "4", "-k")),
    Case("bart", "b.cfl", write=bart("phantom", "-x", "16", "-m")),
    Case("ismrmrd", "a.h5", array="dataset/data", write=kspace_of_ismrmrd),
    Case("ismrmrd", "b.mrd", array="dataset/image_0/data", write=pictures_of_ismrmrd),
    Case("safetensors", "a.safetensors", write=tensors_of_numpy),
    Case("torch", "a.safetensors", write=tensors_of_torch),
    Case("torch", "a.pt", write=torch_of(False)),
    Case("torch", "b.pt", write=torch_of(True)),
    Case("torch", "c.pt", write=torch_of_lightning),
    Case("flac", "a.flac", by_miniaudio, None, sound_of("flac", "-s", "-f", "-o", "{path}", "{source}")),
    Case("soundfile", "a.flac", write=sound_of_soundfile),
    Case("librosa", "a.flac", by_soundfile, None, sound_of_librosa),
    Case("oggenc", "a.ogg", by_soundfile, None, sound_of("oggenc", "-Q", "-o", "{path}", "{source}")),
    Case("opusenc", "a.opus", by_soundfile, None, sound_of("opusenc", "--quiet", "{source}", "{path}")),
    Case("datasets", "a.parquet", write=pictures_of_datasets),
    *(
        Case(package, "lists.parquet", write=lists_of(package))
        for package in ("datasets", "polars", "duckdb", "pandas")
    ),
]


def there(package: str) -> str:
    """The version of a package or a program, empty if it is not at hand."""
    if shutil.which(package):
        return "program"
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def found(path: Path, array: str | None) -> tuple[Array, str]:
    """All values, complex again where the file's are, and what was said of them."""
    if path.suffix in (".flac", ".ogg", ".opus"):
        import soundfile

        data = read(path.parent, audio=Audio(soundfile.info(path).frames))
    else:
        data = read(path, array=array)
    values = data.rows(torch.arange(len(data))).x.numpy()
    return (values[:, 0::2] + 1j * values[:, 1::2] if "complex" in str(data.found) else values), str(data.found)


def compare(case: Case, path: Path, written: Array | None) -> tuple[str, str]:
    """What was read, and whether that is what the reference gives."""
    wanted = case.reference(path) if case.reference else written
    assert wanted is not None
    values, said = found(path, case.array)
    alike = values.size == wanted.size and np.array_equal(values.reshape(wanted.shape), wanted)
    return said.partition(";")[0], "equal" if alike else f"NOT EQUAL: {values.shape} {wanted.shape}"


def main() -> None:
    warnings.simplefilter("ignore")
    wrong = 0
    for title, cases in (("shipped by packages", SHIPPED), ("written by other tools", WRITTEN)):
        print(f"\n| {title} | file | read as | beside the reference |\n|---|---|---|---|")
        used, count = set[str](), 0
        for case in cases:
            if not (version := there(case.package)):
                print(f"{case.package} is not here: {case.file} is left out", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory() as folder:
                if case.write:
                    path, written = Path(folder) / case.file, case.write(Path(folder) / case.file)
                else:
                    spec = importlib.util.find_spec(case.package)
                    assert spec and spec.origin
                    path, written = Path(spec.origin).parent / case.file, None
                try:
                    said, verdict = compare(case, path, written)
                except Exception as error:
                    said, verdict = "", f"NOT READ: {type(error).__name__}: {error}"
            wrong += verdict != "equal"
            used.add(case.package)
            count += 1
            print(f"| {case.package} {version} | {Path(case.file).name} | {said} | {verdict} |", flush=True)
        print(f"\n{count} files of {len(used)} packages.")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
