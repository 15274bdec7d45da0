"""Files of tensors where memory is short; what they hold is in tests/model and tests/training."""

from __future__ import annotations

import pytest
import torch
from helpers.limits import memory_left

from scorefield._files import read_tensors, write_tensors


def test_a_file_for_which_there_is_no_memory_leaves_the_older_one(tmp_path):
    """safetensors would end the process. The file's copy of 64 MB fits; its buffers of 128 MB do not."""
    file, large = tmp_path / "a.safetensors", torch.zeros(1 << 24)
    write_tensors(file, {"x": torch.ones(3)})
    with memory_left(100 << 20), pytest.raises(MemoryError):
        write_tensors(file, {"x": large})
    assert torch.equal(read_tensors(file)[0]["x"], torch.ones(3)) and [*tmp_path.iterdir()] == [file]
