"""Batches are functions of their number and seed, and see every row equally often."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats
from test_train import OBJECTIVE, batches, denoiser

from scorefield import Noise
from scorefield.data import Affine, ArrayDataset, Rows
from scorefield.training import Batches
from scorefield.training.loop import BatchSource


@pytest.mark.parametrize(("n", "size"), [(7, 3), (6, 3), (5, 12), (1, 4), (20, 1)])
def test_batches_are_full_and_see_each_row_equally_often(n, size):
    source = Batches(ArrayDataset(torch.arange(float(n))), Affine(), size, seed=0)
    assert isinstance(source, BatchSource)
    seen = torch.zeros(n)
    for k in range(3 * n // size + 3):
        x = source[k].x0
        assert len(x) == size
        seen += torch.bincount(x.long(), minlength=n)
        assert seen.max() - seen.min() <= 1


def test_each_pass_over_the_data_has_an_order_of_its_own():
    def order(seed):
        source = Batches(ArrayDataset(torch.arange(4.0)), Affine(), 4, seed=seed)
        return [tuple(source[k].x0.long().tolist()) for k in range(480)]

    orders = order(0)
    counts = [orders.count(p) for p in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > 1e-6  # false-positive rate 1e-6
    assert sum(counts) == 480 and orders != order(1)


def described(batch):
    like = torch.empty(len(batch.x0), 3)
    return [
        batch.x0,
        batch.cond["label"],
        batch.noise.normal(like),
        batch.noise.stratified(),
    ]


def discrete(seed=3, size=4):
    x = torch.arange(10, dtype=torch.uint8)[:, None].repeat(1, 2)
    return Batches(ArrayDataset(x, torch.arange(10), levels=10), Affine.of_levels(10), size, seed=seed)


def test_a_batch_is_a_function_of_its_number_and_seed():
    used, fresh = discrete(), discrete()
    for k in (5, 0, 3, 5, 17, 2):
        used[k]
    for k in (3, 17, 0):
        for a, b in zip(described(used[k]), described(fresh[k]), strict=True):
            assert torch.equal(a, b)
    for k, other in ((0, discrete()[1]), (0, discrete(seed=4)[0])):
        for a, b in zip(described(fresh[k]), described(other), strict=True):
            assert not torch.equal(a, b)


def test_a_sample_meets_other_noise_each_time_it_is_seen():
    source = discrete(size=10)
    visits = [source[k] for k in range(3)]
    for batch in visits:
        assert torch.equal(Affine.of_levels(10).inverse(batch.x0)[:, 0].long(), batch.cond["label"])
    by_label = [batch.x0[batch.cond["label"].argsort()] for batch in visits]
    for a, b in itertools.combinations(by_label, 2):
        assert not torch.isin(a, b).any()  # dequantised anew


def test_the_noise_of_a_batch_is_that_of_its_rows_wherever_they_are_computed():
    batch = batches(size=6)[4]
    whole = batch.noise.normal(torch.empty(6, 5))
    part = Noise.per_batch(1, 6, positions=[1, 4]).at(4).child(0)
    assert torch.equal(part.normal(torch.empty(2, 5)), whole[[1, 4]])
    assert torch.equal(part.stratified(), batch.noise.stratified()[[1, 4]])
    model = denoiser()
    losses = OBJECTIVE(model, batch.x0, noise=batch.noise, **batch.cond)
    alone = OBJECTIVE(model, batch.x0[[1, 4]], noise=part, label=batch.cond["label"][[1, 4]])
    torch.testing.assert_close(alone, losses[[1, 4]])


class Streamed:
    """A data set that is no array: row i is made when it is asked for."""

    event_shape, classes, levels = (2,), 0, None

    def __len__(self):
        return 9

    def rows(self, index):
        return Rows(torch.stack((index, -index), 1).float(), {})


def test_any_data_set_makes_batches_and_an_empty_batch_is_refused():
    x = Batches(Streamed(), Affine(0.0, 2.0), 9, seed=0)[0].x0
    assert sorted(x[:, 0].tolist()) == [k / 2 for k in range(9)] and torch.equal(x[:, 1], -x[:, 0])
    with pytest.raises(ValueError, match=r"batch size .* got 0"):
        Batches(Streamed(), Affine(), 0, seed=0)
