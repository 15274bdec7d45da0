"""Guided denoisers: identities to the bit, noise intervals, per-sample labels, and the laws that samples have."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorefield import VE, VP, Denoiser, EDMPrecond, GaussianMixture, Preconditioned, SubVP, grids, sample
from scorefield.guidance import Autoguidance, Classifier, ClassifierFree, ClassPosterior
from scorefield.nn import MLP, seeded
from scorefield.processes import GaussianSDE
from scorefield.solvers import DDIM, Ancestral, Heun, Langevin, PredictorCorrector

EVENTS = [(), (3,), (1, 4, 4)]


def normals(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Waves(Denoiser):
    """A smooth function of x, t and a label, and a count of the calls."""

    def __init__(self, sde: GaussianSDE, shift: float = 0.0) -> None:
        super().__init__(sde)
        self.shift, self.calls = shift, 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        label = cond.get("label", torch.tensor(-1))
        level = (0.3 * label + t + self.shift).to(x)
        return (1.7 * x + (level.reshape(-1, *(1,) * (x.ndim - 1)) if level.ndim else level)).sin()


def ratios(sde: GaussianSDE, t: Tensor) -> Tensor:
    return sde.sigma(t) / sde.alpha(t)


# the formula


@pytest.mark.parametrize("kind", [ClassifierFree, Autoguidance])
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("t", [torch.tensor(0.3).double(), torch.tensor([0.1, 0.5, 0.9]).double()], ids=["()", "(b,)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_1_and_0_are_the_two_models_to_the_bit_and_others_extrapolate(kind, event, t, dtype):
    better, worse, x = Waves(VP()), Waves(VP(), 0.4), normals(3, *event, dtype=dtype)
    assert torch.equal(kind(better, worse, 1.0)(x, t), better(x, t))
    assert torch.equal(kind(better, worse, 0.0)(x, t), worse(x, t))
    past = kind(better, worse, 2.5)
    for view in ("__call__", "score", "noise", "velocity"):
        a, b = getattr(better, view)(x, t), getattr(worse, view)(x, t)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(getattr(past, view)(x, t), b + 2.5 * (a - b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sde", [VP(), VE(), SubVP()], ids=["VP", "VE", "SubVP"])
def test_outside_the_interval_it_is_the_conditional_model_by_one_call(sde):
    times, x = torch.linspace(0.05, 0.95, 7).double(), normals(7, 2)
    level = ratios(sde, times)
    low, high = float(level[1]), float(level[4])  # the upper end belongs to it, the lower one does not
    conditional, unconditional = Waves(sde), Waves(sde, 0.4)
    limited = ClassifierFree(conditional, unconditional, 3.0, (low, high))
    everywhere = ClassifierFree(conditional, unconditional, 3.0)
    guided = [False, False, True, True, True, False, False]
    for k, inside in enumerate(guided):
        unconditional.calls = 0
        got = limited(x, times[k])
        assert unconditional.calls == inside
        assert torch.equal(got, (everywhere if inside else conditional)(x, times[k]))
    expected = torch.where(torch.tensor(guided)[:, None], everywhere(x, times), conditional(x, times))
    torch.testing.assert_close(limited(x, times), expected, rtol=1e-14, atol=1e-14)
    outside = ~torch.tensor(guided)
    assert torch.equal(limited(x, times)[outside], conditional(x, times)[outside])
    unconditional.calls = 0
    assert torch.equal(limited(x[outside], times[outside]), conditional(x[outside], times[outside]))
    assert unconditional.calls == 0


LABELS = torch.tensor([3, 0, 2, 1])


@pytest.mark.parametrize("wrap", ["classifier-free", "autoguidance", "classifier"])
def test_labels_of_each_sample_are_selected_with_their_rows(wrap):
    sde, x, t = VP(), normals(4, 2), torch.tensor([0.1, 0.4, 0.6, 0.9]).double()

    def guided(label: Tensor | int) -> Denoiser:
        if wrap == "classifier-free":
            return ClassifierFree(Waves(sde).given(label=label), Waves(sde), 2.0, (0.1, 2.0))
        if wrap == "autoguidance":
            return Autoguidance(Waves(sde).given(label=label), Waves(sde, 0.4).given(label=label), 2.0)
        return Classifier(Waves(sde).given(label=label), Linear(sde), label, 2.0)

    whole, rows = guided(LABELS)(x, t), torch.tensor([2, 0, 2])
    for k, label in enumerate(LABELS.tolist()):
        torch.testing.assert_close(guided(label)(x[k : k + 1], t[k]), whole[k : k + 1], rtol=1e-13, atol=1e-13)
    assert torch.equal(guided(LABELS).select(rows, 4)(x[rows], t[rows]), whole[rows])
    assert torch.equal(guided(3).select(rows, 4)(x[rows], t[rows]), guided(3)(x, t)[rows])
    twice = guided(LABELS).select(torch.tensor([3, 0, 1]), 4).select(torch.tensor([2, 0]), 3)
    assert torch.equal(twice(x[[1, 3]], t[[1, 3]]), whole[[1, 3]])
    for call in (lambda: guided(LABELS)(x[:3], t[:3]), lambda: guided(LABELS).select(rows, 5)):
        with pytest.raises(ValueError, match=r"label.* has 4 rows for (3|5) samples"):
            call()


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_guided_sample_depends_on_its_own_seed_and_label_alone(weight):
    """Batches of two pick the labels of their rows: a select that does not reach both models gives an error."""
    with seeded(0):
        model = Preconditioned(MLP((2,), 4, features=16, blocks=1).double(), VP(), EDMPrecond(1.0))
        nn.init.normal_(model.net.out.weight)
    wrappers = (
        lambda label: ClassifierFree(model.given(label=label), model, weight),
        lambda label: Classifier(model, Linear(VP()), label, weight),
    )
    times = grids.uniform_log_snr(VP(), 5)
    for wrap in wrappers:
        whole = sample(wrap(LABELS), (2,), times, Heun(), seeds=range(4))
        split = sample(wrap(LABELS), (2,), times, Heun(), seeds=range(4), batch_size=3)
        torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-9)
        one = sample(wrap(2), (2,), times, Heun(), seeds=[2])
        torch.testing.assert_close(one[0], whole[2], rtol=1e-9, atol=1e-9)


def test_models_of_different_processes_and_impossible_numbers_are_refused():
    for other in (Waves(VE()), Waves(VP(beta_max=10.0))):
        with pytest.raises(ValueError, match=rf"VP\(.*{re.escape(str(other.sde))}.*on the same"):
            ClassifierFree(Waves(VP()), other, 2.0)
    with pytest.raises(ValueError, match=r"VP\(.*VE\("):
        Classifier(Waves(VP()), Linear(VE()), 0)
    for weight in (math.nan, math.inf):
        for make in (
            lambda w: Autoguidance(Waves(VP()), Waves(VP()), w),
            lambda w: Classifier(Waves(VP()), Linear(VP()), 0, w),
        ):
            with pytest.raises(ValueError, match=f"weight.*{weight}"):
                make(weight)
    for interval in ((1.0, 1.0), (-1.0, 2.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="interval"):
            ClassifierFree(Waves(VP()), Waves(VP()), 2.0, interval)
    for label in (-1, 4, torch.tensor([0, 4])):
        with pytest.raises(ValueError, match=r"classes 0 to 3; got \[.*(-1|4)"):
            Classifier(Waves(VP()), Linear(VP()), label)(normals(2, 2), torch.tensor(0.5))


# the law of samples


def mixture(sde: GaussianSDE, weights: list[float], means: list[float], variances: list[float]) -> GaussianMixture:
    return GaussianMixture(sde, torch.tensor(weights), torch.tensor(means), torch.tensor(variances))


def w1_to_tilted(x: Tensor, conditional: GaussianMixture, whole: GaussianMixture, w: float) -> float:
    """W1 from samples to p(x | c)^w p(x)^(1-w), normalised on a grid, by quantiles."""
    grid, data = torch.linspace(-15, 15, 60001, dtype=torch.float64), torch.tensor(0.0)
    log = w * conditional.log_prob(grid, data) + (1 - w) * whole.log_prob(grid, data)
    mass = torch.cumulative_trapezoid((log - log.max()).exp(), grid).numpy()
    levels = (np.arange(len(x)) + 0.5) / len(x)
    quantiles = np.interp(levels, mass / mass[-1], grid[1:].numpy())
    return float(np.abs(np.sort(x.double().numpy()) - quantiles).mean())


# (process, weights, means, variances, w); the class is the first component
TILTED = {
    "neighbours": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.5, 0.5], 2.0),
    "more weight": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.5, 0.5], 3.0),
    "far apart": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.1, 0.1], 4.0),
    "narrow in wide": (VP(), [0.3, 0.7], [0.0, 0.0], [0.25, 2.0], 2.0),
    "rare, VE": (VE(sigma_max=20.0), [0.1, 0.9], [1.0, 0.0], [0.5, 1.0], 2.5),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("toy", TILTED)
def test_guided_samples_follow_the_tilted_density_with_correctors_and_not_without(toy):
    """W1 of 2000 samples, whose own fluctuation is about 0.01 to 0.02 (a deviation below 1, over sqrt(2000))."""
    sde, weights, means, variances, w = TILTED[toy]
    whole = mixture(sde, weights, means, variances)
    conditional = mixture(sde, [1.0], means[:1], variances[:1])
    guided, times = ClassifierFree(conditional, whole, w), grids.uniform_log_snr(sde, 50)
    plain, corrected = (
        w1_to_tilted(sample(guided, (), times, solver, seeds=range(2000)), conditional, whole, w)
        for solver in (DDIM(), PredictorCorrector(DDIM(), Langevin(0.5), corrections=10))
    )
    assert corrected < 0.05 and plain > 0.1, (plain, corrected)


@pytest.mark.usefixtures("unchecked")
def test_more_steps_alone_do_not_reach_the_tilted_density():
    sde, weights, means, variances, w = TILTED["neighbours"]
    whole, conditional = mixture(sde, weights, means, variances), mixture(sde, [1.0], means[:1], variances[:1])
    guided, times = ClassifierFree(conditional, whole, w), grids.uniform_log_snr(sde, 300)
    for solver in (DDIM(), Ancestral()):
        x = sample(guided, (), times, solver, seeds=range(2000))
        assert w1_to_tilted(x, conditional, whole, w) > 0.1


# classifiers


class Linear(nn.Module):
    """Logits that are a smooth function of x and t: 4 classes."""

    def __init__(self, sde: GaussianSDE) -> None:
        super().__init__()
        self.sde, self.scale = sde, nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        flat = x.reshape(len(x), -1)
        level = (t + 0.5).to(x)
        logits = [(self.scale.to(x) * (k + 1) * flat).sin().sum(1) * level for k in range(4)]
        return torch.stack(logits, 1).log_softmax(1)


class ExactPosterior:
    """p(k | x_t) of a mixture's components."""

    def __init__(self, whole: GaussianMixture) -> None:
        m = whole
        self.weights = m.weights
        self.parts = [
            GaussianMixture(
                m.sde, torch.ones(1), m.means[k : k + 1].reshape(1, *m.event_shape), m.covariances()[k][None]
            )
            for k in range(len(m.weights))
        ]

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        joint = [w.log() + part.log_prob(x, t) for w, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(joint, 1).log_softmax(1)


PROCESSES = pytest.mark.parametrize("sde", [VP(), VE(), SubVP()], ids=["VP", "VE", "SubVP"])


def mixture_of(sde: GaussianSDE, event: tuple[int, ...], components: int = 3) -> GaussianMixture:
    means, variances = normals(components, *event), 0.2 + 0.3 * torch.arange(components)
    return GaussianMixture(sde, torch.tensor([0.2, 0.5, 0.3])[:components], means, variances)


@PROCESSES
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("batched", [False, True])
def test_the_exact_posterior_of_the_class_gives_the_denoiser_of_the_class(sde, event, batched):
    """By Bayes' rule. Kills sigma for sigma^2, a missing 1 / alpha and a sign."""
    whole = mixture_of(sde, event)
    posterior, label = ExactPosterior(whole), torch.tensor([0, 1, 2, 1])
    assert isinstance(posterior, ClassPosterior)
    for t in (torch.tensor([0.05, 0.3, 0.6, 0.99]).double(),) if batched else torch.tensor([0.05, 0.4, 0.9]).double():
        x = sde.perturb(normals(4, *event, seed=1), t, normals(4, *event, seed=2))
        expected = torch.stack([posterior.parts[c](x, t)[k] for k, c in enumerate(label.tolist())])
        torch.testing.assert_close(Classifier(whole, posterior, label)(x, t), expected, rtol=1e-10, atol=1e-10)
        half = Classifier(whole, posterior, label, weight=0.5)(x, t)
        torch.testing.assert_close(half, 0.5 * (whole(x, t) + expected), rtol=1e-10, atol=1e-10)


def test_samples_follow_the_class():
    """Moments of 2000 samples against those of the component; false-positive rate 1e-6 (5.2 standard errors of 2 means
    and 2 variances), far from the mixture's own."""
    whole, n = mixture_of(VP(), (2,)), 2000
    guided = Classifier(whole, ExactPosterior(whole), 1)
    times = grids.uniform_log_snr(VP(), 30)
    x = sample(guided, (2,), times, Heun(), seeds=range(n)).double()
    mean, variance = whole.means[1], float(whole.variances[1, 0])
    assert bool(((x.mean(0) - mean).abs() < 5.2 * math.sqrt(variance / n)).all())
    assert bool(((x.var(0) / variance - 1).abs() < 5.2 * math.sqrt(2 / n)).all())
    plain = sample(whole, (2,), times, Heun(), seeds=range(n)).double()
    assert bool(((plain.mean(0) - mean).abs() > 10 * math.sqrt(variance / n)).any())


def test_the_gradient_works_without_and_inside_a_larger_one():
    sde, x, t = VP(), normals(3, 2), torch.tensor(0.4).double()
    classifier = Linear(sde)
    guided = Classifier(Waves(sde), classifier, torch.tensor([0, 3, 1]), 1.7)
    value = guided(x, t)
    with torch.no_grad():
        quiet = guided(x, t)
    assert torch.equal(quiet, value.detach()) and not quiet.requires_grad

    def total(x: Tensor) -> Tensor:
        return (guided(x, t) * torch.arange(1, 7).reshape(3, 2)).sum()

    inner = x.clone().requires_grad_()
    slope, by_scale = torch.autograd.grad(total(inner), [inner, classifier.scale])
    h = 1e-6
    for place in ((0, 0), (1, 1), (2, 0)):
        step = torch.zeros_like(x)
        step[place] = h
        difference = (total(x + step) - total(x - step)) / (2 * h)
        torch.testing.assert_close(slope[place], difference.detach(), rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        classifier.scale += h
        above = total(x)
        classifier.scale -= 2 * h
        torch.testing.assert_close(by_scale, (above - total(x)) / (2 * h), rtol=1e-6, atol=1e-7)
    assert not x.requires_grad


def test_a_state_is_guided_by_its_own_row():
    sde, x, t = VP(), normals(4, 3), torch.tensor(0.5).double()
    guided = Classifier(Waves(sde), Linear(sde), 2)
    spoilt = x.clone()
    spoilt[0] = math.nan
    assert torch.equal(guided(spoilt, t)[1:], guided(x, t)[1:])


def test_a_double_precision_classifier_guides_a_float32_model():
    whole, t = mixture_of(VP(), (2,)), torch.tensor(0.3).double()
    guided, x = Classifier(whole, ExactPosterior(whole), 1), normals(5, 2)
    got = guided(x.float(), t)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), guided(x, t), rtol=1e-5, atol=1e-5)
