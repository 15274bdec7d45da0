"""Weights under other names and in other shapes, one line of the dictionary for each tensor of ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from scorefield.nn import Network, seeded

Net = TypeVar("Net", bound=Network)


def _first(*tensors: Tensor) -> Tensor:
    return tensors[0]


def _alone(tensor: Tensor) -> Sequence[Tensor]:
    return (tensor,)


@dataclass(frozen=True)
class Line:
    """A tensor of ours and the others that it is made of.

    Args:
        own: our name.
        others: their names.
        join: makes ours of theirs, by default takes it as it is.
        split: makes theirs of ours.
    """

    own: str
    others: Sequence[str]
    join: Callable[..., Tensor] = _first
    split: Callable[[Tensor], Sequence[Tensor]] = _alone


def layer(own: str, other: str) -> Iterator[Line]:
    """A layer that has a weight and a bias there as here."""
    yield Line(f"{own}.weight", (f"{other}.weight",))
    yield Line(f"{own}.bias", (f"{other}.bias",))


def stacked(own: str, others: Sequence[str]) -> Line:
    """A tensor of ours whose rows are those of several there, such as queries, keys and values."""

    def split(x: Tensor) -> Sequence[Tensor]:
        return x.chunk(len(others))

    return Line(own, others, _stack, split)


def interleaved(own: str, other: str, heads: int, squeezed: bool = False) -> Line:
    """The rows of queries, keys and values, which alternate there within each head; ours follow each other.

    Args:
        own: our name.
        other: theirs.
        heads: of attention.
        squeezed: theirs is a convolution of size 1, ours a linear map.
    """

    def join(theirs: Tensor) -> Tensor:
        theirs = theirs[..., 0, 0] if squeezed else theirs
        return theirs.reshape(heads, -1, 3, *theirs.shape[1:]).movedim(2, 0).flatten(0, 2)

    def split(ours: Tensor) -> Sequence[Tensor]:
        theirs = ours.reshape(3, heads, -1, *ours.shape[1:]).movedim(0, 2).flatten(0, 2)
        return (theirs[..., None, None] if squeezed else theirs,)

    return Line(own, (other,), join, split)


def _stack(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


def loaded(
    build: Callable[[], Net],
    lines: Callable[[Net], Iterable[Line]],
    others: Mapping[str, Tensor],
    where: str,
    unused: Collection[str] = (),
) -> Net:
    """A network with the weights of a file.

    Names and shapes are compared before any memory is taken for a network of the size that a configuration asks for.

    Args:
        build: makes the network.
        lines: its dictionary.
        others: their tensors by name.
        where: file that they are from.
        unused: names of theirs that may be there and that we do without.

    Raises:
        ValueError: some are missing, unexpected, of another shape or not finite numbers; all of them are named.
    """
    with torch.device("meta"):
        shape = build()
    tensors = translated(others, lines(shape), shape.state_dict(), where, unused)
    with seeded(0):
        net = build()
    net.load_state_dict(tensors)
    return net


def translated(
    others: Mapping[str, Tensor],
    lines: Iterable[Line],
    wanted: Mapping[str, Tensor],
    where: str,
    unused: Collection[str] = (),
) -> dict[str, Tensor]:
    """Our tensors, made of theirs; of `wanted` only names and shapes count. See `loaded`."""
    found: dict[str, Tensor] = {}
    used, problems = set(unused), list[str]()
    for line in lines:
        used |= set(line.others)
        absent = [name for name in line.others if name not in others]
        problems += [f"missing {name}" for name in absent]
        if not absent:
            theirs = [others[name] for name in line.others]
            shapes = [tuple(x.shape) for x in line.split(wanted[line.own])]
            differ = [
                f"{name} {fault}"
                for name, x, shape in zip(line.others, theirs, shapes, strict=True)
                if (fault := _fault(x, shape))
            ]
            problems += differ
            if not differ:
                found[line.own] = line.join(*theirs).to(wanted[line.own].dtype)
    problems += [f"unexpected {name}" for name in others if name not in used]
    refuse(problems, where)
    return found


def _fault(x: Tensor, shape: tuple[int, ...]) -> str:
    """What is wrong with a weight, if anything is."""
    if x.layout is not torch.strided or x.is_quantized or x.is_nested or x.is_meta:
        return "is not stored as plain numbers: store it dense"
    if x.numel() * x.element_size() > x.untyped_storage().nbytes():
        return f"has {x.untyped_storage().nbytes()} bytes for the shape {tuple(x.shape)}"
    if not x.is_floating_point():
        return f"holds {x.dtype} instead of real numbers"
    if tuple(x.shape) != shape:
        return f"has shape {tuple(x.shape)} instead of {shape}"
    return "" if bool(torch.isfinite(x).all()) else "holds numbers that are not finite"


def translated_back(own: Mapping[str, Tensor], lines: Iterable[Line]) -> dict[str, Tensor]:
    """Their tensors, made of ours."""
    return {
        name: x.contiguous() for line in lines for name, x in zip(line.others, line.split(own[line.own]), strict=True)
    }


def without_prefix(others: Mapping[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    """Their tensors without the prefix that wrappers give to names."""
    found = {str(name).removeprefix(prefix): value for name, value in others.items()}
    if len(found) < len(others):
        raise ValueError(f"{where}: has tensors both with and without the prefix {prefix!r}: not read")
    return found


def refuse(problems: Sequence[str], where: str) -> None:
    """Raises an error that lists what is wrong with a file, if anything is."""
    if problems:
        more = f" and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise ValueError(
            f"{where}: its tensors are not those of the network that its configuration describes: "
            f"{'; '.join(problem[:200] for problem in problems[:12])}{more}"
        )
