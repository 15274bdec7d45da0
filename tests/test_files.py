"""Files of tensors where memory is short; what they hold is in tests/model and tests/training."""

from __future__ import annotations

import errno

import pytest
import torch
from helpers.limits import memory_left

from scorefield._files import read_json, read_tensors, tensor_heads, write_file, write_tensors


def test_a_file_for_which_there_is_no_memory_leaves_the_older_one(tmp_path):
    """safetensors would end the process. The file's copy of 64 MB fits; its buffers of 128 MB do not."""
    file, large = tmp_path / "a.safetensors", torch.zeros(1 << 24)
    write_tensors(file, {"x": torch.ones(3)})
    with memory_left(100 << 20), pytest.raises(MemoryError):
        write_tensors(file, {"x": large})
    assert torch.equal(read_tensors(file)[0]["x"], torch.ones(3)) and [*tmp_path.iterdir()] == [file]


def test_a_full_disk_is_named_with_the_file(tmp_path):
    """The system's error for it has no name; one that has keeps it."""

    def write(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"a\.txt") as said:
        write_file(tmp_path / "a.txt", write)
    assert said.value.errno == errno.ENOSPC and not [*tmp_path.iterdir()]
    with pytest.raises(FileNotFoundError, match=r"none"):
        write_file(tmp_path / "none" / "a.txt", write)


def test_a_name_that_is_given_twice_is_refused():
    with pytest.raises(ValueError, match="has the name 'b' twice"):
        read_json('{"a": {"b": 1, "c": 2, "b": 1}}')
    assert read_json('{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}


def test_heads_are_those_of_the_tensors(tmp_path):
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]
    tensors = {str(kind): torch.ones(2, k, dtype=kind) for k, kind in enumerate(kinds)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    heads = tensor_heads(tmp_path / "a.safetensors")
    assert {n: (v.shape, v.dtype) for n, v in heads.items()} == {n: (v.shape, v.dtype) for n, v in tensors.items()}
    assert all(v.is_meta for v in heads.values())
