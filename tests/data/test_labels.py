"""What files are sorted by: folders that are classes and folders that are none, lists beside them, patterns."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from scorefield.data import Audio, Images, Subset, Table, read, split

GENERATOR = np.random.default_rng(0)


def png(value=None):
    file = io.BytesIO()
    values = GENERATOR.integers(0, 256, (4, 4)) if value is None else np.full((4, 4), value)
    Image.fromarray(values.astype("u1")).save(file, "PNG")
    return file.getvalue()


def folder_of(path, files):
    """A folder of these files: their content, or a picture of the value."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else png(content))
    return path


def zip_of(path, files):
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(name, content if isinstance(content, bytes) else png(content))
    return path


def tar_of(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as target:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else png(content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return path


def sorted_as(data):
    """{value of the picture: name of its class}, None without classes."""
    rows = data.rows(torch.arange(len(data)))
    values = rows.x.reshape(len(data), -1)[:, 0].tolist()
    if not data.classes:
        return dict.fromkeys(values)
    return dict(zip(values, (data.class_names[k] for k in rows.cond["label"].tolist()), strict=True))


def held(data):
    """Values of the pictures that a split trains on, and of those that it holds out."""
    return tuple(sorted(part.rows(torch.arange(len(part))).x.flatten(1)[:, 0].tolist()) for part in split(data, 0.5))


# parts of a data set


@pytest.mark.parametrize(
    "names",
    [("train", "val"), ("training", "validation"), ("Train", "Valid"), ("train", "test"), ("top/train", "top/dev")],
)
def test_parts_are_no_classes_and_are_held_out(names, tmp_path):
    """Mutants: the parts as classes; a random split all the same; the parts exchanged."""
    files = {
        f"{part}/{kind}/{k}.png": 100 * i + 10 * j + k
        for i, part in enumerate(names)
        for j, kind in enumerate(("cat", "dog"))
        for k in range(3)
    }
    data = read(folder_of(tmp_path / "d", files))
    assert data.class_names == ("cat", "dog") and sorted_as(data)[111] == "dog" and sorted_as(data)[2] == "cat"
    assert held(data) == ([0, 1, 2, 10, 11, 12], [100, 101, 102, 110, 111, 112])
    assert "2 classes by folder: cat, dog; 6 samples to hold out by folder" in str(data.found)
    again = data.unlabelled()
    assert held(again) == held(data) and not again.classes


def test_a_test_set_beside_two_parts_is_left(tmp_path):
    data = read(folder_of(tmp_path / "d", {"train/a.png": 1, "train/b.png": 2, "val/a.png": 3, "test/a.png": 4}))
    assert held(data) == ([1, 2], [3]) and not data.classes
    assert "left: 1 file of the test set" in str(data.found)
    assert len(read(tmp_path / "d" / "test")) == 1


def test_parts_within_classes_and_folders_that_only_sound_like_parts(tmp_path):
    """ModelNet has its parts within its classes; a train beside a bus is a class."""
    inner = {
        f"{kind}/{part}/{k}.png": 10 * j + i + 5 * k
        for j, kind in enumerate(("desk", "sofa"))
        for i, part in enumerate(("train", "test"))
        for k in range(2)
    }
    data = read(folder_of(tmp_path / "inner", inner))
    assert data.class_names == ("desk", "sofa") and held(data) == ([0, 5, 10, 15], [1, 6, 11, 16])
    data = read(folder_of(tmp_path / "outer", {f"{kind}/{k}.png": k for kind in ("train", "bus") for k in range(3)}))
    assert data.class_names == ("bus", "train") and data.held is None
    forced = Images(labels=True)
    assert read(tmp_path / "inner", images=forced).class_names == ("desk", "sofa")
    folder_of(tmp_path / "forced", {f"{part}/{k}.png": k for part in ("train", "val") for k in range(2)})
    assert read(tmp_path / "forced", images=forced).class_names == ("train", "val")


# numbered folders


@pytest.mark.parametrize(
    ("step", "folder", "file"),
    [
        (1000, lambda k: f"{k // 1000:05d}", lambda k: f"img{k:08d}"),  # NVIDIA's dataset_tool
        (1000, lambda k: f"{k // 1000 * 1000:05d}", lambda k: f"{k:05d}"),  # FFHQ
        (10_000, lambda k: f"{k // 10_000:05d}", lambda k: f"{k:09d}"),  # img2dataset
        (100, lambda k: f"{k // 100}", lambda k: f"frame_{k}"),
    ],
)
def test_numbered_folders_of_one_series_are_no_classes(step, folder, file, tmp_path):
    numbers = range(0, 3 * step, step // 2)
    data = read(folder_of(tmp_path / "d", {f"{folder(k)}/{file(k)}.png": j for j, k in enumerate(numbers)}))
    assert not data.classes and len(data) == 6
    assert "left: 3 numbered folders of one series: no classes (unless --reading.images.labels true)" in str(data.found)
    assert read(tmp_path / "d", images=Images(labels=True)).classes == 3


def test_numbered_folders_that_are_classes(tmp_path):
    """Digits as in MNIST, with minus signs and points: in the order of their values."""
    words = ("-10", "-2", "0", "0.5", "1.0", "3", "20")
    data = read(folder_of(tmp_path / "d", {f"{word}/{k}.png": k for word in words for k in range(2)}))
    assert data.class_names == words
    mixed = folder_of(tmp_path / "e", {f"{word}/{k}.png": k for word in ("10", "9", "x") for k in (1, 2)})
    assert read(mixed).class_names == ("10", "9", "x")


def test_folders_that_could_be_either_are_asked_about(tmp_path):
    folder_of(tmp_path / "padded", {f"{k:05d}/{name}.png": k for k in range(3) for name in "ab"})
    folder_of(tmp_path / "single", {f"{name}/picture.png": k for k, name in enumerate("abcd")})
    for name, count, why in (("padded", 3, "they are numbered"), ("single", 4, "each is of one file")):
        with pytest.raises(
            ValueError, match=rf"{name}: {count} classes by folder .* {why}: say --reading.images.labels"
        ):
            read(tmp_path / name)
        assert read(tmp_path / name, images=Images(labels=True)).classes == count
        assert not read(tmp_path / name, images=Images(labels=False)).classes
    rows = "\n".join(("file_name,label", *(f"{name}/picture.png,the {name}" for name in "abcd")))
    (tmp_path / "single" / "metadata.csv").write_text(rows)
    with pytest.raises(ValueError, match=r"single: 4 classes by metadata.csv \(the a, .* each is of one file"):
        read(tmp_path / "single")


def test_a_class_for_each_row_of_a_table_is_warned_of(tmp_path):
    (tmp_path / "a.csv").write_text("x,id\n" + "".join(f"{k},{k}\n" for k in range(5)))
    with pytest.warns(UserWarning, match=r"a.csv: each of the 5 rows has a class of its own by id"):
        read(tmp_path / "a.csv", table=Table(label="id"))


# lists


def test_the_list_of_dataset_tool(tmp_path):
    files = {f"{k // 1000:05d}/img{k:08d}.png": k // 50 for k in range(0, 3000, 50)}
    labels = [[name, value % 11] for name, value in files.items()]
    whole = {**files, "dataset.json": json.dumps({"labels": labels}).encode()}
    for path in (zip_of(tmp_path / "a.zip", whole), folder_of(tmp_path / "d", whole)):
        data = read(path)
        assert data.class_names == tuple(map(str, range(11)))
        assert all(name == str(value % 11) for value, name in sorted_as(data).items())
        assert "11 classes by dataset.json" in str(data.found) and not data.found.left
    none = {**files, "dataset.json": b'{"labels": null}'}
    assert not read(zip_of(tmp_path / "b.zip", none)).classes
    poses = {**files, "dataset.json": json.dumps({"labels": [[name, [0.5, 1.0]] for name in files]}).encode()}
    assert "left: dataset.json: labels that are lists of numbers" in str(read(zip_of(tmp_path / "c.zip", poses)).found)
    for content, said in (
        (json.dumps({"labels": labels[1:]}), "1 file of 60 have no class in dataset.json, 00000/img00000000.png"),
        ("{", "dataset.json: cannot be read"),
        ('{"labels": [["a.png", true]]}', "dataset.json: cannot be read .*a class must be a number or a word"),
    ):
        with pytest.raises(ValueError, match=said):
            read(zip_of(tmp_path / "bad.zip", {**files, "dataset.json": content.encode()}))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_lists_of_the_hub(kind, tmp_path):
    """One in each part of the data set, with names that count from there; another column by its name."""
    rows = [("a.png", "cat", "one cat"), ("b.png", "dog", "a dog")]
    if kind == "csv":
        text = "\n".join(",".join(row) for row in [("file_name", "label", "text"), *rows])
    else:
        text = "\n".join(json.dumps(dict(zip(("file_name", "label", "text"), row, strict=True))) for row in rows)
    files = {
        f"{part}/{name}": 10 * k + j
        for k, part in enumerate(("train", "test"))
        for j, name in enumerate(("a.png", "b.png"))
    }
    lists = {f"{part}/metadata.{kind}": text.encode() for part in ("train", "test")}
    data = read(folder_of(tmp_path / "d", files | lists))
    assert sorted_as(data) == {0: "cat", 1: "dog", 10: "cat", 11: "dog"} and held(data) == ([0, 1], [10, 11])
    assert f"2 classes by metadata.{kind}: cat, dog" in str(data.found)
    assert read(tmp_path / "d", images=Images(column="text")).class_names == ("a dog", "one cat")
    with pytest.raises(
        ValueError, match=rf"metadata.{kind}: cannot be read \(it has no 'kind', but file_name, label, text"
    ):
        read(tmp_path / "d", images=Images(column="kind"))
    unnamed = {name: content.replace(b"label", b"sort") for name, content in lists.items()}
    data = read(folder_of(tmp_path / "e", files | unnamed))
    assert not data.classes and "columns sort, text (one of classes: --reading.images.column)" in str(data.found)


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_of_webdataset(kind, tmp_path):
    """A tar by itself, and a folder of them with what stands beside them."""

    def shard(first):
        files = {}
        for k in range(first, first + 4):
            side = str(k % 3) if kind == "cls" else json.dumps({"label": k % 3, "n": k})
            files |= {f"{k:06d}.{kind}": side.encode(), f"{k:06d}.png": k}
        return files

    for k in range(3):
        tar_of(tmp_path / "d" / f"{k:05d}.tar", shard(4 * k))
    (tmp_path / "d" / "sizes.parquet").write_bytes(b"x")
    data = read(tmp_path / "d")
    assert sorted_as(data) == {k: str(k % 3) for k in range(12)}
    assert f"12 pictures of 4 x 4, grey, 8 bits; in 3 archives; 3 classes by the .{kind} beside each: 0, 1, 2" in str(
        data.found
    )
    assert data.found.left == ("1 file (.parquet)",)
    assert sorted_as(read(tmp_path / "d" / "00001.tar")) == {k: str(k % 3) for k in range(4, 8)}
    assert not read(tmp_path / "d", images=Images(labels=False)).classes
    broken = shard(0)
    del broken[f"000002.{kind}"]
    with pytest.raises(ValueError, match=rf"1 file of 4 have no class in a .{kind} beside it, 000002.png"):
        read(tar_of(tmp_path / "b.tar", broken))


def test_shards_without_classes_and_with_the_same_names(tmp_path):
    for name in ("cats", "dogs"):
        zip_of(tmp_path / f"{name}.zip", {"0.png": len(name), "1.png": 9, "0.json": b'{"url": "x"}'})
    data = read(tmp_path)
    assert len(data) == 4 and not data.classes and "left: 2 files (.json)" in str(data.found)


# patterns


def test_classes_by_a_pattern_of_names(tmp_path):
    names = ("great_pyrenees_1.png", "great_pyrenees_12.png", "Abyssinian_3.png")
    folder = folder_of(tmp_path / "d", {name: k for k, name in enumerate(names)})
    assert not read(folder).classes
    data = read(folder, images=Images(pattern=r"([^/]+)_\d+\.png$"))
    assert sorted_as(data) == {0: "Abyssinian", 1: "great_pyrenees", 2: "great_pyrenees"} or sorted_as(data) == {
        0: "great_pyrenees",
        1: "great_pyrenees",
        2: "Abyssinian",
    }
    for pattern, said in (
        (r"(z+)", r"the pattern '\(z\+\)' finds no class in Abyssinian_3.png"),
        ("x", "one group in brackets"),
        ("(", "is no regular expression"),
    ):
        with pytest.raises(ValueError, match=said):
            read(folder, images=Images(pattern=pattern))


# recordings and tables


def test_recordings_are_sorted_like_pictures(tmp_path):
    for part in ("train", "val"):
        for kind in ("low", "high"):
            (tmp_path / part / kind).mkdir(parents=True)
            for k in range(2):
                wavfile.write(tmp_path / part / kind / f"{k}.wav", 8000, np.arange(20, dtype="i2"))
    data = read(tmp_path, audio=Audio(length=10))
    assert data.class_names == ("high", "low") and len(data) == 16
    assert [len(part) for part in split(data, 0.1)] == [8, 8] and isinstance(split(data, 0.1)[0], Subset)


def test_classes_of_a_table_are_in_the_order_of_their_values(tmp_path):
    words = ("-1.5", "-1", "0", "2.0", "1e1", "100")
    (tmp_path / "a.csv").write_text("x,kind\n" + "".join(f"{k},{word}\n" for word in reversed(words) for k in range(2)))
    assert read(tmp_path / "a.csv", table=Table(label="kind")).class_names == words
