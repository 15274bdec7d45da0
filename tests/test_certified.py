"""Every fixed-grid method keeps what it claims: orders, one-step laws, local orders on uneven steps."""

from __future__ import annotations

import pytest
from helpers.gate import failures, methods

METHODS = methods()
pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize("name", METHODS)
def test_the_method_passes_the_gate(name: str) -> None:
    assert failures(METHODS[name]) == []
