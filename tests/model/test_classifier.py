"""Classifiers of noisy data: their networks, what their loss teaches them, and what is stored of them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.described import undigested
from helpers.networks import awake
from torch import Tensor, nn

from scorefield import VE, VP, ClassifierModel, GaussianMixture, Noise, NoisyClassifier, ScoreModel, gaussian, sample
from scorefield._describe import describe
from scorefield.data import Affine, ArrayDataset, digits, split, transformed_std
from scorefield.grids import uniform_log_snr
from scorefield.guidance import Classifier, ClassifierFree
from scorefield.nn import MLP, ClassifierNetwork, MLPClassifier, UNetClassifier, seeded
from scorefield.objectives import (
    AdaptiveLogSNR,
    CrossEntropy,
    LogNormalSigma,
    OneLevel,
    UniformLogSNR,
    UniformTime,
    judged,
)
from scorefield.processes import Cosine, GaussianSDE, SubVP
from scorefield.score import EDMPrecond, Preconditioned
from scorefield.solvers import DDIM, BogackiShampine
from scorefield.training import Batches, Optimisation, TrainState, train

# name: (class, arguments, event shape to run)
NETWORKS = {
    "vector": (MLPClassifier, {"event_shape": (2,), "classes": 2, "features": 16, "blocks": 2}, (2,)),
    "number": (MLPClassifier, {"event_shape": (), "classes": 3, "features": 8, "blocks": 1}, ()),
    "points": (MLPClassifier, {"event_shape": (5, 3), "classes": 12, "features": 8}, (5, 3)),
    "signal": (UNetClassifier, {"event_shape": (1, 16), "classes": 3, "channels": (4, 8), "blocks": 1}, (1, 15)),
    "image": (
        UNetClassifier,
        {"event_shape": (3, 8, 8), "classes": 4, "channels": (4, 8), "blocks": 1, "attention": (True, True)},
        (3, 7, 12),
    ),
    "volume": (UNetClassifier, {"event_shape": (2, 4, 4, 4), "classes": 2, "channels": (4, 8)}, (2, 4, 4, 8)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def normals(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(name: str) -> ClassifierNetwork:
    cls, arguments, _ = NETWORKS[name]
    with seeded(0):
        return awake(cls(**arguments).double())


# networks


@every_network
def test_a_fresh_network_gives_all_classes_the_same_probability(name):
    cls, arguments, shape = NETWORKS[name]
    with seeded(0):
        net = cls(**arguments)
    logits = net(normals(4, *shape).float(), torch.zeros(4))
    assert logits.shape == (4, net.classes) and bool((logits == 0).all())
    assert {
        key: tuple(v) if isinstance(v, list) else v for key, v in describe(net).items()
    }.items() >= arguments.items()


@every_network
def test_logits_depend_on_their_own_row_and_on_every_weight(name):
    net, x, noise = make(name), normals(4, *NETWORKS[name][2]), 0.5 * normals(4, seed=2)
    whole = net(x, noise)
    for k in range(4):
        torch.testing.assert_close(net(x[k : k + 1], noise[k : k + 1]), whole[k : k + 1], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(net(x, noise[k])[k], whole[k], rtol=1e-11, atol=1e-12)
    spoilt = x.clone()
    spoilt[0] = math.nan
    torch.testing.assert_close(net(spoilt, noise)[1:], whole[1:], rtol=1e-12, atol=1e-12)
    weights = dict(net.named_parameters())
    for weight, gradient in zip(
        weights, torch.autograd.grad(whole.square().sum(), list(weights.values())), strict=True
    ):
        # a bias of all keys drops out of the softmax: a third of qkv.bias
        assert float((gradient.abs() > 1e-12).double().mean()) > 0.6, weight


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLPClassifier((2,), 1), "2 classes; got 1"),
        (lambda: UNetClassifier((1, 8), 0), "2 classes; got 0"),
        (lambda: MLPClassifier((2,), 2, blocks=-1), "blocks"),
        (lambda: MLPClassifier((2,), 2, features=7), "even"),
        (lambda: UNetClassifier((2,), 2), "a UNetClassifier takes .*use MLPClassifier"),
        (lambda: UNetClassifier((1, 8), 2, channels=(4, 8), attention=(True,)), "2 levels"),
        (lambda: make("vector")(normals(4, 3), torch.tensor(0.0).double()), r"shape \(2,\); got \(3,\)"),
        (lambda: make("image")(normals(4, 1, 8, 8), torch.tensor(0.0).double()), r"like \(3, 8, 8\)"),
        (lambda: make("image")(normals(4, 3, 8), torch.tensor(0.0).double()), r"like \(3, 8, 8\)"),
    ],
)
def test_impossible_networks_and_inputs_are_refused(build, message):
    with seeded(0), pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["vector", "image"])
def test_the_guided_denoiser_of_a_network_can_be_differentiated(name):
    """As likelihoods do: the derivative of the classifier's derivative, against differences."""
    shape = NETWORKS[name][2]
    classifier = NoisyClassifier(make(name), VP(), 0.8)
    guided = Classifier(gaussian(VP(), torch.zeros(shape), torch.tensor(0.5)), classifier, 1, 2.0)
    x, v, t, h = normals(2, *shape), normals(2, *shape, seed=5), torch.tensor(0.4).double(), 1e-6
    inner = x.clone().requires_grad_()
    (pulled,) = torch.autograd.grad((guided(inner, t) * v).sum(), inner)
    difference = (guided(x + h * v, t) - guided(x - h * v, t)) / (2 * h)
    torch.testing.assert_close((pulled * v).sum(), (difference * v).sum(), rtol=1e-5, atol=1e-6)


# the classifier and its process


class Recording(nn.Module):
    """Two logits, and what it was given."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        self.given = x, noise
        flat = x.reshape(len(x), -1).sum(1)
        return torch.stack((flat, noise * flat), 1)


@pytest.mark.parametrize("sde", [VP(), VE(), SubVP(), Cosine()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("t", [torch.tensor(0.3).double(), torch.tensor([0.1, 0.5, 0.9]).double()], ids=["()", "(b,)"])
def test_the_network_sees_unit_variance_and_the_level_and_gives_probabilities(sde, t):
    net, x, d = Recording(), normals(3, 2), 0.6
    log_prob = NoisyClassifier(net, sde, d).log_prob(x, t)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    scale = (alpha**2 * d**2 + sigma**2).sqrt()
    torch.testing.assert_close(net.given[0] * (scale[:, None] if t.ndim else scale), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.given[1], (sigma / alpha).log() / 4, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(3).double(), rtol=1e-12, atol=0)
    logits = net(*net.given)
    torch.testing.assert_close(log_prob[:, 0] - log_prob[:, 1], logits[:, 0] - logits[:, 1], rtol=1e-10, atol=1e-12)


def test_sigma_data_must_be_positive():
    with pytest.raises(ValueError, match=r"sigma_data.*-1"):
        NoisyClassifier(Recording(), VP(), -1.0)


# the loss


class Exact(nn.Module):
    """The posterior of the class of x_0 = m_c + s z, c equally likely, for VE and sigma_data = 1, at a temperature.

    x_t = sqrt(sigma^2 + 1) inp and sigma = exp(4 noise).
    """

    MEANS, VARIANCE = torch.tensor([-1.0, 0.5, 1.5]).double(), 0.3

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta).double())

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise).exp().expand(len(x))[:, None]
        x = x.reshape(-1, 1) * (sigma**2 + 1).sqrt()
        return -self.beta * (x - self.MEANS) ** 2 / (2 * (self.VARIANCE + sigma**2))


def drawn(n: int) -> tuple[Tensor, Tensor, Noise]:
    label = torch.arange(n) % 3
    return Exact.MEANS[label] + math.sqrt(Exact.VARIANCE) * normals(n), label, Noise.per_batch(7, n)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 5.0])
def test_the_loss_of_the_exact_posterior_is_the_conditional_entropy(ratio):
    """By quadrature. False-positive rate 1e-6: 5 standard errors; kills states without alpha or with sigma^2."""
    sde, n = VE(), 20_000
    x0, label, noise = drawn(n)
    losses = CrossEntropy(OneLevel(ratio))(NoisyClassifier(Exact(), sde, 1.0), x0, noise=noise, label=label).detach()
    x = torch.linspace(-40, 40, 40001).double()[:, None]
    variance = Exact.VARIANCE + ratio**2
    joint = -0.5 * (x - Exact.MEANS) ** 2 / variance - math.log(3 * math.sqrt(2 * math.pi * variance))
    entropy = -torch.trapezoid((joint.exp() * joint.log_softmax(1)).sum(1), x[:, 0])
    assert abs(float(losses.mean() - entropy)) < 5 * float(losses.std()) / math.sqrt(n)


@pytest.mark.parametrize("density", [UniformLogSNR(), UniformTime(), LogNormalSigma()], ids=repr)
def test_the_loss_is_least_at_the_exact_posterior_whatever_the_density(density):
    """The slope by the temperature: 0 within 5 standard errors at 1, far from it at 0.8 and 1.25."""
    x0, label, noise = drawn(8000)
    for beta, off in ((1.0, False), (0.8, True), (1.25, True)):
        model = NoisyClassifier(Exact(beta), VE(), 1.0)
        losses = CrossEntropy(density)(model, x0, noise=noise, label=label)
        slopes = [torch.autograd.grad(part.mean(), model.net.beta, retain_graph=True)[0] for part in losses.split(200)]
        parts = torch.stack(slopes)
        assert (abs(float(parts.mean())) > 5 * float(parts.std()) / math.sqrt(len(parts))) == off


def test_a_loss_is_that_of_one_sample_at_its_time():
    sde, x0, label, noise = VP(), normals(5, 2), torch.tensor([0, 1, 1, 0, 1]), Noise.per_batch(3, 5)
    model = NoisyClassifier(make("vector"), sde, 0.9)
    losses = CrossEntropy(UniformTime())(model, x0, noise=noise, label=label, cond=normals(5, 3))
    t, _ = UniformTime()(sde, noise.stratified(0))
    states = sde.perturb(x0, t, noise.normal(x0, draw=1))
    for k in range(5):
        expected = -model.log_prob(states[k : k + 1], t[k])[0, label[k]]
        torch.testing.assert_close(losses[k], expected, rtol=1e-10, atol=1e-12)
        found = judged(model, x0, label, t, noise=noise)
        torch.testing.assert_close(found.cross_entropy, losses.detach(), rtol=1e-12, atol=1e-12)
        probabilities = model.log_prob(states, t).detach().exp()
        assert torch.equal(found.correct, probabilities.argmax(1) == label)
        torch.testing.assert_close(found.confidence, probabilities.max(1).values, rtol=1e-12, atol=0)


def test_what_cannot_be_trained_so_is_refused():
    x0, noise = normals(4, 2), Noise.per_batch(0, 4)
    model = NoisyClassifier(make("vector"), VP(), 1.0)
    with pytest.raises(ValueError, match="labels"):
        CrossEntropy()(model, x0, noise=noise)
    with pytest.raises(ValueError, match="AdaptiveLogSNR"):
        CrossEntropy(AdaptiveLogSNR())


def dataset(n: int = 60) -> ArrayDataset:
    return ArrayDataset(normals(n, 2).float(), torch.arange(n) % 2)


def test_the_gradient_is_that_of_the_mean_loss_and_a_resumed_run_is_the_whole_one(tmp_path):
    def begun(steps=12):
        with seeded(0):
            model = NoisyClassifier(MLPClassifier((2,), 2, features=8, blocks=1, dropout=0.2), VP(), 1.0)
        return TrainState(model, Optimisation(decay=False), seed=4), Batches(dataset(), Affine(), 16, seed=4)

    state, batches = begun()
    batch = batches[0]
    with seeded(4, 0, 0):
        loss = CrossEntropy()(state.model.train(), batch.x0, noise=batch.noise, **batch.cond).mean()
    gradients = torch.autograd.grad(loss, list(state.model.parameters()), allow_unused=True)
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients if g is not None))
    losses = [float(info.loss) for info in train(state, batches, CrossEntropy(), steps=12)]
    again, batches = begun()
    info = next(train(again, batches, CrossEntropy(), steps=12))
    assert float(info.gradient_norm) == pytest.approx(norm, rel=1e-5)  # not divided by the two dimensions
    assert float(info.loss) == pytest.approx(float(loss.detach()), rel=1e-6) == pytest.approx(losses[0])
    again.save(tmp_path / "state.safetensors")
    other, batches = begun()
    other.load(tmp_path / "state.safetensors")
    assert [float(info.loss) for info in train(other, batches, CrossEntropy(), steps=12)] == losses[1:]
    for name, value in state.averaged().state_dict().items():
        assert torch.equal(other.averaged().state_dict()[name], value)


# what is learned


@pytest.mark.usefixtures("unchecked")
def test_a_small_classifier_learns_digits_and_is_calibrated_at_every_level():
    """Held-out digits: right nearly always where they can be read, and as sure as it is right everywhere."""
    kept, held = split(digits(), 0.2, 0)
    transform = Affine.fitted(kept)
    with seeded(0):
        net = MLPClassifier(kept.event_shape, 10, features=64, blocks=1)
    state = TrainState(NoisyClassifier(net, VP(), transformed_std(kept, transform)), Optimisation(lr=3e-3), seed=0)
    for _ in train(state, Batches(kept, transform, 128, seed=0), CrossEntropy(), steps=300):
        pass
    model, batch = state.averaged(), Batches(held, transform, len(held), seed=9)[0]
    found = {}
    for ratio in (0.02, 0.2, 0.6, 2.0, 10.0, 100.0):
        time = VP().knot_at(-2 * math.log(ratio)).time
        values = judged(model, batch.x0, batch.cond["label"], time, noise=batch.noise)
        found[ratio] = [float(v.double().mean()) for v in values]
    for ratio, (accuracy, confidence, cross_entropy) in found.items():
        # the spread of the accuracy of 359 digits is at most 0.026
        assert abs(confidence - accuracy) < 0.08, (ratio, found)
        assert cross_entropy < math.log(10) + 0.05
    assert found[0.02][0] > 0.96 and found[0.2][0] > 0.95 and found[0.02][2] < 0.15
    assert found[0.6][0] > 0.8 and found[100.0][0] < 0.2


@pytest.mark.slow
def test_a_learned_classifier_approaches_the_posterior_that_guides_to_the_class():
    """Two normal classes of the plane: its divergence, and how much of the way to the class is left unlearned."""
    sde, n = VP(), 4000
    means, std = torch.tensor([[-1.0, 0.5], [1.0, -0.5]]), 0.8
    label = torch.arange(n) % 2
    data = ArrayDataset(means[label] + std * normals(n, 2).float(), label)
    with seeded(0):
        net = MLPClassifier((2,), 2, features=32, blocks=1)
    state = TrainState(NoisyClassifier(net, sde, 1.1), Optimisation(lr=5e-3, half_lives=(5000.0,)), seed=0)
    for _ in train(state, Batches(data, Affine(), 256, seed=0), CrossEntropy(), steps=500):
        pass
    whole = GaussianMixture(sde, torch.ones(2), means, torch.tensor(std**2).expand(2))
    parts, learned = [gaussian(sde, mean, torch.tensor(std**2)) for mean in means], state.averaged()
    x0, eps = means[1] + std * normals(2000, 2, seed=8), normals(2000, 2, seed=3)
    for t in torch.tensor([0.02, 0.1, 0.3, 0.6]).double():
        x = sde.perturb(x0, t, eps).float()
        exact = torch.stack([part.log_prob(x, t) for part in parts], 1).log_softmax(1)
        divergence = (exact.exp() * (exact - learned.log_prob(x, t).detach())).sum(1).mean()
        assert float(divergence) < 0.01
        wanted, got, before = parts[1](x, t), Classifier(whole, learned, 1)(x, t).detach(), whole(x, t)
        assert float((got - wanted).square().mean()) < 0.15 * float((before - wanted).square().mean())


# what is stored


def model_of(name: str = "vector", sde: GaussianSDE | None = None, names: tuple[str, ...] = ()) -> ClassifierModel:
    net = make(name).float()
    return ClassifierModel(
        NoisyClassifier(net, sde or VP(), 0.7).eval(),
        NETWORKS[name][2],
        net.classes,
        Affine(0.5, 2.0),
        {"data": "mine", "steps": 3},
        names,
    )


@every_network
def test_a_loaded_classifier_is_the_saved_one_to_the_bit(name, tmp_path):
    model = model_of(name, SubVP(beta_max=15.0))
    model.save(tmp_path / "a" / "run")
    loaded = ClassifierModel.load(tmp_path / "a" / "run")
    x, t = normals(3, *NETWORKS[name][2]).float(), torch.tensor([0.1, 0.4, 0.9]).double()
    assert torch.equal(loaded.classifier.log_prob(x, t), model.classifier.log_prob(x, t))
    for part in ("event_shape", "classes", "transform", "about", "class_names"):
        assert getattr(loaded, part) == getattr(model, part)
    assert loaded.classifier.sde == model.classifier.sde and loaded.classifier.sigma_data == 0.7
    assert not loaded.classifier.training
    loaded.save(tmp_path / "b")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "b" / file).read_bytes() == (tmp_path / "a" / "run" / file).read_bytes()


def change(*path, to):
    def damage(config):
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = to

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("classifier", "net", "class", to="os.system"), "unknown class 'os.system'"),
        (change("classifier", "sde", "class", to="MLPClassifier"), "config.json"),
        (change("classifier", "sigma_data", to=-1.0), "sigma_data"),
        (change("classifier", "net", "classes", to=1), "2 classes"),
        (change("classifier", "net", "classes", to=5), "model.safetensors does not fit"),
        (change("classifier", to={"class": "VP"}), "its classifier is"),
        (change("classifier", to={"class": "EDMPrecond", "sigma_data": 1.0}), "its classifier is"),
        (change("classes", to="two"), "its classes is two"),
        (change("classes", to=-3), "classes must be at least 0"),
        (change("class_names", to=["a"]), "2 different class names"),
        (change("class_names", to=[1, 2]), "class_names"),
        (change("about", to=3), "its about is 3"),
        (change("transform", to={"class": "VP"}), "its transform is"),
        (change("event_shape", to=[0]), "side of event_shape must be at least 1"),
        (change("format", to=2), "format 1"),
    ],
)
def test_a_damaged_classifier_is_refused_by_name(damage, message, tmp_path):
    model_of().save(tmp_path)
    config = json.loads(undigested(tmp_path))
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        ClassifierModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def score_model(sde: GaussianSDE | None = None, shape: tuple[int, ...] = (2,), **options) -> ScoreModel:
    mixture = GaussianMixture(sde or VP(), torch.ones(2), normals(2, *shape), torch.tensor([0.2, 0.4]))
    return ScoreModel(mixture, shape, **{"transform": Affine(0.5, 2.0), **options})


def test_score_models_and_classifiers_are_not_taken_for_each_other(tmp_path):
    model_of().save(tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"classifier.*describes a classifier; wanted a score model"):
        ScoreModel.load(tmp_path / "classifier")
    other = Preconditioned(Plain(), VP(), EDMPrecond(1.0))
    ScoreModel(other, (2,)).save(tmp_path / "score")
    with pytest.raises(ValueError, match=r"score.*describes a score model; wanted a classifier"):
        ClassifierModel.load(tmp_path / "score")


class Plain(nn.Module):
    """x times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.weight * x


# the guided model


@pytest.mark.usefixtures("unchecked")
def test_a_guided_model_samples_in_the_datas_units_with_a_label_for_each_sample():
    """Also by an adaptive solver, which takes the rows of the samples that are not done."""
    label = torch.tensor([0, 1, 1, 0, 1])
    model, by = score_model(), model_of()
    by.classifier.double()
    guided = by.guide(model, label, 1.5)
    inner = Classifier(model.denoiser, by.classifier, label, 1.5)
    times = uniform_log_snr(VP(), 6)
    z = sample(inner, (2,), times, DDIM(), seeds=range(5))
    x = guided.sample(seeds=range(5), solver=DDIM(), times=times)
    torch.testing.assert_close(x, model.transform.inverse(z), rtol=0, atol=0)
    torch.testing.assert_close(
        guided.sample(seeds=range(5), solver=DDIM(), times=times, batch_size=2), x, rtol=0, atol=1e-9
    )
    adaptive = guided.sample(seeds=range(5), solver=BogackiShampine(1e-2))
    for k in range(5):
        alone = by.guide(model, int(label[k]), 1.5)
        got = alone.sample(seeds=[k], solver=BogackiShampine(1e-2))
        torch.testing.assert_close(got, adaptive[k : k + 1], rtol=0, atol=1e-6)
    nats = guided.log_prob(x, steps=4).nats  # of what the guided ODE makes
    assert not torch.allclose(nats, model.log_prob(x, steps=4).nats)
    with pytest.raises(ValueError, match="no classes"):
        guided.sample(seeds=range(5), label=1)


def test_classifier_free_guidance_of_a_model_is_made_of_its_checked_conditions():
    with seeded(0):
        net = awake(MLP((2,), 3, features=8, blocks=1))
    model = ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), (2,), Affine(0.5, 2.0), 3)
    label = torch.tensor([2, 0, 1, 1])
    guided = model.guided(ClassifierFree(model.given(label), model.given(), 2.0))
    inner = ClassifierFree(model.denoiser.given(label=label), model.denoiser, 2.0)
    z = sample(inner, (2,), uniform_log_snr(VP(), 5), DDIM(), seeds=range(4))
    got = guided.sample(seeds=range(4), solver=DDIM(), steps=5, batch_size=4)
    torch.testing.assert_close(got, model.transform.inverse(z), rtol=0, atol=0)
    for wrong in (3, -1, torch.tensor([0.5])):
        with pytest.raises(ValueError, match="integers from 0 to 2"):
            model.given(wrong)
    model.needs_label = True
    with pytest.raises(ValueError, match="only with labels"):
        model.given()


@pytest.mark.parametrize(
    ("model", "by", "message"),
    [
        (lambda: score_model(VE()), model_of, r"process .*VP\(.*VE\("),
        (lambda: score_model(VP(beta_max=10.0)), model_of, "process"),
        (lambda: score_model(transform=Affine(0.5, 3.0)), model_of, "transform"),
        (lambda: score_model(shape=(3,)), model_of, r"event shape .*\(2,\) and \(3,\)"),
        (lambda: score_model(classes=3), model_of, "the classes .*2 and 3"),
        (
            lambda: score_model(classes=2, class_names=("b", "a")),
            lambda: model_of(names=("a", "b")),
            "class names .*'a', 'b'",
        ),
        (lambda: score_model(classes=2, needs_label=True), model_of, "only with labels"),
    ],
)
def test_a_classifier_of_another_model_is_refused(model, by, message):
    with pytest.raises(ValueError, match=message):
        by().guide(model(), 1)


def test_a_classifier_with_names_guides_a_model_without_classes():
    assert not torch.allclose(
        *(model_of(names=("a", "b")).guide(score_model(), k).sample(seeds=range(3), steps=5) for k in range(2))
    )
