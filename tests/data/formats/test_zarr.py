"""Stores of Zarr, of both versions."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
import zarr
from helpers.formats import every, real, whole

from scorefield.data import read
from scorefield.data.formats import file_rows
from scorefield.data.formats.file_rows import FileRows


def store(path, version=3, **arrays):
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, values in arrays.items():
        chunks = (2, *values.shape[1:])
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[:] = values
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_a_group(version, tmp_path, monkeypatch):
    monkeypatch.setattr(file_rows, "IN_MEMORY", 100)
    values = real(7, 4, 3)
    path = store(tmp_path / "a.zarr", version, x=values, labels=np.arange(7) % 2, flags=whole(7, 4, dtype="u1"))
    data = read(path, axes="ncl")
    assert isinstance(data.x, FileRows) and np.array_equal(every(data), values)
    rows = pickle.loads(pickle.dumps(data)).rows(torch.tensor([5, 0, 3]))
    assert np.array_equal(rows.x.numpy(), values[[5, 0, 3]]) and rows.cond["label"].tolist() == [1, 0, 1]
    assert f"x of Zarr, float64, version {version}; left: the arrays flags 7 x 4 uint8" in str(data.found)


@pytest.mark.parametrize("dtype", [">f4", "u2", "c8", "?"])
@pytest.mark.parametrize("version", [2, 3])
def test_an_array_by_itself(version, dtype, tmp_path):
    values = real(5, 3).astype(dtype) if dtype[-2:] != "c8" else (real(5, 3) + 1j * real(5, 3)).astype("c8")
    array = zarr.create_array(str(tmp_path / "a"), shape=(5, 3), dtype=dtype, chunks=(2, 2), zarr_format=version)
    array[:] = values
    found = every(read(tmp_path / "a"))
    assert np.array_equal(found[:, 0] + 1j * found[:, 1] if dtype == "c8" else found.astype(dtype), values)


def test_shards_and_what_was_never_written(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 3), dtype="f4", chunks=(1, 3), shards=(4, 3))
    array[:4] = 1
    data = read(tmp_path / "a.zarr")
    assert (every(data)[:4] == 1).all() and "1 of 2 chunks never written: 0.0 there" in str(data.found)


def edit(path, change):
    head = json.loads(path.read_text())
    change(head)
    path.write_text(json.dumps(head))


@pytest.mark.parametrize(
    ("version", "change"),
    [
        (2, lambda head: head.update(filters=[{"id": "pickle"}])),
        (2, lambda head: head.update(compressor={"id": "pickle"})),
        (3, lambda head: head["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})),
        (3, lambda head: head["codecs"].append({"name": "mypackage.codec"})),
        (
            3,
            lambda head: head.update(
                codecs=[{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "vlen-bytes"}]}}]
            ),
        ),
    ],
)
def test_ways_of_packing_that_could_run_something_are_refused_before_the_store_is_opened(
    version, change, tmp_path, monkeypatch
):
    store(tmp_path / "a.zarr", version, x=real(4, 2))
    edit(tmp_path / "a.zarr" / "x" / ("zarr.json" if version == 3 else ".zarray"), change)
    monkeypatch.setattr(zarr, "open_group", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"a.zarr: is packed by '.*': written again with zstd or blosc"):
        read(tmp_path / "a.zarr")


@pytest.mark.parametrize("what", ["x/c/0/0", "x/c", "x"])
def test_links_out_of_a_store_are_not_followed(what, tmp_path):
    store(tmp_path / "a.zarr", x=real(4, 2))
    (tmp_path / "a.zarr" / what).rename(tmp_path / "elsewhere")
    (tmp_path / "a.zarr" / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"a.zarr: \w+ is a link, which is not followed"):
        read(tmp_path / "a.zarr")


def test_a_claim_of_a_large_chunk_is_refused(tmp_path):
    store(tmp_path / "a.zarr", x=real(4, 2))
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 20, 1 << 20]}}
    edit(tmp_path / "a.zarr" / "x" / "zarr.json", lambda head: head.update(chunk_grid=grid))
    with pytest.raises(ValueError, match=r"x: a chunk of \(1048576, 1048576\) would take 8 TiB"):
        read(tmp_path / "a.zarr")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [(f"x/c/{k}/0", damage) for k in range(3) for damage in (cut, flip)]
    + [(name, damage) for name in ("x/zarr.json", "zarr.json") for damage in (cut, lambda p: p.write_bytes(b"\0\1"))]
    + [
        ("x/zarr.json", lambda path, key=key, value=value: edit(path, lambda head: head.update({key: value})))
        for key, value in {
            "shape": [-1, 2],
            "data_type": "pickle",
            "node_type": "thing",
            "zarr_format": 9,
            "chunk_grid": {"name": "none"},
            "codecs": [],
            "chunk_key_encoding": None,
            "fill_value": "x",
        }.items()
    ]
    + [("x/zarr.json", lambda path: path.unlink()), ("x/c/0/0", lambda path: path.write_bytes(b""))],
)
def test_damaged_stores_are_refused_by_name(name, damage, tmp_path):
    compressors = zarr.codecs.ZstdCodec(level=1, checksum=True)
    array = zarr.open_group(str(tmp_path / "a.zarr"), mode="w").create_array(
        "x", shape=(6, 40), dtype="f8", chunks=(2, 40), compressors=compressors
    )
    array[:] = real(6, 40)
    damage(tmp_path / "a.zarr" / name)
    with pytest.raises(ValueError, match=r"a\.zarr.*: "):
        every(read(tmp_path / "a.zarr"))
