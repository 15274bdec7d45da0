"""Parquet as the Hub serves it."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.formats import every, real, whole
from PIL import Image

from scorefield.data import Broken, Table, read

NAMES = ["cat", "dog", "ant"]


def png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(path, values, labels=(0, 2, 1, 1, 0, 2, 1), features=True, **columns):
    table = pa.table(
        {
            "image": [{"bytes": png(one), "path": f"{k}.png"} for k, one in enumerate(values)],
            "label": labels[: len(values)],
            **columns,
        }
    )
    if features:
        said = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": said}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_pictures_and_the_names_of_their_classes(tmp_path):
    """Mutant: classes in the order of their names."""
    values = whole(4, 5, 6, 3, dtype="u1")
    data = read(pictures(tmp_path / "train-00000-of-00001.parquet", values, caption=list("abcd")))
    assert np.array_equal(every(data), values.transpose(0, 3, 1, 2)) and data.levels == 256
    assert data.class_names == ("cat", "dog", "ant")
    assert data.rows(torch.arange(4)).cond["label"].tolist() == [0, 2, 1, 1]
    line = "pictures of the column image of 1 Parquet file; 3 classes by the column label; left: the columns caption"
    assert line in str(data.found)


def test_of_a_folder_the_part_for_training(tmp_path):
    values = whole(7, 5, 6, dtype="u1")
    for name, some in {
        "train-00000-of-00002": values[:4],
        "train-00001-of-00002": values[4:],
        "test-0": values,
    }.items():
        pictures(tmp_path / "data" / f"{name}.parquet", some)
    data = read(tmp_path)
    assert np.array_equal(every(data)[:, 0], values) and "left: the parts test" in str(data.found)
    (tmp_path / "data" / "train-00001-of-00002.parquet").unlink()
    pq.write_table(pa.table({"image": [[1.0]]}), tmp_path / "data" / "train-1.parquet")
    with pytest.raises(ValueError, match=r"train-1.parquet: has other columns than train-00000-of-00002.parquet"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["list", "fixed", "nested"])
def test_lists_of_numbers(kind, tmp_path):
    values = real(6, 4).astype("f4")
    column = {
        "list": lambda: pa.array(values.tolist(), pa.list_(pa.float32())),
        "fixed": lambda: pa.array(list(values), pa.list_(pa.float32(), 4)),
        "nested": lambda: pa.array(values.reshape(6, 2, 2).tolist(), pa.list_(pa.list_(pa.float32(), 2))),
    }[kind]()
    pq.write_table(pa.table({"v": column, "kind": list("xyxyxy"), "n": range(6)}), tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet", table=Table(label="kind"))
    assert np.array_equal(every(data).reshape(6, 4), values) and data.event_shape == (
        (2, 2) if kind == "nested" else (4,)
    )
    assert data.class_names == ("x", "y") and "left: the columns n" in str(data.found)


def test_a_file_that_datasets_wrote(tmp_path):
    import datasets

    kinds = {"a": datasets.Array2D((2, 3), "uint8"), "k": datasets.ClassLabel(names=["no", "yes"])}
    values = whole(4, 2, 3, dtype="u1")
    made = datasets.Dataset.from_dict({"a": list(values), "k": [1, 0, 0, 1]}, datasets.Features(kinds))
    datasets.disable_progress_bars()
    made.to_parquet(str(tmp_path / "a.parquet"))
    data = read(tmp_path / "a.parquet")
    assert np.array_equal(every(data), values) and data.class_names == ("no", "yes") and data.levels == 256


def test_a_file_of_numbers_alone_is_a_table(tmp_path):
    pq.write_table(pa.table({"a": real(5), "b": real(5)}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").event_shape == (2,)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"v": [[1.0, 2.0], [3.0]]}, "lists of different lengths"),
        ({"v": [[1.0, 2.0], None]}, "lists of different lengths, or none"),
        ({"v": [[1.0, None], [3.0, 4.0]]}, "lists with empty places"),
        ({"v": [[1.0, float("nan")], [3.0, 4.0]]}, "lists with NaN"),
        ({"v": [[1.0], [2.0]], "w": [[1.0], [2.0]]}, "choose a column: --reading.array NAME"),
        ({"image": [{"bytes": None, "path": "/etc/hostname"}] * 2}, "row 0 names a file instead of holding a picture"),
        ({"image": [{"bytes": b"GIF", "path": "a"}] * 2}, "row 0: cannot be read"),
        ({"v": [["a"], ["b"]]}, "no column of pictures or lists of numbers"),
    ],
)
def test_what_is_no_sample_is_refused(columns, why, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"a.parquet.*{why}"):
        read(tmp_path / "a.parquet")


def test_rows_without_a_class_and_pictures_that_are_damaged(tmp_path):
    values = whole(3, 5, 6, dtype="u1")
    with pytest.raises(ValueError, match=r"a.parquet: row 1 has the class -1: drop the rows without a class"):
        read(pictures(tmp_path / "a.parquet", values, [0, -1, 1]))
    table = pq.read_table(pictures(tmp_path / "a.parquet", values, [0, 2, 1]))
    broken = table.column("image").to_pylist()
    broken[1]["bytes"] = broken[1]["bytes"][:40]
    pq.write_table(table.set_column(0, "image", pa.array(broken)), tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"a.parquet: row 1: skipped"):
        data = read(tmp_path / "a.parquet", broken=Broken.skip)
    assert data.rows(torch.arange(2)).cond["label"].tolist() == [0, 1]


def test_damaged_files_are_refused_by_name(tmp_path):
    path = pictures(tmp_path / "a.parquet", whole(4, 5, 6, dtype="u1"))
    content = path.read_bytes()
    half = len(content) // 2
    cuts = [content[: len(content) * k // 12] for k in range(12)]
    others = [
        b"PAR1" * 9,
        bytes(2000),
        b"a,b\n1,2\n",
        content[9:],
        content[:-1],
        content + b"x",
        content[half:],
        b"PAR1",
    ]
    for damaged in cuts + others:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.parquet: "):
            read(path)
