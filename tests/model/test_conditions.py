"""Conditions in their own units: a model of kelvin is that of the standardised numbers, by whatever method."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from helpers.described import undigested
from helpers.networks import awake

import scorefield as sf
from scorefield.data import Affine, ArrayDataset
from scorefield.guidance import MomentMatching
from scorefield.nn import MLP, UNet, seeded
from scorefield.operators import Gaussian, Identity

pytestmark = pytest.mark.usefixtures("unchecked")

KELVIN = Affine((280.0, 101_325.0), (8.0, 0.5))  # kelvin and pascal
Z = torch.tensor([[-1.0, 0.5], [2.0, -3.0], [0.0, 1.0]], dtype=torch.float64)
OWN = KELVIN.inverse(Z)  # the same in their units
SEEDS = range(3)


def denoiser(event_shape=(2,), **arguments):
    with seeded(0):
        net = awake(MLP(event_shape, features=16, blocks=1, **arguments))
    return sf.Preconditioned(net, sf.VP(), sf.EDMPrecond(1.0)).eval()


def models(**arguments):
    """The model of conditions in their units, and that of the standardised ones."""
    made = denoiser(cond_features=2, **arguments)
    classes = arguments.get("classes", 0)
    return sf.ScoreModel(made, (2,), classes=classes, cond_transform=KELVIN), sf.ScoreModel(made, (2,), classes=classes)


X = torch.tensor([[0.3, -0.2], [1.0, 0.4], [-0.7, 0.1]])
METHODS = {
    "sample": lambda m, c: m.sample(seeds=SEEDS, steps=3, cond=c),
    "log_prob": lambda m, c: m.log_prob(X, steps=2, cond=c).nats,
    "elbo": lambda m, c: m.elbo(X, draws=8, cond=c).nats,
    "noise_profile": lambda m, c: m.elbo(X, draws=8, profile=m.noise_profile(X, cond=c), cond=c).nats,
    "encode": lambda m, c: m.encode(X, steps=2, cond=c),
    "decode": lambda m, c: m.decode(X, steps=2, cond=c),
    "score": lambda m, c: m.score(X, 0.3, cond=c),
    "given": lambda m, c: m.given(cond=c)(X, torch.tensor(0.3).double()),
    "guided": lambda m, c: m.guided(m.denoiser).sample(seeds=SEEDS, steps=3, cond=c),
    "measured": lambda m, c: m.guided(
        MomentMatching(m.given(cond=c), *m.measured(Identity(), X, Gaussian(0.3)))
    ).sample(seeds=SEEDS, steps=3),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_conditions_in_their_units(method):
    """Mutants: `guided` without its cond_transform; `given` that leaves conditions as they are."""
    own, plain = models()
    answer = METHODS[method]
    wanted = answer(plain, Z.float())
    torch.testing.assert_close(answer(own, OWN), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(answer(own, OWN.flip(0)), wanted, rtol=1e-2, atol=1e-2)  # they have an effect


def test_units_do_not_change_what_is_learnt():
    """An affine change of the conditions' units changes a model by rounding alone.

    Mutants: `fit` without standardisation; one scale for all conditions.
    """
    g = np.random.default_rng(0)
    c = g.normal(size=(300, 2))
    x = torch.tensor(c + 0.2 * g.normal(size=(300, 2))).float()
    found = []
    for a, b in ((1.0, 0.0), (8.0, 280.0), (np.array([1e-3, 1e6]), np.array([5.0, 1.7e9]))):
        with seeded(0):
            net = MLP((2,), features=16, blocks=1, cond_features=2)
        model = sf.fit(net, ArrayDataset(x, cond=torch.tensor(a * c + b)), steps=20, seed=0)
        awake(model.denoiser.net)
        assert model.cond_transform is not None
        np.testing.assert_allclose(model.cond_transform.shift, (a * c + b).mean(0), rtol=1e-12)
        np.testing.assert_allclose(model.cond_transform.scale, (a * c + b).std(0), rtol=1e-6)
        asked = torch.tensor(a * np.array([[-1.0, 1.0], [1.0, 0.0]]) + b)
        found.append(model.sample(seeds=range(2), steps=4, cond=asked))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=2e-3)


def test_channels_of_a_conditioning_image_are_standardised_each_by_itself():
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([30.0, 0.01])[:, None, None]
    cond = 5 + scale * torch.randn(40, 2, 4, 4, generator=g)
    data = ArrayDataset(torch.randn(40, 1, 4, 4, generator=g), cond=cond)
    with seeded(0):
        model = sf.fit(UNet((1, 4, 4), channels=(4,), blocks=1, cond_channels=2), data, steps=1, seed=0)
    awake(model.denoiser.net)
    z = (cond[:3] - cond.mean((0, 2, 3), keepdim=True)) / cond.std((0, 2, 3), keepdim=True, correction=0)
    plain = sf.ScoreModel(model.denoiser, (1, 4, 4), model.transform)
    wanted = plain.sample(seeds=SEEDS, steps=2, cond=z)
    torch.testing.assert_close(model.sample(seeds=SEEDS, steps=2, cond=cond[:3]), wanted, rtol=1e-4, atol=1e-4)


def test_the_standardisation_is_saved_and_older_files_have_none(tmp_path):
    """Mutant: a saved model that loses it."""
    own, plain = models()
    own.save(tmp_path)
    loaded = sf.ScoreModel.load(tmp_path)
    assert loaded.cond_transform == KELVIN
    assert torch.equal(loaded.sample(seeds=SEEDS, steps=2, cond=OWN), own.sample(seeds=SEEDS, steps=2, cond=OWN))
    config = json.loads(undigested(tmp_path))
    del config["cond_transform"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    older = sf.ScoreModel.load(tmp_path)
    wanted = plain.sample(seeds=SEEDS, steps=2, cond=Z.float())
    assert torch.equal(older.sample(seeds=SEEDS, steps=2, cond=Z.float()), wanted)


# one row for many samples


@pytest.mark.parametrize("batch_size", [None, 2])
def test_one_row_is_for_all_samples(batch_size):
    """Mutant: a row for all that is taken for that of the first sample."""
    own, _ = models()
    repeated = OWN[:1].expand(5, 2)
    wanted = own.sample(seeds=range(5), steps=3, batch_size=batch_size, cond=repeated)
    for row in (OWN[:1], OWN[0]):
        assert torch.equal(own.sample(seeds=range(5), steps=3, batch_size=batch_size, cond=row), wanted)
    given = own.guided(own.given(cond=OWN[:1]))
    assert torch.equal(given.sample(seeds=range(5), steps=3, batch_size=batch_size), wanted)
    x = X[[0, 1, 2, 0, 1]]
    found = own.log_prob(x, steps=2, batch_size=batch_size, cond=OWN[:1]).nats
    assert torch.equal(found, own.log_prob(x, steps=2, batch_size=batch_size, cond=repeated).nats)


def test_one_conditioning_image_is_for_all_samples():
    with seeded(0):
        net = awake(UNet((1, 4, 4), channels=(4,), blocks=1, cond_channels=1))
    model = sf.ScoreModel(sf.Preconditioned(net, sf.VP(), sf.EDMPrecond(1.0)).eval(), (1, 4, 4))
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 8
    wanted = model.sample(seeds=SEEDS, steps=2, cond=image.repeat(3, 1, 1, 1))
    assert torch.equal(model.sample(seeds=SEEDS, steps=2, cond=image), wanted)


# what cannot be meant


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        (OWN[:2], "a row of 'cond' for each of 3 samples, or one for all; got 2"),
        (OWN[:, :1], r"cond of shape \(n, 2\); got \(3, 1\)"),
        (torch.cat((OWN, OWN), 1), r"cond of shape \(n, 2\); got \(3, 4\)"),
        (OWN * torch.tensor([1.0, torch.nan]), "3 values that are NaN"),
        (OWN + torch.tensor([[0.0, torch.inf], [0, 0], [0, 0]]), "1 values that are NaN or infinite"),
    ],
)
def test_impossible_conditions_are_refused(cond, message):
    with pytest.raises(ValueError, match=message):
        models()[0].sample(seeds=SEEDS, steps=2, cond=cond)


@pytest.mark.parametrize("place", [0, 1])
def test_conditions_in_other_units_are_said(place):
    """Degrees Celsius for kelvin, hectopascal for pascal; what lies within ten standard deviations is taken."""
    own, _ = models()
    other = OWN.clone()
    other[1, place] = (7.0, 1013.25)[place]
    with pytest.warns(
        UserWarning, match=rf"number {place} of cond is {(7, 1013.25)[place]} where .*{(280, 101325)[place]}"
    ):
        own.sample(seeds=SEEDS, steps=2, cond=other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.sample(seeds=SEEDS, steps=2, cond=KELVIN.inverse(torch.full((1, 2), 9.9, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("column", "scale"),
    [(np.full(200, 280.0), 280.0), (np.zeros(200), 1.0), (np.full(200, 0.1), 0.1)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_condition_that_does_not_vary_is_said_and_does_no_harm(column, scale, dtype):
    """Mutant: its rounding errors as a standard deviation."""
    values = np.random.default_rng(0).normal(size=200)
    column = column * (1 + 1e-16 * np.sign(values))  # within rounding
    cond = torch.tensor(np.stack((values, column), 1), dtype=dtype)
    data = ArrayDataset(torch.zeros(200, 2), cond=cond)
    with pytest.warns(UserWarning, match="numbers 1 do not vary"):
        transform = Affine.of_conditions(data)
    assert transform is not None
    assert transform.scale[1] == pytest.approx(scale, rel=1e-6)
    assert float(transform.forward(cond)[:, 1].abs().max()) < 1e-5


def test_small_differences_of_large_conditions_are_kept():
    """Mutant: a threshold for constants that is absolute."""
    hours = 1.7e9 + 3600 * torch.arange(100, dtype=torch.float64)
    transform = Affine.of_conditions(ArrayDataset(torch.zeros(100, 2), cond=hours[:, None]))
    assert transform is not None
    z = transform.forward(hours[:, None])[:, 0]
    torch.testing.assert_close(z.diff(), torch.full((99,), 3600 / float(hours.std(correction=0)), dtype=torch.float64))


def test_data_without_conditions_have_no_standardisation():
    data = sf.data.two_moons(40)
    assert Affine.of_conditions(data) is None
    with seeded(0):
        net = MLP((2,), 2, features=8, blocks=1)
    assert sf.fit(net, data, steps=1, seed=0).cond_transform is None


class Own:
    """A data set of one's own, whose conditions come with its samples."""

    event_shape, classes, levels = (2,), 0, None

    def __init__(self, cond):
        self.cond = cond

    def __len__(self):
        return len(self.cond)

    def rows(self, index):
        return sf.data.Rows(torch.zeros(len(index), 2), {"cond": self.cond[index]})


def test_conditions_of_part_of_any_data_set():
    """Mutant: the moments of the whole data, of which the held-out rows are others."""
    cond = torch.arange(60.0)[:, None] ** 2
    for data in (ArrayDataset(torch.zeros(60, 2), cond=cond), Own(cond)):
        part = sf.data.Subset(sf.data.Subset(data, torch.arange(10, 50)), torch.arange(0, 40, 2))
        transform = Affine.of_conditions(part)
        assert transform is not None
        assert transform.shift[0] == pytest.approx(float(cond[10:50:2].mean()))
        assert transform.scale[0] == pytest.approx(float(cond[10:50:2].std(correction=0)))
