"""Every test runs with shapes checked at run time, one thread's arithmetic, NaN wherever memory has not been filled,
and an untouched global generator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

assert "scorefield" not in sys.modules
install_import_hook("scorefield", "helpers.typecheck.check")
torch.set_num_threads(1)  # tensors here are small: threads would only wait for each other
torch.use_deterministic_algorithms(True)  # torch.empty gives NaN: a result that rests on it fails, and not by chance
os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start, as well


@pytest.fixture(autouse=True)
def untouched_generator() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "the test drew from torch's global generator"


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For tests of many small steps, nine tenths of whose time the checks of shapes would take."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
