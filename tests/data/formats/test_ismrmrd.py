"""A scanner's lines of k-space, written as ISMRMRD lays them out."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers.formats import every, waves

from scorefield.data import read

COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
HEAD = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("number_of_samples", "<u2"),
        ("active_channels", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("idx", [(name, "<u2") for name in COUNTERS]),
    ]
)
LINE = np.dtype([("head", HEAD), ("traj", h5py.vlen_dtype("f4")), ("data", h5py.vlen_dtype("f4"))])
XML = b"<encoding><encodedSpace><matrixSize><x>6</x><y>5</y><z>1</z></matrixSize></encodedSpace></encoding>"


def write(path, kspace, skip=(), **fields):
    """K-space (slices, coils, lines, samples) line by line, with one of noise before them."""
    slices, coils, lines, samples = kspace.shape
    places = [(s, k) for s in range(slices) for k in range(lines) if (s, k) not in skip]
    rows = np.zeros(len(places) + 1, LINE)
    rows["head"]["number_of_samples"], rows["head"]["active_channels"] = samples, coils
    for name, value in fields.items():
        rows["head"][name][1:] = value
    rows["head"]["flags"][0] = 1 << 18
    rows["traj"][:] = [np.empty(0, "f4")] * len(rows)
    rows["data"][0] = np.ones(2 * coils * samples, "f4")
    for row, (s, k) in zip(rows[1:], places, strict=True):
        row["head"]["idx"]["kspace_encode_step_1"], row["head"]["idx"]["slice"] = k, s
        row["data"] = np.ascontiguousarray(kspace[s, :, k]).view("f4").reshape(-1)
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset/data", data=rows, maxshape=(None,), chunks=(1,))
        file.create_dataset("dataset/xml", data=[XML], dtype=h5py.string_dtype())
    return path


def test_lines_are_put_where_their_heads_say(tmp_path):
    """Mutants: lines in the order of the file; noise taken for a line; the grid ends at the last line measured."""
    kspace = waves(2, 3, 5, 6)
    skip = [(1, 0), (0, 4), (1, 4)]
    for s, k in skip:
        kspace[s, :, k] = 0
    data = read(write(tmp_path / "a.h5", kspace, skip))
    found = every(data)
    assert np.array_equal(found[:, 0::2] + 1j * found[:, 1::2], kspace)
    assert "ISMRMRD, 7 lines of 10, zero elsewhere, left: 1 lines of noise or calibration" in str(data.found)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trajectory_dimensions": 2}, "lines along trajectories, not on a grid"),
        ({"flags": 1 << 21}, "measured backward"),
        ({"flags": 1 << 18}, "no lines of a picture"),
    ],
)
def test_what_lies_on_no_grid_is_refused(fields, why, tmp_path):
    with pytest.raises(ValueError, match=rf"a.h5: dataset/data has .*{why}"):
        read(write(tmp_path / "a.h5", waves(1, 2, 5, 6), **fields))


def test_lists_that_claim_more_than_there_is_are_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "a.h5", waves(1, 2, 5, 6))
    content = path.read_bytes()
    at = content.index(b"GCOL")
    for place, damage in ((0, b"\0"), (8, b"\xff\xff\xff\xff\x0f"), (24, b"\xff\xff\xff\xff\x0f")):
        path.write_bytes(content[: at + place] + damage + content[at + place + len(damage) :])
        with pytest.raises(ValueError, match=r"a.h5: cannot be read as HDF5 \((the heap|a list claims)"):
            every(read(path))
