"""Reading users' data: what comes back is what was written, and what cannot be read is refused or skipped by name."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.limits import memory_left
from PIL import Image
from scipy.io import wavfile

from scorefield.data import Alpha, ArrayDataset, Audio, Broken, Colour, Fit, Images, Stored, Subset, Table, read, stored
from scorefield.data.dataset import choice, some_rows
from scorefield.data.images import FORMATS

GENERATOR = np.random.default_rng(0)


def every(data):
    return data.rows(torch.arange(len(data)))


def noise(*shape):
    return GENERATOR.integers(0, 256, shape).astype("u1")


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def tree(folder, count=3):
    """A folder of colour pictures in two classes, and what they hold."""
    pictures = {f"{kind}/{k}.png": noise(6, 4, 3) for kind in ("cat", "dog") for k in range(count)}
    for name, values in pictures.items():
        write_png(folder / name, values)
    return np.stack(list(pictures.values())).transpose(0, 3, 1, 2)


def archive(path, folder):
    """The folder's files in an archive."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as target:
            for file in files:
                target.write(file, f"top/{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as target:
            for file in files:
                target.add(file, f"top/{file.relative_to(folder)}")
    return path


# pictures


@pytest.mark.parametrize("kind", ["folder", "a.zip", "a.tar", "a.tar.gz"])
def test_pictures_of_a_folder_or_archive_with_folders_as_classes(kind, tmp_path):
    values = tree(tmp_path / "data")
    path = tmp_path / "data" if kind == "folder" else archive(tmp_path / kind, tmp_path / "data")
    data = read(path)
    rows = every(data)
    assert np.array_equal(rows.x.numpy(), values) and (data.levels, data.classes) == (256, 2)
    assert rows.cond["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert not read(path, images=Images(labels=False)).classes
    assert len(read(path, limit=2)) == 2 and read(path, limit=2).classes == 2


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.gif"])
def test_formats_that_lose_nothing(name, tmp_path):
    values = noise(5, 7)
    Image.fromarray(values).save(tmp_path / name)
    assert np.array_equal(every(read(tmp_path)).x[0, 0].numpy(), values)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_formats_that_lose_a_little(name, tmp_path):
    values = np.full((16, 16, 3), (200, 100, 50), "u1")
    Image.fromarray(values).save(tmp_path / name)
    assert np.abs(every(read(tmp_path)).x[0].numpy().transpose(1, 2, 0).astype(int) - values).max() <= 4


def test_sizes_are_cropped_padded_or_stretched(tmp_path):
    wide = np.zeros((10, 30), "u1")
    wide[:, 10:20] = 255
    write_png(tmp_path / "wide.png", wide)
    crop, pad, stretch = (
        every(read(tmp_path, images=Images(size=(10, 10), fit=fit))).x[0, 0] for fit in (Fit.crop, Fit.pad, Fit.stretch)
    )
    assert bool((crop == 255).all())
    assert bool((pad[:3] == 0).all()) and bool((pad[7:] == 0).all()) and bool((pad[4:6, 4:6] == 255).all())
    assert float(stretch.float().mean()) == pytest.approx(85, abs=3)
    assert every(read(tmp_path, images=Images(size=8))).x.shape == (1, 1, 8, 8)


def test_colours_are_as_asked(tmp_path):
    write_png(tmp_path / "a.png", np.full((4, 4, 3), (255, 0, 0), "u1"))
    write_png(tmp_path / "b.png", np.full((4, 4), 200, "u1"))
    assert every(read(tmp_path, images=Images(colour=Colour.rgb))).x[:, :, 0, 0].tolist() == [[255, 0, 0], [200] * 3]
    assert every(read(tmp_path, images=Images(colour=Colour.grey))).x[:, :, 0, 0].tolist() == [[76], [200]]


def test_transparency_is_laid_on_a_colour(tmp_path):
    write_png(tmp_path / "a.png", np.full((2, 2, 4), (10, 20, 30, 0), "u1"))
    assert every(read(tmp_path, images=Images(alpha=Alpha.white))).x.unique().tolist() == [255]
    assert every(read(tmp_path, images=Images(alpha=Alpha.black))).x.unique().tolist() == [0]


def test_a_camera_s_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    values = noise(4, 6)
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(every(read(tmp_path)).x[0, 0].numpy(), np.rot90(values, -1))


# other formats


def idx(values, code=8):
    head = bytes([0, 0, code, values.ndim]) + b"".join(struct.pack(">I", side) for side in values.shape)
    return head + values.astype({8: "u1", 13: ">f4"}[code]).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_with_their_labels(packed, tmp_path):
    images, label = noise(5, 4, 3), np.array([3, 0, 1, 2, 1])
    for part, shift in (("train", 0), ("t10k", 1)):
        for name, content in (
            (f"{part}-images-idx3-ubyte", idx(images + shift)),
            (f"{part}-labels-idx1-ubyte", idx(label)),
        ):
            target = tmp_path / (name + ".gz" * packed)
            target.write_bytes(gzip.compress(content) if packed else content)
    data = read(tmp_path)
    assert np.array_equal(every(data).x[:, 0].numpy(), images) and data.levels == 256
    assert every(data).cond["label"].tolist() == label.tolist()
    test = read(tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed), limit=2)
    assert np.array_equal(every(test).x[:, 0].numpy(), (images + 1)[:2]) and test.classes == 4


def test_idx_of_real_numbers(tmp_path):
    values = GENERATOR.normal(size=(6, 5)).astype("f4")
    (tmp_path / "vectors.idx").write_bytes(idx(values, 13))
    data = read(tmp_path / "vectors.idx")
    assert np.array_equal(every(data).x.numpy(), values) and data.levels is None


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_in_a_file_a_folder_and_an_archive(labels, tmp_path):
    images, label = noise(6, 3, 32, 32), np.array([1, 0, 2, 1, 0, 2], "u1")
    records = [bytes([7] * (labels - 1) + [k]) + x.tobytes() for k, x in zip(label, images, strict=True)]
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(b"".join(records[:4]))
    (folder / "data_batch_2.bin").write_bytes(b"".join(records[4:]))
    (folder / "test_batch.bin").write_bytes(records[2])
    for path in (folder, archive(tmp_path / "cifar-10-binary.tar.gz", folder)):
        assert np.array_equal(every(read(path)).x.numpy(), images)
        assert every(read(path)).cond["label"].tolist() == label.tolist()
    assert np.array_equal(every(read(folder / "test_batch.bin")).x.numpy(), images[2:3])


TABLE = "name,x,y,kind\na,1,2.5,cat\nb,3,-4e2,dog\nc,5,6,cat\n"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables_with_named_columns(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        names, *rows = csv.reader(io.StringIO(TABLE))
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        numbers = {name: [float(v) for v in columns[name]] for name in "xy"}
        pq.write_table(pa.table({**columns, **numbers}), path)
    else:
        path.write_text(TABLE if kind == "csv" else TABLE.replace(",", "\t"))
    data = read(path, table=Table(columns=["y", "x"], label="kind"))
    assert every(data).x.tolist() == [[2.5, 1], [-400, 3], [6, 5]] and data.levels is None
    assert every(data).cond["label"].tolist() == [0, 1, 0]
    data = read(path, table=Table(columns=["x"], cond=["y"]))
    assert every(data).x.tolist() == [[1], [3], [5]] and every(data).cond["cond"].tolist() == [[2.5], [-400], [6]]


def test_recordings_are_cut_into_pieces(tmp_path):
    wave = (20_000 * np.sin(np.arange(1000) / 20)).astype("i2")
    for name in ("low/a.wav", "high/b.wav"):
        (tmp_path / name).parent.mkdir()
        wavfile.write(tmp_path / name, 8000, wave)
    data = read(tmp_path, audio=Audio(length=300))
    rows = every(data)
    assert rows.x.shape == (6, 1, 300) and rows.cond["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.allclose(rows.x[1, 0].numpy(), wave[300:600] / 32768, atol=1e-7)
    wavfile.write(tmp_path / "low" / "a.wav", 8000, np.stack([wave, -wave], 1).astype("f4") / 32768)
    wavfile.write(tmp_path / "high" / "b.wav", 8000, np.stack([wave, -wave], 1).astype("f4") / 32768)
    assert torch.equal(every(read(tmp_path, audio=Audio(length=300))).x[:, 0], rows.x[:, 0])


@pytest.mark.parametrize("part", ["", "train"])
def test_data_sets_of_hugging_face(part, tmp_path):
    import datasets

    pictures, label = [Image.fromarray(noise(4, 4, 3)) for _ in range(3)], [1, 0, 1]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    made = datasets.Dataset.from_dict({"image": pictures, "label": label}, features)
    (made if not part else datasets.DatasetDict({"train": made})).save_to_disk(tmp_path / "data")
    data = read(tmp_path / "data")
    assert np.array_equal(every(data).x.numpy(), np.stack([np.asarray(p).transpose(2, 0, 1) for p in pictures]))
    assert every(data).cond["label"].tolist() == label and (data.levels, data.classes) == (256, 2)
    datasets.Dataset.from_dict({"v": [[1.0, 2.0], [3.0, 4.0]]}).save_to_disk(tmp_path / "vectors")
    assert every(read(tmp_path / "vectors")).x.tolist() == [[1, 2], [3, 4]]


# more than fits into memory


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(stored, "IN_MEMORY", 100)
    monkeypatch.setattr("scorefield.data.arrays.IN_MEMORY", 100)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", ">f4"])
def test_large_arrays_stay_in_their_file(dtype, little_memory, tmp_path):
    values = GENERATOR.integers(0, 200, (50, 2, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    data = read(tmp_path / "x.npy")
    assert isinstance(data.x, Stored)
    index = torch.tensor([7, 0, 49, 7])
    assert np.array_equal(data.rows(index).x.numpy(), values[index.numpy()])
    assert data.event_shape == (2, 3) and data.levels == (256 if dtype == "u1" else None)


def test_levels_of_large_arrays_are_checked_when_rows_are_read(little_memory, tmp_path):
    np.save(tmp_path / "x.npy", np.tile(np.arange(17, dtype="u1"), (50, 1)))
    assert read(tmp_path / "x.npy", levels=17).rows(torch.arange(50)).x.max() == 16
    for values, levels in ((np.tile(np.arange(17, dtype="u1"), (50, 1)), 16), (np.ones((50, 3), "f4"), 17)):
        np.save(tmp_path / "y.npy", values)
        with pytest.raises(ValueError, match=f"y.npy must hold integers from 0 to {levels - 1}; got torch"):
            read(tmp_path / "y.npy", levels=levels).rows(torch.arange(50))


def test_much_that_is_gathered_goes_to_a_file(little_memory, tmp_path):
    values = tree(tmp_path / "data", count=5)
    data = read(tmp_path / "data", folder=tmp_path)
    assert isinstance(data.x, Stored)
    assert np.array_equal(every(data).x.numpy(), values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]  # the file has no name


def test_numbers_in_a_file_are_checked_when_they_are_read(little_memory, tmp_path):
    values = np.ones((50, 3), "f4")
    values[20, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    data = read(tmp_path / "x.npy")
    assert bool((data.rows(torch.arange(20)).x == 1).all())
    with pytest.raises(ValueError, match=r"x.npy holds 1 values that are NaN"):
        data.rows(torch.tensor([3, 20]))


def kept_in_a_file(tmp_path):
    values = GENERATOR.normal(size=(50, 3))
    np.save(tmp_path / "x.npy", values)
    os.utime(tmp_path / "x.npy", ns=(10**18, 10**18))  # long ago: clocks of files have ticks of milliseconds
    return values, read(tmp_path / "x.npy")


def test_a_pickled_data_set_opens_its_file_again(little_memory, tmp_path):
    """Mutant: a pickle has the number of an open file, which in another process is another file."""
    values, data = kept_in_a_file(tmp_path)
    np.save(tmp_path / "y.npy", values + 1)
    program = "import pickle, sys, torch; print(pickle.load(sys.stdin.buffer).rows(torch.tensor([7, 0])).x.tolist())"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(data), capture_output=True, cwd="/")
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert json.loads(done.stdout) == values[[7, 0]].tolist()
    again = pickle.loads(pickle.dumps(data))
    del data
    assert np.array_equal(every(again).x.numpy(), values)


@pytest.mark.parametrize("kind", ["named", "temporary"])
def test_copies_in_one_process_share_the_open_file(kind, little_memory, tmp_path):
    """Mutant: the copy's number of the file is closed with the original, and then that of another file."""
    values, data = kept_in_a_file(tmp_path)
    if kind == "temporary":
        values = tree(tmp_path / "pictures", count=5)
        data = read(tmp_path / "pictures")
    assert isinstance(data.x, Stored)
    for made in (copy.copy, copy.deepcopy, lambda x: copy.deepcopy(Subset(x, torch.arange(5))).data):
        data = made(data)
        others = [(tmp_path / "x.npy").open("rb") for _ in range(3)]
        assert np.array_equal(every(data).x.numpy(), values)
        for file in others:
            file.close()


CHANGES = {
    "written anew": lambda file: np.save(file, np.zeros((50, 3))),
    "another of its size": lambda file: (
        np.save(file.with_name("z.npy"), np.zeros((50, 3))) or file.with_name("z.npy").replace(file)
    ),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "a byte": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_has_changed_is_not_read_as_the_one_it_was(change, little_memory, tmp_path):
    """Mutants: the identity lacks the time, the inode or the size."""
    values, data = kept_in_a_file(tmp_path)
    pickled, before = pickle.dumps(data), (tmp_path / "x.npy").stat()
    CHANGES[change](tmp_path / "x.npy")
    if (tmp_path / "x.npy").stat().st_ino != before.st_ino:
        assert np.array_equal(every(data).x.numpy(), values)  # which is still open
    else:
        with pytest.raises(ValueError, match=r"x.npy is not the file that the data were read from, or has"):
            every(data)
    with pytest.raises(ValueError, match=r"x.npy is not the file .* read the data again"):
        pickle.loads(pickled)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.npy"):
        pickle.loads(pickled)


def test_what_was_gathered_into_a_file_without_a_name_is_not_pickled(little_memory, tmp_path):
    tree(tmp_path / "data", count=5)
    with pytest.raises(TypeError, match=r"temporary file.* or save them as one .npy file"):
        pickle.dumps(read(tmp_path / "data"))


# bad input


def saved(name, content):
    def write(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return write


def png(values=None, **options):
    file = io.BytesIO()
    Image.fromarray(noise(8, 8) if values is None else values).save(file, "PNG", **options)
    return file.getvalue()


def wav(values, rate=8000):
    file = io.BytesIO()
    wavfile.write(file, rate, values)
    return file.getvalue()


def io_of(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def pictures_of(*contents, suffix="png"):
    def write(folder):
        for k, content in enumerate(contents):
            (folder / "data").mkdir(exist_ok=True)
            (folder / "data" / f"{k}.{suffix}").write_bytes(content)
        return folder / "data"

    return write


def bomb(width=60_000, height=60_000):
    """A PNG whose head claims more pixels than it has."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", __import__("zlib").crc32(bytes(data[12:29])))
    return bytes(data)


def zip_of(**members):
    def write(folder):
        with zipfile.ZipFile(folder / "a.zip", "w") as target:
            for name, content in members.items():
                target.writestr(name, content)
        return folder / "a.zip"

    return write


def cut(content, keep):
    return content[: int(len(content) * keep)]


def twins(folder, kind, first, second, stem="a"):
    """An archive with two members of one name."""
    with warnings.catch_warnings(), (folder / f"{stem}.{kind}").open("wb") as file:
        warnings.simplefilter("ignore")  # of zipfile
        if kind == "zip":
            with zipfile.ZipFile(file, "w") as target:
                for name in (first, second):
                    target.writestr(name, png())
        else:
            with tarfile.open(fileobj=file, mode="w") as tape:
                for name in (first, second):
                    info = tarfile.TarInfo(name)
                    info.size = len(png())
                    tape.addfile(info, io.BytesIO(png()))
    return folder / f"{stem}.{kind}"


def parquet_of(folder, columns, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), folder / "a.parquet", **options)
    return folder / "a.parquet"


def spoilt_parquet(folder, change):
    path = parquet_of(folder, {"x": np.arange(50.0)}, write_page_checksum=True, use_dictionary=False)
    path.write_bytes(change(path.read_bytes()))
    return path


def cut_tar(folder):
    tree(folder / "data")
    path = archive(folder / "a.tar", folder / "data")
    path.write_bytes(cut(path.read_bytes(), 0.35))
    return path


RAMP = (np.arange(100) * 300).astype("i2")
BAD = {
    "nothing": (lambda folder: folder / "none", {}, "none: no such file"),
    "unknown kind": (saved("a.docx", "x"), {}, "a.docx: of no known kind"),
    "empty folder": (lambda folder: folder, {}, "neither pictures"),
    "only hidden": (lambda f: saved(".git/a.png", png())(f).parents[1], {}, "holds neither pictures"),
    "pictures and sounds": (
        lambda f: (pictures_of(png())(f), pictures_of(wav(RAMP), suffix="wav")(f))[0],
        {},
        "separate",
    ),
    # pictures
    "text as picture": (pictures_of(b"hello"), {}, r"0.png: cannot be read \(it is no picture.*PNG, JPEG.*\): repair"),
    "empty picture": (pictures_of(b""), {}, r"0.png: cannot be read"),
    "truncated picture": (pictures_of(png(), cut(png(), 0.5)), {}, r"1.png: cannot be read"),
    "flipped picture": (pictures_of(png()[:40] + b"\xff" * 8 + png()[48:]), {}, r"0.png: cannot be read"),
    "bomb": (pictures_of(bomb()), {}, r"0.png: cannot be read.*60000"),
    "tall": (pictures_of(bomb(8, 9_000_000)), {}, r"0.png: cannot be read .*claims 8 x 9000000 pixels in \d+ bytes"),
    "other sizes": (pictures_of(png(noise(8, 8)), png(noise(8, 9))), {}, r"1.png: has 8 x 9.*give a size"),
    "grey, then colour": (pictures_of(png(), png(noise(8, 8, 3))), {}, r"1.png: is in colour.*colour"),
    "colour, then grey": (pictures_of(png(noise(8, 8, 3)), png()), {}, r"1.png: is grey.*colour"),
    "transparent": (pictures_of(png(noise(8, 8, 4))), {}, r"0.png: is transparent.*alpha"),
    "grey and transparent": (pictures_of(png(noise(8, 8, 2))), {}, r"0.png: is transparent.*alpha"),
    "8, then 16 bits": (
        pictures_of(png(), png(np.arange(64).reshape(8, 8).astype("u2"))),
        {},
        r"1.png: is grey, 16 bits where the first is grey, 8 bits: convert",
    ),
    "a vector drawing": (pictures_of(b"<svg/>", suffix="svg"), {}, "neither pictures"),
    "PostScript as PNG": (
        pictures_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        {},
        r"0.png: cannot be read",
    ),
    "a size of 0": (pictures_of(png()), {"images": lambda: Images(size=0)}, "at least 1; got 0"),
    # archives
    "no zip": (saved("a.zip", b"hello"), {}, "a.zip: cannot be read.*not a zip"),
    "zip: two of one name": (
        lambda f: twins(f, "zip", "a.png", "a.png"),
        {},
        r"a.zip: .*two members of the name 'a.png'",
    ),
    "zip: two ways to say a name": (
        lambda f: twins(f, "zip", "a.png", "./a.png"),
        {},
        "two members of the name 'a.png'",
    ),
    "tar: two of one name": (lambda f: twins(f, "tar", "b/a.png", "b/a.png"), {}, "a.tar: .*two members of the name"),
    "CIFAR: two of one name": (lambda f: twins(f, "zip", "a.bin", "a.bin", "cifar-10-x"), {}, "x.zip: .*two members"),
    "no tar": (saved("a.tar.gz", b"hello"), {}, "a.tar.gz: cannot be read"),
    "empty zip": (zip_of(), {}, "neither pictures"),
    "zip of text": (zip_of(**{"a.txt": "x"}), {}, "neither pictures"),
    "cut tar": (lambda folder: cut_tar(folder), {}, "a.tar: cannot be read"),
    "zip's member changed": (
        lambda f: saved("a.zip", zip_of(**{"a.png": png()})(f).read_bytes().replace(b"IDAT", b"IDAX"))(f),
        {},
        "a.zip: a.png: cannot be read.*CRC",
    ),
    "broken in zip": (zip_of(**{"a.png": png(), "b.png": cut(png(), 0.4)}), {}, r"a.zip: b.png: cannot be read"),
    # IDX
    "IDX: text": (saved("x-images-idx3-ubyte", "hello"), {}, "idx3-ubyte: cannot be read as IDX"),
    "IDX: cut": (saved("x-images-idx3-ubyte", idx(noise(5, 4, 4))[:-3]), {}, r"holds 77 bytes.*claims 80"),
    "IDX: longer": (saved("x-images-idx3-ubyte", idx(noise(5, 4, 4)) + b"x"), {}, "claims 80"),
    "IDX: huge": (saved("x-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12), {}, "claims the shape"),
    "IDX: no gzip": (saved("x-images-idx3-ubyte.gz", idx(noise(5, 4, 4))), {}, "gz: cannot be read as IDX"),
    "IDX: cut gzip": (saved("x-images-idx3-ubyte.gz", gzip.compress(idx(noise(50, 4, 4)))[:-20]), {}, "cannot be read"),
    "IDX: other labels": (
        lambda f: (
            saved("x-labels-idx1-ubyte", idx(noise(4)))(f),
            saved("x-images-idx3-ubyte", idx(noise(5, 4, 4)))(f),
        )[1],
        {},
        "5 images but labels",
    ),
    # CIFAR
    "CIFAR as pickles": (saved("cifar-10-python.tar.gz", pickle.dumps({"data": 1})), {}, "pickles.*binary"),
    "CIFAR as a folder of pickles": (lambda f: saved("data_batch_1", pickle.dumps(1))(f).parent, {}, "pickles.*binary"),
    "CIFAR: zip's member changed": (
        lambda f: saved(
            "cifar-10-binary.zip", zip_of(**{"data_batch_1.bin": b"x" * 3073})(f).read_bytes().replace(b"xxx", b"yyy")
        )(f),
        {},
        "cifar-10-binary.zip: cannot be read.*CRC",
    ),
    "CIFAR: cut": (saved("data_batch_1.bin", b"x" * 3000), {}, "data_batch_1.bin: 3000 bytes are no multiple"),
    "CIFAR: empty": (saved("data_batch_1.bin", b""), {}, "0 bytes are no multiple"),
    # tables
    "CSV: empty": (saved("a.csv", ""), {}, "a.csv: the first line must name"),
    "CSV: no names": (saved("a.csv", "1,2\n3,4\n"), {}, "a.csv: the first line must name"),
    "CSV: no rows": (saved("a.csv", "x,y\n"), {}, "a.csv is empty"),
    "CSV: words": (saved("a.csv", TABLE), {}, "line 2: column name holds 'a'.*choose the columns"),
    "CSV: digits of another script": (
        saved("a.csv", "x,y\n1,2\n3,٤\n"),
        {},
        "line 3: column y holds '٤', not a number",
    ),
    "CSV: full-width digits": (saved("a.csv", "x,y\n１,2\n"), {}, "line 2: column x holds '１', not a number"),
    "CSV: underscores": (saved("a.csv", "x,y\n1,1_000\n"), {}, "line 2: column y holds '1_000', not a number"),
    "CSV: a condition's digits": (
        saved("a.csv", "x,y\n1,२\n"),
        {"table": lambda: Table(cond=["y"])},
        "line 2: column y holds '२', not a number",
    ),
    "CSV: NaN": (saved("a.csv", "x,y\n1,2\n3,nan\n"), {}, "line 3: column y holds 'nan'"),
    "CSV: a field less": (saved("a.csv", "x,y\n1,2\n3\n"), {}, "line 3 has 1 fields for 2"),
    "CSV: a field more": (saved("a.csv", "x,y\n1,2\n3,4,5\n"), {}, "line 3 has 3 fields for 2"),
    "CSV: a name twice": (saved("a.csv", "x,x\n1,2\n"), {}, "a.csv: a column is named twice"),
    "CSV: no such column": (
        saved("a.csv", TABLE),
        {"table": lambda: Table(columns=["z"])},
        "no column z; it has name, x",
    ),
    "CSV: nothing left": (saved("a.csv", "x\n1\n"), {"table": lambda: Table(cond=["x"])}, "no column is left"),
    "CSV: huge field": (saved("a.csv", "x,y\n" + "1" * 200_000 + ",2\n"), {}, "a.csv: cannot be read as text"),
    "CSV: Latin-1": (saved("a.csv", "größe,y\n1,2\n".encode("latin-1")), {}, "a.csv: cannot be read as text.*UTF-8"),
    "Parquet: text": (saved("a.parquet", "hello"), {}, "a.parquet: cannot be read as Parquet"),
    "Parquet: cut": (lambda f: spoilt_parquet(f, lambda c: c[:-20]), {}, "a.parquet: cannot be read as Parquet"),
    "Parquet: its head": (
        lambda f: spoilt_parquet(f, lambda c: c[: -8 - int.from_bytes(c[-8:-4], "little")] + b"\xff" * 300 + c[-8:]),
        {},
        "a.parquet: cannot be read as Parquet",
    ),
    "Parquet: a page": (
        lambda f: spoilt_parquet(f, lambda c: c[:60] + bytes([c[60] ^ 1]) + c[61:]),
        {},
        "a.parquet: cannot be read as Parquet",
    ),
    "Parquet: words": (lambda f: parquet_of(f, {"x": ["a", "b"]}), {}, "column x holds .*string, not numbers"),
    "Parquet: nothing in a row": (lambda f: parquet_of(f, {"x": [1.0, None]}), {}, "column x has empty or infinite"),
    "Parquet: no rows": (lambda f: parquet_of(f, {"x": np.empty(0)}), {}, "a.parquet is empty"),
    # sounds
    "WAV: text": (pictures_of(b"hello", suffix="wav"), {}, r"0.wav: cannot be read"),
    "WAV: cut": (pictures_of(wav(RAMP)[:-30], suffix="wav"), {"audio": lambda: Audio(10)}, r"0.wav: cannot be read"),
    "WAV: other rates": (
        pictures_of(wav(RAMP), wav(RAMP, 44100), suffix="wav"),
        {"audio": lambda: Audio(10)},
        r"1.wav has 44100 Hz.*8000",
    ),
    "WAV: too short": (pictures_of(wav(RAMP), suffix="wav"), {"audio": lambda: Audio(200)}, "shorter than the length"),
    "WAV: NaN": (pictures_of(wav(np.full(99, np.nan, "f4")), suffix="wav"), {"audio": lambda: Audio(9)}, "0.wav.*NaN"),
    "WAV: length 0": (pictures_of(wav(RAMP), suffix="wav"), {"audio": lambda: Audio(0)}, "at least 1; got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_by_name(name, tmp_path):
    write, options, message = BAD[name]
    path = write(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read(path, **{key: make() for key, make in options.items()})
    assert "\n" not in str(caught.value)


def test_broken_files_are_skipped_and_named_if_asked(tmp_path):
    values = noise(8, 8)
    path = pictures_of(png(values), cut(png(), 0.5), b"hello", png(255 - values))(tmp_path)
    with pytest.warns(UserWarning) as caught:
        data = read(path, broken=Broken.skip)
    assert np.array_equal(every(data).x[:, 0].numpy(), np.stack([values, 255 - values]))
    assert [("1.png" in str(w.message), "2.png" in str(w.message)) for w in caught] == [(True, False), (False, True)]


def test_nothing_is_written_where_an_archive_says(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.zip", "w") as target:
        for name in ("../../evil.png", "/etc/evil.png", "ok/a.png", "./b.png"):
            target.writestr(name, png())
    with tarfile.open(inside / "a.tar", "w") as tape:
        for name, kind in (("../evil.png", tarfile.REGTYPE), ("link.png", tarfile.SYMTYPE), ("a.png", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", len(png()) * (kind == tarfile.REGTYPE)
            tape.addfile(info, io.BytesIO(png()))
    assert len(read(inside / "a.zip")) == 4
    assert len(read(inside / "a.tar")) == 2  # without the link
    assert {p.name for p in tmp_path.rglob("*")} == {"inside", "a.zip", "a.tar"}
    assert not [path for folder in (tmp_path.parent, Path.cwd()) for path in folder.glob("*evil*")]
    assert not Path("/etc/evil.png").exists()


def test_a_large_member_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("scorefield.data.members.LARGEST", 50)
    with pytest.raises(ValueError, match=r"a.zip: a.png: .*more than"):
        read(zip_of(**{"a.png": png()})(tmp_path))


def test_no_warning_for_sound_data(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(pictures_of(png())(tmp_path))


def test_classes_keep_their_names_and_integers_their_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,kind\n" + "".join(f"{k},{k}\n" for k in (10, 2, 0, 11, 2)))
    data = read(path, table=Table(label="kind"))
    assert data.class_names == ("0", "2", "10", "11")
    assert every(data).cond["label"].tolist() == [2, 1, 0, 3, 1]
    assert len(read(path, table=Table(label="kind"), limit=3)) == 3
    tree(tmp_path / "pictures", count=4)
    folders = tuple(sorted(p.name for p in (tmp_path / "pictures").iterdir()))
    assert read(tmp_path / "pictures").class_names == folders


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_without_a_class_are_refused(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_text("x,kind\n1,a\n2,\n")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"x": [1.0, 2.0], "kind": ["a", None]}), path)
    with pytest.raises(ValueError, match=r"a\.\w+.*a row has no class"):
        read(path, table=Table(label="kind"))


def test_recordings_of_8_bits_are_scaled_to_one(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.array([0, 64, 128, 192, 255] * 10, "u1"))
    x = every(read(tmp_path, audio=Audio(length=5))).x
    assert np.allclose(x[3, 0].numpy(), [-1, -0.5, 0, 0.5, 127 / 128])


def test_rows_are_spread_over_the_whole_data_set():
    rows = some_rows(ArrayDataset(torch.arange(1000.0)), 100)
    assert len(rows) == 100 and torch.equal(rows, rows.unique()) and 380 < float(rows.mean()) < 620
    assert choice(5, 9).tolist() == [0, 1, 2, 3, 4] and not torch.equal(choice(99, 9, 0), choice(99, 9, 1))
    assert len((choice(1000, 100) % 10).unique()) > 5  # rows at equal distances would be of one class in ten


def test_no_link_is_followed_out_of_the_folder(tmp_path):
    """To a folder, to a file, out of it by .. and by an absolute path; the path itself may be a link."""
    values = tree(tmp_path / "data", count=4)
    tree(tmp_path / "elsewhere")
    for name, target in (("fox", tmp_path / "elsewhere" / "cat"), ("eel", Path("..") / "elsewhere" / "dog")):
        (tmp_path / "data" / name).symlink_to(target)
    (tmp_path / "data" / "cat" / "z.png").symlink_to(tmp_path / "elsewhere" / "cat" / "0.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.warns(UserWarning, match="3 links that lead out of it are not followed"):
        data = read(tmp_path / "link")
    assert np.array_equal(every(data).x.numpy(), values) and data.class_names == ("cat", "dog")
    assert "left: 3 links that lead out" in str(data.found)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    with pytest.warns(UserWarning, match="not followed"), pytest.raises(ValueError, match="neither pictures"):
        read(tmp_path / "only")


def test_links_inside_of_the_folder_are_read_once(tmp_path):
    """A link to a file is a file; folders behind links, and circles, are read where they lie."""
    values = tree(tmp_path / "data", count=4)
    (tmp_path / "data" / "cat" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "dog" / "9.png").symlink_to(Path("..") / "cat" / "0.png")
    data = read(tmp_path / "data")
    assert np.array_equal(every(data).x.numpy(), np.concatenate((values, values[:1])))
    assert "left: 1 link to folders inside" in str(data.found)


def test_a_link_to_nothing_is_reported_and_a_pipe_is_not_read(tmp_path):
    values = tree(tmp_path / "data", count=2)
    os.mkfifo(tmp_path / "data" / "pipe.png")  # opening it would wait for ever
    assert len(read(tmp_path / "data", images=Images(labels=False))) == len(values)
    (tmp_path / "data" / "none.png").symlink_to(tmp_path / "data" / "nothing")
    with pytest.raises(ValueError, match=r"none.png: cannot be read"):
        read(tmp_path / "data", images=Images(labels=False))


@pytest.mark.parametrize("damage", ["header", "cut"])
def test_a_tar_that_is_damaged_behind_its_first_member_is_refused(damage, tmp_path):
    tree(tmp_path / "data", count=4)
    path = archive(tmp_path / "a.tar", tmp_path / "data")
    with tarfile.open(path) as tape:
        start = [info.offset for info in tape][-1]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[start:]
    else:
        content[start + 150] ^= 1  # within the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar: cannot be read .*damaged or cut short"):
        read(path)


def test_a_member_that_is_damaged_can_be_skipped(tmp_path):
    path = zip_of(**{"a.png": png(), "b.png": png()})(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"IDAT", b"IDAX", 1))
    with pytest.warns(UserWarning, match=r"a.zip: a.png: skipped"):
        assert len(read(path, broken=Broken.skip)) == 1


def test_chunks_of_a_recording_that_hold_no_sound_are_passed_over(tmp_path):
    content = wav(RAMP)
    extra = b"bext" + struct.pack("<I", 4) + b"note"
    content = content[:4] + struct.pack("<I", len(content) - 8 + len(extra)) + content[8:] + extra
    (tmp_path / "a.wav").write_bytes(content)
    assert np.allclose(every(read(tmp_path, audio=Audio(100))).x[0, 0].numpy(), RAMP / 32768)
    for size in (4, 20, 40, 43):
        (tmp_path / "a.wav").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a.wav: cannot be read"):
            read(tmp_path, audio=Audio(100))


def test_transparency_that_hides_nothing_and_grey_pictures_on_a_ground(tmp_path):
    opaque = np.dstack([noise(8, 8, 3), np.full((8, 8), 255, "u1")])
    assert np.array_equal(
        every(read(pictures_of(png(opaque))(tmp_path))).x[0].numpy(), opaque[..., :3].transpose(2, 0, 1)
    )
    grey = np.dstack([noise(8, 8), np.zeros((8, 8), "u1")])
    (tmp_path / "grey").mkdir()
    rows = every(read(pictures_of(png(grey), png())(tmp_path / "grey"), images=Images(alpha=Alpha.white)))
    assert rows.x.shape == (2, 1, 8, 8) and bool((rows.x[0] == 255).all())


def test_large_numbers_in_a_table_keep_their_differences(tmp_path):
    values = 1.7e9 + np.arange(5.0)
    (tmp_path / "a.csv").write_text("time,x\n" + "".join(f"{v:.1f},{k}\n" for k, v in enumerate(values)))
    assert np.array_equal(every(read(tmp_path / "a.csv")).x[:, 0].numpy(), values)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_numbers_of_pandas_are_refused(name, tmp_path):
    (tmp_path / "a.csv").write_text(f"{name},x\n0,1.5\n1,2.5\n")
    with pytest.raises(ValueError, match="row numbers of pandas"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
    ],
)
def test_labels_of_mnist_are_found_under_any_of_their_names(images, labels, tmp_path):
    def write(name, values, kind):
        content = struct.pack(f">2xBB{values.ndim}I", kind, values.ndim, *values.shape) + values.tobytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    write(images, noise(3, 4, 5), 8)
    write(labels, np.array([2, 0, 1], "u1"), 8)
    for path in (tmp_path, tmp_path / images):
        assert every(read(path)).cond["label"].tolist() == [2, 0, 1]


# what is remembered of how data were read


def write_parquet(path, columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_read_as_another_has_its_columns_by_their_names(kind, tmp_path):
    """Mutants: columns by their places; conditions by their places."""
    values = GENERATOR.normal(size=(6, 4))
    names = ("a", "b", "c", "t")
    for file, order in (("first", (0, 1, 2, 3)), ("second", (3, 2, 0, 1))):
        columns = {names[k]: values[:, k] for k in order}
        if kind == "csv":
            rows = [list(columns), *np.stack(list(columns.values()), 1).tolist()]
            (tmp_path / f"{file}.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
        else:
            write_parquet(tmp_path / f"{file}.parquet", columns)
    first = read(tmp_path / f"first.{kind}", table=Table(cond=["t"]))
    assert isinstance(first.how, Table) and tuple(first.how.columns) == ("a", "b", "c")
    second = read(tmp_path / f"second.{kind}", table=first.how)
    assert torch.equal(every(second).x, every(first).x)
    assert torch.equal(every(second).cond["cond"], every(first).cond["cond"])


def test_recordings_of_another_rate_are_refused(tmp_path):
    for name, rate in (("a", 8000), ("b", 16000)):
        (tmp_path / name).mkdir()
        wavfile.write(tmp_path / name / "x.wav", rate, np.zeros(40, np.int16))
    first = read(tmp_path / "a", audio=Audio(length=10))
    assert first.how == Audio(length=10, rate=8000)
    with pytest.raises(ValueError, match=r"x.wav has 16000 Hz and 1 channels where 8000 Hz"):
        read(tmp_path / "b", audio=first.how)


def test_folders_without_a_picture_are_named(tmp_path):
    """Beside the classes, at any depth; hidden ones, and folders of classes, are not meant."""
    tree(tmp_path / "top" / "data")
    for name in ("bird", ".git", "cat/more"):
        (tmp_path / "top" / "data" / name).mkdir(parents=True)
    (tmp_path / "top" / "data" / "bird" / "notes.txt").write_text("none yet")
    with pytest.warns(UserWarning) as said:
        data = read(tmp_path / "top")
    assert [str(w.message).partition("lies in ")[2] for w in said] == ["data/bird: no class"]
    assert data.class_names == ("cat", "dog")
    write_png(tmp_path / "flat" / "a.png", noise(4, 4))
    (tmp_path / "flat" / "other").mkdir()
    assert read(tmp_path / "flat").class_names == ()  # and without a word
    (tmp_path / "one" / "dog").mkdir(parents=True)
    write_png(tmp_path / "one" / "cat" / "a.png", noise(4, 4))
    with pytest.warns(UserWarning, match="lies in dog: no class"):
        read(tmp_path / "one")
    read(tmp_path / "one", images=Images(labels=False))


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_conditions_keep_what_tells_them_apart(kind, tmp_path):
    """Seconds since 1970 in float64, a temperature in float32; whole numbers are numbers."""
    seconds, kelvin = 1.7e9 + np.arange(20), 280 + GENERATOR.normal(size=20)
    x = GENERATOR.normal(size=20).astype("f4")
    for name, values in (("seconds", seconds), ("kelvin", kelvin), ("whole", seconds.astype(np.int64))):
        path = tmp_path / f"{name}.{kind}"
        if kind == "npz":
            np.savez(path, x=x, cond=values[:, None])
        elif kind == "csv":
            path.write_text(
                "\n".join(["x,t", *(f"{a},{b!r}" for a, b in zip(x.tolist(), values.tolist(), strict=True))])
            )
        else:
            write_parquet(path, {"x": x, "t": values})
        cond = every(read(path, table=Table(cond=["t"]))).cond["cond"][:, 0]
        assert cond.dtype == (torch.float32 if name == "kelvin" else torch.float64)
        assert np.array_equal(cond.numpy(), values.astype(cond.numpy().dtype))


def test_a_size_is_one_whichever_way_it_is_said():
    assert Images(size=6) == Images(size=(6, 6)) != Images(size=(6, 8))


# heads before contents


@pytest.mark.parametrize("groups", [7, 1000])
def test_parquet_is_read_in_columns(groups, tmp_path):
    """Batches of several row groups, all kinds of numbers, classes in the order of their values, and a limit."""
    n = 50
    columns = {"a": np.arange(n, dtype="i4"), "b": GENERATOR.normal(size=n), "c": np.arange(n) % 2 == 0}
    kinds = [str(k % 3 + 8) for k in range(n)]  # 8, 9, 10: by value
    path = parquet_of(tmp_path, {**columns, "kind": kinds}, row_group_size=groups)
    wanted = np.stack([v.astype("f8") for v in columns.values()], 1)
    for limit in (None, 5, 20, n):
        data = read(path, table=Table(label="kind"), limit=limit)
        rows = every(data)
        assert np.array_equal(rows.x.numpy(), wanted[:limit]) and data.class_names == ("8", "9", "10")
        assert [data.class_names[k] for k in rows.cond["label"].tolist()] == kinds[:limit]


def test_many_rows_of_parquet_go_to_a_file(little_memory, tmp_path):
    values = GENERATOR.normal(size=(50, 2))
    path = parquet_of(tmp_path, {"a": values[:, 0], "b": values[:, 1]}, row_group_size=20)
    data = read(path, folder=tmp_path)
    assert isinstance(data.x, Stored) and np.array_equal(every(data).x.numpy(), values)
    with pytest.raises(ValueError, match=r"a.parquet: 50 rows take .* its disk has .* left: make space"):
        stored.gather_blocks([], 50, (1 << 50,), str(path), tmp_path)


def large_npz(folder):
    np.savez_compressed(folder / "a.npz", x=np.zeros((1000, 30)))
    return folder / "a.npz"


LARGE = {
    ".npy": saved("a.npy", io_of(np.zeros((1000, 30)))),
    ".npz": large_npz,
    "IDX": saved("x-images-idx3-ubyte", idx(np.zeros((1000, 20, 12), "u1"))),
    "packed IDX": saved("x-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((1000, 20, 12), "u1")))),
    "a member": zip_of(**{"a.png": png(noise(300, 300, 3))}),
    "a picture": pictures_of(png(noise(300, 300, 3))),
    "a recording": pictures_of(wav(np.tile(RAMP, 1200)), suffix="wav"),
    "CIFAR": saved("data_batch_1.bin", b"x" * 3073 * 80),
    "labels": lambda f: parquet_of(f, {"x": np.zeros(30_000), "kind": ["a"] * 30_000}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_larger_than_it_may_be_is_refused_by_its_head(kind, tmp_path):
    path = LARGE[kind](tmp_path)
    options = {"table": Table(label="kind")} if kind == "labels" else {}
    with pytest.raises(
        ValueError, match=r"would take 2\d\d.* KiB, more than the 195.3 KiB .*the option largest"
    ) as said:
        read(path, largest=2e5 / 2**30, **options)
    assert path.name in str(said.value)
    assert len(read(path, largest=3e5 / 2**30, **options))


def test_a_limit_is_a_positive_number(tmp_path):
    for value in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="largest must be a positive number of GiB"):
            read(tmp_path, largest=value)


def test_what_a_head_claims_is_not_believed(tmp_path):
    """The machine's memory is the limit of what is packed; what is not packed is as long as it is."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 8)})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as target:
        target.writestr("x.npy", head.getvalue() + bytes(64))
    packed = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 50_000, 1000, 1000))
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(packed)
    for name in ("a.npy", "a.npz", "x-images-idx3-ubyte.gz"):
        with memory_left(1 << 28), pytest.raises(ValueError, match=f"{name}: cannot be read.*(claims|shape)"):
            read(tmp_path / name)


def test_a_saved_data_set_is_checked_before_it_is_used(tmp_path):
    """Offsets that go back, in the bytes of a sound file; beyond the values they would end the process."""
    import datasets

    datasets.Dataset.from_dict({"v": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}).save_to_disk(tmp_path / "data")
    (file,) = (tmp_path / "data").glob("*.arrow")
    offsets, content = np.array([0, 2, 4, 6], "<i4").tobytes(), file.read_bytes()
    assert content.count(offsets) == 1
    file.write_bytes(content.replace(offsets, np.array([0, 4, 2, 6], "<i4").tobytes()))
    with pytest.raises(ValueError, match=r"data: its tables are damaged .*: save it again") as said:
        read(tmp_path / "data")
    assert "\n" not in str(said.value)


def test_pictures_are_opened_in_one_place():
    """Which names the formats: others of Pillow start programs."""
    source = Path(stored.__file__).parents[1]
    calls = [path.name for path in source.rglob("*.py") for _ in re.findall(r"Image\.open\(", path.read_text())]
    assert calls == ["frames.py"]
    allowed = {"PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"}
    assert "EPS" not in FORMATS and set(FORMATS) <= allowed
