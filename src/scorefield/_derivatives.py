"""Where derivatives are taken, whatever mode of torch the caller is in.

`torch.enable_grad()` undoes `torch.no_grad()` but not `torch.inference_mode()`: inside that nothing is recorded,
results say that they depend on nothing, and tensors that are made there cannot take part in a derivative later on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def recording() -> Generator[None]:
    """Inside the block operations are recorded, so that derivatives can be taken of them.

    Raises:
        ValueError: something in the block was made in inference mode, such as weights.
    """
    with torch.inference_mode(False), torch.enable_grad(), _explained():
        yield


@contextlib.contextmanager
def unrecorded() -> Generator[None]:
    """Inside the block nothing is recorded but what asks for it by `recording` or `torch.enable_grad`."""
    with torch.inference_mode(False), torch.no_grad(), _explained():
        yield


@contextlib.contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise ValueError(
            "weights or data were made inside torch.inference_mode(), and such tensors have no derivatives: make, load "
            "and move networks, operators and data outside of it"
        ) from error


def lasting(x: Tensor) -> Tensor:
    """The same numbers as a tensor that can be recorded; a copy if it was made in inference mode."""
    if not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()


def with_lasting_buffers(module: object) -> None:
    """Gives a module that was made in inference mode buffers that can be recorded, of the same numbers."""
    for part in module.modules() if isinstance(module, nn.Module) else ():
        for name, value in part.named_buffers(recurse=False):
            setattr(part, name, lasting(value))


def leaf(x: Tensor) -> Tensor:
    """The same numbers by themselves, for derivatives by them."""
    return lasting(x.detach()).requires_grad_()


def followed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x), of which torch has seen how it depends on x, if a derivative by x is wanted.

    Raises:
        ValueError: f changes with x and hides how: its derivative would count as 0.
    """
    value = function(x)
    if torch.is_grad_enabled() and x.requires_grad and not value.requires_grad:
        _require_constant(function, x, value)
    return value


def _require_constant(function: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> None:
    if not torch.equal(function((0.5 * x).detach()), value):
        raise ValueError(
            "a derivative is needed of a function whose values change, though torch sees none: make it of torch's "
            "operations, without detach, no_grad or NumPy"
        )


def traced(
    function: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor | None = None, batched: bool = False
) -> tuple[Tensor, Tensor | None]:
    """As `pulled_back`, with None for the derivative of a constant."""
    outer = torch.is_grad_enabled() and x.requires_grad
    with recording():
        inner, found = x if outer else leaf(x), None
        value = function(inner)
        if value.requires_grad:
            v = torch.ones_like(value) if vectors is None else lasting(vectors)
            (found,) = torch.autograd.grad(
                value, inner, v, is_grads_batched=batched, create_graph=outer, allow_unused=True
            )
        if found is None:  # f is a constant, or made of what torch cannot see
            _require_constant(function, inner, value)
    return value if outer else value.detach(), found


def pulled_back(
    function: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor | None = None, batched: bool = False
) -> tuple[Tensor, Tensor]:
    """f(x) and v^T df/dx, which is 0 if f is constant; gradients pass through both if they do through x.

    Args:
        function: f.
        x: where.
        vectors: v, of the shape of f(x), ones by default; with `batched` several along a first axis.
        batched: whether they are several.

    Raises:
        ValueError: f changes with x and hides how.
    """
    value, found = traced(function, x, vectors, batched)
    if found is None:
        shape = (len(vectors), *x.shape) if batched and vectors is not None else x.shape
        found = x.new_zeros(shape)
    return value, found
