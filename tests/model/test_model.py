"""Saved models: what comes back is what was saved, nothing in a file runs, and numbers are in the data's units."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.networks import awake, make
from torch import nn

from scorefield import (
    EDM,
    VE,
    VP,
    Cosine,
    Denoiser,
    EDMPrecond,
    GaussianMixture,
    GaussianSDE,
    LinearSDE,
    NoisePrecond,
    Power,
    Preconditioned,
    Rectified,
    ScoreModel,
    ScorePrecond,
    SubVP,
    VelocityPrecond,
    gaussian,
)
from scorefield.data import Affine, Transform
from scorefield.nn import MLP, Network, seeded

pytestmark = pytest.mark.usefixtures("unchecked")

STANDARDISING = Affine((0.5, -2.0), (2.0, 0.25))

# name: (network, process, preconditioner, event shape, transform, classes)
SAVED = {
    "vector": ("vector", VP(beta_max=15.0), EDMPrecond(0.7), (2,), STANDARDISING, 0),
    "number": ("scalar", Cosine(), VelocityPrecond(), (), Affine(1.0, 3.0), 0),
    "signal": ("signal", VE(sigma_max=20.0), NoisePrecond(), (1, 16), Affine(), 3),
    "image": ("image", SubVP(), ScorePrecond(), (3, 8, 12), Affine.of_levels(256), 3),
    "volume": ("volume", Rectified(), EDMPrecond(1.0), (2, 4, 4, 8), Affine(), 0),
    "EDM": ("vector", EDM(), EDMPrecond(0.5), (2,), STANDARDISING, 0),
    "power": ("vector", Power(3.0), EDMPrecond(0.5), (2,), STANDARDISING, 0),
}


def model_of(name):
    net, sde, precond, event_shape, transform, classes = SAVED[name]
    denoiser = Preconditioned(make(net, torch.float32), sde, precond).eval()
    return ScoreModel(denoiser, event_shape, transform, classes, {"data": "mine", "steps": 3})


def answers(model):
    """Samples, scores and likelihoods."""
    given = {"label": torch.tensor([2, 0])} if model.classes else {}
    x = model.sample(seeds=[3, 4], steps=3, **given)
    score = model.score(x.float(), torch.tensor(0.3).double(), **given)
    nats = model.log_prob(x, steps=2, **given).nats if x[0].numel() <= 16 else torch.tensor(0.0)
    return x, score, nats


def same_answers(a, b):
    for one, other in zip(answers(a), answers(b), strict=True):
        assert bool(torch.isfinite(one).all()) and torch.equal(one, other)


# saving and loading


@pytest.mark.filterwarnings("ignore:.*samples mean nothing")  # of a network that has learnt nothing
@pytest.mark.parametrize("name", SAVED)
def test_a_loaded_model_is_the_saved_one_to_the_bit(name, tmp_path):
    model = model_of(name)
    model.save(tmp_path / "a" / "run")
    loaded = ScoreModel.load(tmp_path / "a" / "run")
    same_answers(loaded, model)
    for part in ("event_shape", "classes", "transform", "about"):
        assert getattr(loaded, part) == getattr(model, part)
    assert loaded.denoiser.sde == model.denoiser.sde and loaded.denoiser.precond == model.denoiser.precond
    assert not loaded.denoiser.training
    loaded.save(tmp_path / "b")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "b" / file).read_bytes() == (tmp_path / "a" / "run" / file).read_bytes()
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["config.json", "model.safetensors"]


def test_a_model_in_double_precision_keeps_it(tmp_path):
    model = model_of("vector")
    model.denoiser.double()
    model.save(tmp_path)
    same_answers(ScoreModel.load(tmp_path), model)


def test_a_saved_model_replaces_an_older_one(tmp_path):
    model_of("image").save(tmp_path)
    model_of("vector").save(tmp_path)
    same_answers(ScoreModel.load(tmp_path), model_of("vector"))


class Damped(Network):
    """A user's network.

    Args:
        event_shape: of one sample.
        classes: number of them.
        inner: another network.
        rate: factor of its output.
    """

    def __init__(self, event_shape, classes=0, inner=None, rate=0.5):
        super().__init__()
        self.event_shape, self.classes, self.rate = tuple(event_shape), classes, rate
        self.inner = inner or MLP(event_shape, classes, features=8, blocks=1)

    def forward(self, x, noise, label=None, cond=None):
        return self.rate * self.inner(x, noise, label, cond)


class Shifted(Transform):
    """A user's transform.

    Args:
        by: what is subtracted.
    """

    levels = None

    def __init__(self, by=1.0):
        self.by = by

    def forward(self, x, u=None):
        return x - self.by

    def inverse(self, z):
        return z + self.by

    def log_det(self, x):
        return torch.zeros(len(x))


class Forgetful(Damped):
    """It does not keep its argument `depth`."""

    def __init__(self, event_shape, classes=0, depth=3):
        super().__init__(event_shape, classes)


def own_model(network):
    with seeded(0):
        net = awake(network)
    return ScoreModel(Preconditioned(net, VP(), EDMPrecond(0.5)).eval(), (2,), Shifted(3.0))


def test_a_users_own_classes_are_saved_and_loaded_when_they_are_named(tmp_path):
    with seeded(0):
        model = own_model(Damped((2,), inner=MLP((2,), features=4), rate=0.25))
    model.save(tmp_path)
    same_answers(ScoreModel.load(tmp_path, types=[Damped, Shifted]), model)
    for types in ([], [Damped], [Shifted]):
        with pytest.raises(ValueError, match=r"config.json.*unknown class 'test_model.(Damped|Shifted)'.*`types`"):
            ScoreModel.load(tmp_path, types=types)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda: own_model(Forgetful((2,))), TypeError, "Forgetful.*'depth'"),
        (
            lambda: ScoreModel(gaussian(LinearSDE(lambda t: -t, lambda t: 1 + t), torch.zeros(2), torch.eye(2)), (2,)),
            TypeError,
            "cannot be saved",
        ),
        (
            lambda: ScoreModel(Preconditioned(make("vector"), LinearSDE(torch.neg, torch.exp), EDMPrecond(0.5)), (2,)),
            TypeError,
            "cannot be saved",
        ),
        (lambda: ScoreModel(model_of("vector").denoiser, (2,), about={"loss": math.nan}), ValueError, "about"),
        (lambda: ScoreModel(model_of("vector").denoiser, (2,), about={"data": object()}), TypeError, "about"),
    ],
)
def test_a_model_that_cannot_be_saved_says_so_and_writes_nothing(spoil, error, message, tmp_path):
    with seeded(0):
        model = spoil()
    with pytest.raises(error, match=message):
        model.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_leaves_the_older_model(tmp_path, monkeypatch):
    model_of("vector").save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(type(tmp_path), "replace", full)
    with pytest.raises(OSError, match="no space"):
        model_of("image").save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# numbers in the data's units

MEAN, STD = torch.tensor([1.0, -3.0]).double(), torch.tensor([0.5, 2.0]).double()
SCALE = Affine((1.2, -2.0), (0.25, 3.0))
LONG = VP(beta_max=40.0)  # so that nothing of the data is left at T, and the prior is exact


def normal_in_data_units():
    """x ~ N(MEAN, diag STD^2), modelled by the exact denoiser of its transform."""
    mean, std = SCALE.forward(MEAN[None])[0], STD / torch.tensor(SCALE.scale)
    return ScoreModel(gaussian(LONG, mean, std**2), (2,), SCALE)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_prob_is_the_density_of_the_data():
    x = MEAN + STD * draw(20, 2)
    law = torch.distributions.Normal(MEAN, STD)
    result = normal_in_data_units().log_prob(x, steps=100)
    torch.testing.assert_close(result.nats, law.log_prob(x).sum(1), rtol=0, atol=1e-3)
    torch.testing.assert_close(sum(result.terms.values()), result.nats)
    torch.testing.assert_close(result.terms["transform"], torch.zeros(20).double() - math.log(0.25 * 3.0))
    assert result.probes.shape == (20, 0) and not bool(result.stderr.any())  # nothing is random


def test_the_score_is_the_gradient_of_the_noisy_density_in_the_datas_units():
    weights, means = torch.tensor([0.3, 0.7]), torch.tensor([[0.5, -1.0], [-0.5, 0.5]])
    mixture = GaussianMixture(VP(), weights, means, torch.tensor([0.2, 0.05]))
    model, x = ScoreModel(mixture, (2,), SCALE), MEAN + STD * draw(6, 2)
    for t in (torch.tensor(0.2).double(), torch.linspace(0.05, 0.9, 6).double()):
        score, h = model.score(x, t), 1e-6
        for k, unit in enumerate(torch.eye(2).double()):
            up, down = (mixture.log_prob(SCALE.forward(x + s * h * unit), t) for s in (1, -1))
            torch.testing.assert_close(score[:, k], (up - down) / (2 * h), rtol=1e-5, atol=1e-6)


def test_samples_have_the_moments_of_the_data():
    n = 2000
    x = normal_in_data_units().sample(seeds=range(n), steps=20)
    # false-positive rate 1e-6 (5.2 standard errors for 4 comparisons); a scale that is not undone is far outside
    assert bool(((x.mean(0) - MEAN).abs() < 5.2 * STD / math.sqrt(n)).all())
    assert bool(((x.std(0) / STD - 1).abs() < 5.2 / math.sqrt(2 * n)).all())


def test_encoding_gives_standard_normal_latents_that_decode_to_the_data():
    model, x = normal_in_data_units(), MEAN + STD * draw(30, 2)
    latents = model.encode(x, steps=100)
    torch.testing.assert_close(latents, (x - MEAN) / STD, rtol=0, atol=1e-3)
    torch.testing.assert_close(model.decode(latents, steps=100), x, rtol=0, atol=1e-3)


LEVELS = 8


class UniformBox(Denoiser):
    """x_0 uniform on [-1, 1]^d: the mean of a cut-off normal."""

    def forward(self, x, t, **cond):
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        mean, std = x.double() / alpha, sigma / alpha
        low, high = (-1 - mean) / std, (1 - mean) / std
        ndtr, normal = torch.special.ndtr, torch.distributions.Normal(0.0, 1.0)
        gap = normal.log_prob(low).exp() - normal.log_prob(high).exp()
        return (mean + std * gap / (ndtr(high) - ndtr(low)).clamp_min(1e-300)).to(x.dtype)


def test_uniform_integers_take_log2_of_their_levels_in_bits_per_dim():
    x = torch.tensor([[1, 6], [3, 3], [4, 2], [5, 1], [2, 5], [6, 4]], dtype=torch.uint8)
    model = ScoreModel(UniformBox(VP()), (2,), Affine.of_levels(LEVELS))
    result = model.log_prob(x, steps=100)
    torch.testing.assert_close(result.bits_per_dim, torch.full((6,), math.log2(LEVELS)).double(), rtol=0, atol=0.01)
    torch.testing.assert_close(result.nats, -2 * math.log(2) * result.bits_per_dim)


def test_integers_of_a_normal_law_have_the_expected_bound():
    mean, std = 0.2, 0.4
    model = ScoreModel(gaussian(LONG, torch.tensor([mean]), torch.tensor(std**2)), (1,), Affine.of_levels(LEVELS))
    u = (torch.arange(1000).double() + 0.5) / 1000
    for k in (2, 5):
        law = torch.distributions.Normal(LEVELS / 2 * (1 + mean), LEVELS / 2 * std)
        exact = law.log_prob(k + u)
        n = 500
        x = torch.full((n, 1), k, dtype=torch.uint8)
        nats = model.log_prob(x, steps=60, seeds=range(n)).nats.double()
        # false-positive rate 1e-6: 5 standard errors; dequantisation by u / 2 is 20 or more away
        assert abs(float(nats.mean() - exact.mean())) < 5 * float(exact.std()) / math.sqrt(n)
        assert float(nats.min()) > float(exact.min()) - 3e-3 and float(nats.max()) < float(exact.max()) + 3e-3
        assert torch.equal(model.log_prob(x, steps=60, seeds=range(n)).nats.double(), nats)
        assert not torch.equal(model.log_prob(x, steps=60, seeds=range(n, 2 * n)).nats.double(), nats)


def test_integers_survive_encoding_and_count_as_real_numbers_for_the_score():
    model = ScoreModel(gaussian(VP(), torch.zeros(3), torch.tensor(0.3)), (3,), Affine.of_levels(17))
    x = torch.arange(15).reshape(5, 3).to(torch.uint8)
    decoded = model.decode(model.encode(x))
    assert torch.equal(decoded, x) and decoded.dtype == torch.uint8
    t = torch.tensor(0.5).double()
    torch.testing.assert_close(model.score(x, t), model.score(x.float(), t), check_dtype=False)


@pytest.mark.parametrize("event_shape", [(), (1,), (2, 3)])
def test_events_of_any_shape_have_likelihoods(event_shape):
    model = ScoreModel(gaussian(VP(), torch.zeros(event_shape), torch.tensor(1.0)), event_shape, Affine(0.0, 2.0))
    x = 2 * draw(4, *event_shape)
    nats = torch.distributions.Normal(0.0, 2.0).log_prob(x).reshape(4, -1).sum(1)
    torch.testing.assert_close(model.log_prob(x, steps=100).nats, nats, rtol=0, atol=1e-3)


# conditions


def test_a_label_for_all_is_a_label_for_each():
    model = model_of("signal")
    mixed = model.sample(seeds=[7, 8, 9], steps=3, label=torch.tensor([2, 0, 1]))
    for k, label in enumerate((2, 0, 1)):
        torch.testing.assert_close(model.sample(seeds=[7, 8, 9], steps=3, label=label)[k], mixed[k], rtol=0, atol=1e-4)
    assert not torch.allclose(model.sample(seeds=[7, 8, 9], steps=3), mixed, atol=0.01)
    z = model.encode(mixed, label=torch.tensor([2, 0, 1]), steps=5)
    assert not torch.allclose(model.encode(mixed, steps=5), z, atol=1e-3)
    nats = model.log_prob(mixed, label=torch.tensor([2, 0, 1]), steps=2).nats
    one = model.log_prob(mixed[1:2], label=0, steps=2).nats
    torch.testing.assert_close(nats[1:2], one, rtol=1e-4, atol=1e-3)


def integer_model():
    return ScoreModel(gaussian(VP(), torch.zeros(2), torch.tensor(0.3)), (2,), Affine.of_levels(4))


NUMBERS, INTEGERS = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.uint8)
NAN = torch.tensor([[0.0, math.nan]])
TIME = torch.tensor(0.5).double()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model_of("signal").sample(seeds=[1], label=3), "label.*0 to 2; got .*3"),
        (lambda: model_of("signal").sample(seeds=[1], label=-1), "label.*0 to 2; got .*-1"),
        (lambda: model_of("signal").sample(seeds=[1, 2], label=torch.tensor([0.0, 1.0])), "label.*integers"),
        (lambda: model_of("signal").sample(seeds=[1, 2], label=torch.tensor([0])), "'label' for each of 2 samples"),
        (lambda: model_of("signal").sample(seeds=[1], label=torch.tensor([], dtype=torch.int64)), "label"),
        (lambda: model_of("signal").log_prob(torch.zeros(2, 1, 16), label=torch.tensor([1, 3])), "label.*0 to 2"),
        (lambda: model_of("signal").encode(torch.zeros(2, 1, 16), label=5), "label.*0 to 2"),
        (lambda: model_of("signal").score(torch.zeros(2, 1, 16), TIME, label=5), "label.*0 to 2"),
        (lambda: model_of("vector").sample(seeds=[1], label=0), "no classes"),
        (lambda: model_of("vector").sample(seeds=[]), "seed"),
        (lambda: model_of("vector").sample(seeds=[2**64]), "seed"),
        (lambda: model_of("vector").sample(seeds=[1], steps=0), "steps"),
        (lambda: model_of("vector").sample(seeds=[1], batch_size=0), "batch_size"),
        (lambda: model_of("vector").log_prob(torch.zeros(3, 3)), r"shape \(2,\); got \(3,\)"),
        (lambda: model_of("vector").encode(torch.zeros(2)), r"shape \(2,\); got \(\)"),
        (lambda: model_of("vector").score(torch.zeros(3, 3), TIME), r"shape \(2,\); got \(3,\)"),
        (lambda: model_of("vector").decode(torch.zeros(3, 3)), r"shape \(2,\); got \(3,\)"),
        (lambda: model_of("vector").log_prob(torch.zeros(0, 2)), "at least one sample"),
        (lambda: model_of("vector").encode(torch.zeros(0, 2)), "at least one sample"),
        (lambda: model_of("vector").log_prob(NUMBERS, seeds=[1, 2]), "got 2 for 3 samples"),
        (lambda: model_of("vector").encode(NUMBERS, seeds=[1, 2, 3, 4]), "got 4 for 3 samples"),
        (lambda: model_of("vector").log_prob(NUMBERS, steps=0), "steps"),
        (lambda: model_of("vector").encode(NUMBERS, steps=-1), "steps"),
        (lambda: model_of("vector").log_prob(NUMBERS, batch_size=0), "batch_size"),
        (lambda: model_of("vector").log_prob(NUMBERS, batch_size=-1), "batch_size"),
        (lambda: model_of("vector").log_prob(NAN), "not finite|NaN"),
        (lambda: model_of("vector").encode(NAN), "not finite|NaN"),
        (lambda: integer_model().log_prob(NUMBERS), "integers from 0 to 3; got torch.float32"),
        (lambda: integer_model().encode(INTEGERS + 4), "integers from 0 to 3; got torch.uint8, 4"),
        (lambda: integer_model().log_prob(INTEGERS.long() - 1), "integers from 0 to 3; got torch.int64, -1"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_of_float_data_takes_integers_as_numbers():
    model = model_of("vector")
    torch.testing.assert_close(
        model.log_prob(torch.ones(2, 2, dtype=torch.int64), steps=2).nats,
        model.log_prob(torch.ones(2, 2), steps=2).nats,
    )


def test_the_denoiser_stays_as_it_was():
    model = model_of("vector")
    model.denoiser.train()
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    answers(model)
    assert all(module.training for module in model.denoiser.modules() if not isinstance(module, nn.Identity))
    assert all(torch.equal(value, before[name]) for name, value in model.denoiser.state_dict().items())
    assert all(p.grad is None for p in model.denoiser.parameters())


class Cosine(GaussianSDE):  # the name of another process of scorefield
    def __init__(self):
        super().__init__(T=0.999, t_min=1e-3, t_end=1e-2)

    def alpha(self, t):
        return (1 - t) ** 2

    def sigma(self, t):
        return 3 * t


def test_a_users_class_is_not_taken_for_one_of_the_same_name(tmp_path):
    model = ScoreModel(Preconditioned(make("vector", torch.float32), Cosine(), EDMPrecond(0.5)), (2,))
    model.save(tmp_path)
    with pytest.raises(ValueError, match=r"unknown class 'test_model.Cosine'"):
        ScoreModel.load(tmp_path)
    assert type(ScoreModel.load(tmp_path, types=[Cosine]).denoiser.sde) is Cosine


def test_a_model_of_labels_alone_wants_one(tmp_path):
    model = model_of("signal")
    ScoreModel(model.denoiser, (1, 16), Affine(), 3, needs_label=True).save(tmp_path)
    loaded = ScoreModel.load(tmp_path)
    for call in (
        lambda: loaded.sample(seeds=[1], steps=2),
        lambda: loaded.log_prob(torch.zeros(1, 1, 16), steps=2),
        lambda: loaded.encode(torch.zeros(1, 1, 16), steps=2),
    ):
        with pytest.raises(ValueError, match=r"only with labels.*give a label"):
            call()
    assert torch.equal(loaded.sample(seeds=[1], steps=2, label=1), model.sample(seeds=[1], steps=2, label=1))


def test_the_score_leaves_dropout_out():
    with seeded(0):
        net = awake(MLP((2,), features=16, dropout=0.5))
    model = ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)).train(), (2,))
    assert torch.equal(model.score(torch.ones(1, 2), 0.5), model.score(torch.ones(1, 2), 0.5))
    assert net.training


def test_numbers_far_from_zero_keep_their_digits():
    offset = Affine(1.7e9, 30.0)
    x = 1.7e9 + 30 * draw(50, 2)
    model = ScoreModel(gaussian(LONG, torch.zeros(2), torch.tensor(1.0)), (2,), offset)
    model.denoiser.float()
    assert abs(float(model.sample(seeds=range(200), steps=20).std()) - 30) < 6
    torch.testing.assert_close(model.decode(model.encode(x)), x, rtol=0, atol=0.01)


def test_states_that_are_not_finite_stand_for_no_integers():
    with pytest.raises(ValueError, match=r"2 values.*not finite"):
        Affine.of_levels(256).inverse(torch.tensor([[math.nan, math.inf, 0.0]]))
