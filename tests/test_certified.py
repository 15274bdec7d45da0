"""Every fixed-grid method keeps what it claims: orders, one-step laws, local orders on uneven steps."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
from gate import failures, methods

METHODS = methods()


@pytest.fixture(autouse=True)
def without_checks() -> Iterator[None]:
    """Shapes are checked by the other tests; here it would take nine tenths of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", METHODS)
def test_the_method_passes_the_gate(name: str) -> None:
    assert failures(METHODS[name]) == []
