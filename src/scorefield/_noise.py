"""Random numbers as a pure function of (key, index, step, draw), so that results do not depend on batching.

Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 64-bit key and a 128-bit
counter to 128 random bits. Here the counter's words are (element / 4, step, index, draw):

    sampling   key = the sample's own seed      index = 0
    training   key = the run's seed             index = the sample's place in the global batch

Nothing is stored between calls: a sample is the same alone or in any batch, and a resumed run needs no generator state.
The words are the same integers on every device; the normals made of them may differ in their last bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._device import moved
from scorefield._inputs import Seeds, as_seeds
from scorefield._shapes import event_size

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
DRAWS = 16  # draws that one step may make under one name
CHILDREN = 256  # parts that one composite may have
BLOCK = 1 << 15  # normals drawn ahead for the coming steps of a small state


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The four output words of Philox 4x32-10 for broadcastable int64 tensors that hold 32-bit words."""
    # torch's int64 product wraps modulo 2**64, which keeps both 32-bit halves of the product; c1 and c3 may carry
    # rubbish above bit 31 that the masks of the next round remove.
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for round_ in range(10):
        if round_:
            k0, k1 = (k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((p1 >> 32) ^ (c1 ^ k0)) & MASK, ((p0 >> 32) ^ (c3 ^ k1)) & MASK
        c1, c3 = p1, p0
    return c0, c1 & MASK, c2, c3 & MASK


@runtime_checkable
class NoiseSource(Protocol):
    """What a solver asks of its noise; certification passes one that returns basis vectors instead."""

    def at(self, step: int) -> NoiseSource:
        """The source of step `step`."""
        ...

    def child(self, part: int) -> NoiseSource:
        """An independent source for a part of a composite solver."""
        ...

    def select(self, rows: Int64[Tensor, "m"]) -> NoiseSource:
        """The source of some of the samples."""
        ...

    def normal(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Standard normals of the shape, dtype and device of `like`; `draw` names this use within the step."""
        ...

    def uniform(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Uniform numbers in (0, 1) of the same."""
        ...


class Noise:
    """Counter-based random numbers for one batch.

    Build it with `Noise.per_sample(seeds)` to sample, or `Noise.per_batch(seed, size)` to train; then `at(step)` names
    the step, `child(part)` the part of a composite, and each method takes the `draw` it is used for. Equal names give
    equal numbers.
    """

    def __init__(
        self,
        key: Int64[Tensor, "b"],
        index: Int64[Tensor, "b"],
        size: int | None = None,
        step: int = 0,
        steps: int = 0,
        node: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._key, self._index, self._size = key, index, size
        self._step, self._steps, self._node = step, steps, node
        self._device = torch.device(device)
        self._ahead: dict[tuple[int, torch.dtype, torch.Size], tuple[int, Tensor]] = {}

    @classmethod
    def per_sample(cls, seeds: Seeds, device: torch.device | str = "cpu") -> Noise:
        """Noise keyed by one 64-bit seed a sample.

        Args:
            seeds: b integers in [-2^63, 2^64).
            device: where the numbers are made.
        """
        key = as_seeds(seeds).cpu()
        return cls(key, torch.zeros_like(key), device=device)

    @classmethod
    def per_batch(
        cls, seed: int, size: int, positions: Iterable[int] | None = None, device: torch.device | str = "cpu"
    ) -> Noise:
        """Noise keyed by one seed for a global batch of `size` samples, of which this process holds `positions`."""
        places = list(range(size) if positions is None else positions)
        if places and not 0 <= min(places) <= max(places) < size:
            raise ValueError(f"positions must lie in [0, {size}), the global batch; got {min(places)}..{max(places)}")
        index = torch.tensor(places, dtype=torch.int64)
        return cls(as_seeds([seed]).expand(len(index)), index, size, device=device)

    def __len__(self) -> int:
        return len(self._key)

    def at(self, step: int) -> Noise:
        """The noise of step `step`, 0 <= step < 2^32."""
        if not 0 <= step <= MASK:
            raise ValueError(f"a step number must lie in [0, 2^32); got {step}")
        other = Noise(self._key, self._index, self._size, step, self._steps, self._node, self._device)
        other._ahead = self._ahead
        return other

    def until(self, steps: int) -> Noise:
        """Promises that the steps up to `steps` follow, so that small states are drawn for many steps in one call."""
        return Noise(self._key, self._index, self._size, self._step, steps, self._node, self._device)

    def child(self, part: int) -> Noise:
        """The noise of part `part` of a composite: nodes of a tree with 256 children each, numbered level by level."""
        node = self._node * CHILDREN + part + 1
        if not 0 <= part < CHILDREN or (node + 1) * DRAWS > MASK:
            raise ValueError(
                f"noise splits into parts 0..{CHILDREN - 1}, three levels deep; got part {part} of node {self._node}"
            )
        other = Noise(self._key, self._index, self._size, self._step, self._steps, node, self._device)
        other._ahead = self._ahead
        return other

    def select(self, rows: Int64[Tensor, "m"]) -> Noise:
        """The noise of some of the samples: each keeps its own numbers."""
        rows = rows.cpu()
        return Noise(self._key[rows], self._index[rows], self._size, self._step, node=self._node, device=self._device)

    def words(self, count: int, draw: int = 0, steps: int = 1) -> Int64[Tensor, "steps b count"]:
        """`count` random 32-bit words a sample for this step and the `steps - 1` after it."""
        return self._words(count, draw, steps, self._device)

    def _words(self, count: int, draw: int, steps: int, device: torch.device) -> Int64[Tensor, "steps b count"]:
        if not 0 <= draw < DRAWS:
            raise ValueError(f"draw must lie in [0, {DRAWS}); got {draw}: split the noise with child() instead")
        key, index = moved(self._key, device), moved(self._index, device)
        block = torch.arange((count + 3) // 4, device=device)
        step = torch.arange(self._step, self._step + steps, device=device)[:, None, None]
        counter = block, step, index[:, None], torch.tensor(self._node * DRAWS + draw, device=device)
        words = philox(counter, ((key & MASK)[:, None], ((key >> 32) & MASK)[:, None]))
        return torch.stack(words, -1).flatten(2)[..., :count]

    def normal(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Standard normals of the shape, dtype and device of `like`.

        Box-Muller on pairs of 32-bit words, evaluated in float64 for float64 and in float32 otherwise, so both
        precisions give the same numbers up to rounding; the largest modulus is sqrt(66 ln 2) = 6.76.
        """
        size = self._event_size(like)
        remaining = self._steps - self._step
        if remaining > 1 and 2 * len(self) * size <= BLOCK:
            name = self._node * DRAWS + draw, like.dtype, like.shape
            first, drawn = self._ahead.get(name, (0, None))
            if drawn is None or not first <= self._step < first + len(drawn):
                first, steps = self._step, min(remaining, BLOCK // (len(self) * size))
                drawn = _normals(self.words(size + size % 2, draw, steps), size, like.dtype)
                drawn = drawn.reshape(steps, *like.shape)
                self._ahead[name] = first, drawn
            return drawn[self._step - first].to(like.device, copy=True)
        return _normals(self.words(size + size % 2, draw), size, like.dtype).reshape(like.shape).to(like.device)

    def rademacher(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Signs +1 and -1 of equal probability, of the shape, dtype and device of `like`."""
        words = self.words(self._event_size(like), draw)[0]
        return ((words & 1) * 2 - 1).reshape(like.shape).to(like)

    def uniform(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Uniform numbers in (0, 1) with 32 random bits, of the shape, dtype and device of `like`."""
        words = self._words(self._event_size(like), draw, 1, like.device)[0]
        # (word + 1/2) / 2^32 as an integer over 2^33, which is rounded once in any precision
        u = (2 * words + 1).to(_working(like.dtype)) * 2.0**-33
        # narrower formats would round the smallest words to 0 and the largest to 1
        limits = torch.finfo(like.dtype)
        return u.reshape(like.shape).to(like.dtype).clamp(limits.tiny, 1 - limits.eps / 2)

    def shared(self, draw: int = 0) -> float:
        """One uniform number in (0, 1) for the whole batch, wherever its parts are."""
        first = Noise(self._key[:1], torch.zeros_like(self._index[:1]), step=self._step, node=self._node)
        return float((first.words(1, draw)[0, 0, 0].double() + 0.5) * 2.0**-32)

    def stratified(self, draw: int = 0) -> Float[Tensor, "b"]:
        """Uniform numbers (u + i/N) mod 1 in float64 on the host, u one for the batch, i the place in it, N its size.

        Each is uniform in [0, 1), and together they cover it evenly, which lowers the variance of a batch's mean
        (Kingma et al. 2021, "Variational diffusion models", appendix I.1).
        """
        if self._size is None:
            raise ValueError("stratified numbers belong to a batch with one seed: use Noise.per_batch")
        return (self.shared(draw) + self._index.double() / self._size) % 1.0

    def _event_size(self, like: Tensor) -> int:
        if like.ndim == 0 or len(like) != len(self):
            raise ValueError(f"this noise is for {len(self)} samples; got a tensor of shape {tuple(like.shape)}")
        return event_size(like)


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _normals(words: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    uniforms = words.to(_working(dtype)).add_(0.5).mul_(2.0**-32).unflatten(-1, (-1, 2))
    radius = uniforms[..., 0].log().mul_(-2).sqrt_()
    angle = uniforms[..., 1] * (2 * math.pi)
    normals = torch.stack((radius * angle.cos(), radius * angle.sin()), -1).flatten(-2)
    return normals[..., :size].to(dtype)
