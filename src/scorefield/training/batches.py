"""Batches addressed by the number of the step, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scorefield._device import moved
from scorefield._inputs import whole
from scorefield._noise import Noise
from scorefield.data import Affine, Dataset, Transform


class Batch(NamedTuple):
    """Clean samples in the model's space, their conditions, and the noise to train them with."""

    x0: Tensor
    cond: dict[str, Tensor]
    noise: Noise


class Batches:
    """Batch k is the k-th slice of a sequence of random permutations of the data: always full, each row equally often.

    Args:
        data: the rows.
        transform: from data to the model's space.
        size: samples in a batch.
        seed: of the permutations, the dequantisation and the training noise.
        device: where the batches are made.
        dtype: of the samples in the model's space: that of the model's weights.
        centred: put discrete data at the centres of their cells instead of dequantising them by uniform noise: for
            likelihoods by `TruncatedNormal` or by the decoder of `elbo`.
        cond_transform: from the units of the condition `cond` to the model's space, `Affine.of_conditions(data)`; None
            leaves it as it is.
    """

    def __init__(
        self,
        data: Dataset,
        transform: Transform,
        size: int,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        centred: bool = False,
        cond_transform: Affine | None = None,
    ) -> None:
        self.data, self.transform, self.size, self.seed = data, transform, whole(size, "the batch size"), seed
        self.device, self.dtype, self.centred = torch.device(device), dtype, centred
        self.cond_transform = cond_transform
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Batch:
        """The whole batch of a step."""
        return self.part(step, 0, self.size)

    def part(self, step: int, first: int, last: int) -> Batch:
        """The samples at the places first .. last - 1 of a step's batch: they are the same whoever asks for them."""
        n = len(self.data)
        places = torch.arange(step * self.size + first, step * self.size + last)
        index = torch.empty_like(places)
        for epoch in range(int(places[0]) // n, int(places[-1]) // n + 1):
            here = places // n == epoch
            index[here] = self._permutation(epoch)[places[here] % n]
        rows = self.data.rows(index)
        noise = Noise.per_batch(self.seed, self.size, range(first, last), device=self.device).at(step)
        x = moved(rows.x, self.device)
        u = None
        if self.transform.levels is not None:
            like = x.new_empty(x.shape, dtype=torch.float32)
            u = torch.full_like(like, 0.5) if self.centred else noise.child(1).uniform(like)
        cond = rows.cond
        if self.cond_transform is not None and "cond" in cond:
            cond = {**cond, "cond": self.cond_transform.forward(cond["cond"]).to(self.dtype)}
        cond = {name: moved(value, self.device) for name, value in cond.items()}
        return Batch(self.transform.forward(x, u).to(self.dtype), cond, noise.child(0))

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            words = Noise.per_batch(self.seed, 1).at(epoch).child(2).words(len(self.data))
            self._epoch, self._order = epoch, words[0, 0].argsort(stable=True)
        return self._order
