"""BART, safetensors and torch's tensors: plain numbers behind a head."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from helpers.formats import cfl, every, tensors, torch_file, waves

from scorefield.data import read
from scorefield.data.formats import file_rows
from scorefield.data.formats.file_rows import FileRows

GENERATOR = torch.Generator().manual_seed(0)


def test_bart_s_axes_of_space_coils_and_samples(tmp_path, monkeypatch):
    """x y z coils maps, and what counts beyond; mutant: the first axis outermost."""
    monkeypatch.setattr(file_rows, "IN_MEMORY", 100)
    values = waves(4, 5, 1, 3, 1, 1, 2, 1, 1, 1, 6)
    data = read(cfl(tmp_path / "a.cfl", values))
    found = every(data)
    wanted = values[:, :, 0, :, 0, 0, :, 0, 0, 0].transpose(4, 3, 2, 0, 1).reshape(12, 3, 4, 5)
    assert isinstance(data.x, FileRows) and np.array_equal(found[:, 0::2] + 1j * found[:, 1::2], wanted)
    assert "BART's 4 x 5 x 1 x 3 x 1 x 1 x 2 x 1 x 1 x 1 x 6" in str(data.found)
    assert np.array_equal(every(read(tmp_path / "a.hdr")), found)


@pytest.mark.parametrize(
    "head", ["", "# Dimensions\n", "# Dimensions\n4 x\n", "# Dimensions\n4 5\n", "# Dimensions\n-4 -5\n", "\0" * 99]
)
def test_a_damaged_head_of_bart_is_refused(head, tmp_path):
    path = cfl(tmp_path / "a.cfl", waves(4, 6))
    path.with_suffix(".hdr").write_text(head)
    with pytest.raises(ValueError, match=r"a.cfl: cannot be read as BART"):
        read(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int16, torch.bool])
@pytest.mark.parametrize("kind", ["a.safetensors", "a.pt"])
def test_tensors_of_any_kind(kind, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(file_rows, "IN_MEMORY", 20)
    values = torch.randn(7, 3, generator=GENERATOR).mul(9).to(dtype)
    path = tmp_path / kind
    data = read(tensors(path, x=values) if kind == "a.safetensors" else torch_file(path, {"x": values}))
    index = torch.tensor([6, 1, 1, 4])
    assert torch.equal(data.rows(index).x.to(dtype), values[index])


def test_a_tensor_a_dictionary_and_a_list_of_torch(tmp_path):
    values = torch.randn(4, 3, generator=GENERATOR)
    assert torch.equal(read(torch_file(tmp_path / "a.pt", values)).x, values)
    both = read(torch_file(tmp_path / "b.pt", {"x": values, "labels": torch.tensor([0, 1, 2, 0]), "about": "text"}))
    assert both.classes == 3 and "left: about: str" in str(both.found)
    assert torch.equal(read(torch_file(tmp_path / "c.pt", (values, values + 1)), array="1").x, values + 1)


class Attack:
    def __reduce__(self):
        return (open, ("/dev/null",))


def test_a_file_of_torch_that_would_run_something_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.pt: .*not read, since it holds what could run code"):
        read(torch_file(tmp_path / "a.pt", Attack()))
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r"b.pt: "):
        read(tmp_path / "b.pt")


def test_a_head_of_safetensors_that_lies_is_refused(tmp_path):
    for offsets in ([0, 99999], [0, 8], [40, 64]):
        head = json.dumps({"x": {"dtype": "F32", "shape": [4, 4], "data_offsets": offsets}}).encode()
        (tmp_path / "a.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))
        with pytest.raises(ValueError, match=r"a.safetensors: cannot be read as safetensors"):
            read(tmp_path / "a.safetensors")
