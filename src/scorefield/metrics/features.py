"""From samples to the numbers in which they are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from scorefield._derivatives import unrecorded
from scorefield._files import digest
from scorefield._memory import check_fits


class Features(NamedTuple):
    """Features of samples, and logits of classes from extractors that have them.

    Attributes:
        values: (n, d).
        logits: (n, classes) or None.
    """

    values: Tensor
    logits: Tensor | None = None

    def kept(self) -> Features:
        """The same numbers on the CPU, without gradients, half precision as float32."""
        values, logits = (
            None if v is None else v.detach().cpu().to(torch.promote_types(v.dtype, torch.float32)) for v in self
        )
        assert values is not None
        return Features(values, logits)

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """The features of several sets as of one."""
        logits = [part.logits for part in parts if part.logits is not None]
        return Features(
            torch.cat([part.values for part in parts]), torch.cat(logits) if len(logits) == len(parts) else None
        )


class FeatureExtractor(nn.Module, ABC):
    """Makes features of samples in the data's own units.

    Attributes:
        name: what results are named by, such as `FD-pixels`.
    """

    name: str

    @abstractmethod
    def forward(self, x: Shaped[Tensor, "b *event"]) -> Features:
        """Features of samples, each of its own sample alone."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, the first 16 digits; "" without weights. Equal digests make results comparable."""
        state = self.state_dict()
        return digest(state)[:16] if state else ""

    @property
    def label(self) -> str:
        """Name and digest, which statistics are kept with."""
        return f"{self.name} {self.digest}".strip()

    @property
    def facts(self) -> dict[str, float]:
        """What else a report should say of it."""
        return {}

    def named(self, metric: str) -> str:
        """The name of a metric of these features, such as FD-pixels."""
        return f"{metric}-{self.name}"


class Pixels(FeatureExtractor):
    """The samples' own numbers: for points, small signals and other data of low dimension."""

    name = "pixels"

    def forward(self, x: Shaped[Tensor, "b *event"]) -> Features:
        """The numbers in a row."""
        return Features(x.reshape(len(x), -1).double())


class ModuleFeatures(FeatureExtractor):
    """Features by a module of yours, also one that `torch.jit.load` gave.

    Args:
        module: takes float samples (b, *event) and gives (b, d), or a tuple of that and logits; as many logits as
            the data have classes are taken to be of these.
        name: what results are named by.
        prepare: from samples in the data's units to what the module takes, such as `lambda x: x / 255`.
    """

    def __init__(self, module: nn.Module, name: str, prepare: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.module, self.name, self.prepare = module.eval(), name, prepare

    def forward(self, x: Shaped[Tensor, "b *event"]) -> Features:
        """The module's output."""
        made = self.module(x.float() if self.prepare is None else self.prepare(x))
        values, logits = made if isinstance(made, tuple) else (made, None)
        if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != len(x):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{self.name}: wanted features of shape ({len(x)}, d) of {len(x)} samples; got {got}")
        return Features(values, logits)


@unrecorded()
def extract(extractor: FeatureExtractor, x: Shaped[Tensor, "n *event"], batch_size: int = 64) -> Features:
    """Features of samples, computed in batches on the extractor's device and kept in memory, in float32 at least.

    The extractor is put into evaluation mode.
    """
    if not len(x):
        raise ValueError("wanted at least one sample")
    extractor.eval()
    state = next(iter(extractor.state_dict().values()), x)
    parts: list[Features] = []
    for some in x.split(batch_size):
        parts.append(extractor(some.to(state.device)).kept())
        if len(parts) == 1:
            values = parts[0].values
            check_fits(2 * len(x) * values[0].nbytes // 8, f"{len(x)} samples with {values.shape[1]} features")
    return Features.joined(parts)
