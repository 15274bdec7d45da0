"""The four views of a denoiser, preconditioners against ideal networks, and conditioning."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.processes import PROCESSES, name
from torch import Tensor, nn

from scorefield import (
    EDM,
    VE,
    VP,
    Cosine,
    Denoiser,
    EDMPrecond,
    GaussianSDE,
    ItoSDE,
    LinearSDE,
    Noise,
    NoisePrecond,
    Preconditioned,
    Score,
    ScorePrecond,
    SubVP,
    VelocityPrecond,
    gaussian,
)
from scorefield.nn import seeded
from scorefield.score import Coefs, FromScore, Precond, as_denoiser, noise_level

EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=name)
MEAN, VARIANCE = 0.75, 0.375  # exact in float32


def normals(*shape: int, draw: int = 0) -> Tensor:
    return Noise.per_sample([7]).normal(torch.empty(1, *shape, dtype=torch.float64), draw)[0]


def times(sde: GaussianSDE) -> Tensor:
    return torch.tensor([sde.t_min, 0.05 * sde.T, 0.5 * sde.T, sde.T], dtype=torch.float64)


@every_process
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_views_are_conditional_means_of_the_joint_gaussian(sde, event):
    """For x_0 ~ N(m, v):  E[eps | x] = sigma (x - alpha m) / var, E[alpha eps - sigma x_0 | x] by the same algebra."""
    model = gaussian(sde, torch.full(event, MEAN), torch.tensor(VARIANCE))
    t = times(sde)
    x = sde.perturb(normals(4, *event), t, normals(4, *event, draw=1))
    score, noise, velocity = model.score(x, t), model.noise(x, t), model.velocity(x, t)
    for i, knot in enumerate(sde.knots(t.tolist())):
        a, s = knot.alpha, knot.sigma
        var = a**2 * VARIANCE + s**2
        offset = x[i] - a * MEAN
        # x - alpha D cancels at small noise, and alpha D at large: rounding is of the size of x / sigma
        atol = 1e-14 * (1 + float(x[i].abs().max())) / s
        torch.testing.assert_close(score[i], -offset / var, rtol=1e-11, atol=atol / s)
        torch.testing.assert_close(noise[i], s * offset / var, rtol=1e-11, atol=atol)
        exact = -s * MEAN + a * s * (1 - VARIANCE) * offset / var
        torch.testing.assert_close(velocity[i], exact, rtol=1e-11, atol=a * atol + 1e-13 * (1 + s))
        for view, whole in ((model.score, score), (model.noise, noise), (model.velocity, velocity)):
            assert torch.equal(view(x, knot.time)[i], whole[i])


# what an ideal network returns, as functions of y = x / alpha, s = sigma / alpha and the denoiser: no process in sight
IDEAL: dict[str, tuple[Precond, Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "EDM": (
        EDMPrecond(0.5),
        lambda y, s: y / (s**2 + 0.25).sqrt(),
        lambda y, s, d: (d - 0.25 / (s**2 + 0.25) * y) * (s**2 + 0.25).sqrt() / (0.5 * s),
    ),
    "noise": (NoisePrecond(), lambda y, s: y / (1 + s**2).sqrt(), lambda y, s, d: (y - d) / s),
    "score": (ScorePrecond(), lambda y, s: y / (1 + s**2).sqrt(), lambda y, s, d: (d - y) / s),
    "velocity": (
        VelocityPrecond(),
        lambda y, s: y / (1 + s**2).sqrt(),
        lambda y, s, d: ((y - d) / s - s * d) / (1 + s**2).sqrt(),
    ),
}
every_precond = pytest.mark.parametrize("precond", IDEAL)


class IdealNetwork(nn.Module):
    """F for x_0 ~ N(m, v), which sees its scaled input and the noise level log(s) / 4 alone."""

    def __init__(self, precond: str) -> None:
        super().__init__()
        _, self.scale, self.target = IDEAL[precond]

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        s = (4 * noise).exp().reshape(-1, *(1,) * (x.ndim - 1)) if noise.ndim else (4 * noise).exp()
        y = x / self.scale(torch.ones_like(s), s)
        denoised = (VARIANCE * y + s**2 * MEAN) / (VARIANCE + s**2)
        return self.target(y, s, denoised)


@every_process
@every_precond
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_ideal_network_gives_the_exact_denoiser_for_every_process(sde, precond, event):
    """Kills a wrong skip, out, inp or noise level of any preconditioner, and any that depends on the process."""
    model = Preconditioned(IdealNetwork(precond), sde, IDEAL[precond][0])
    exact = gaussian(sde, torch.full(event, MEAN), torch.tensor(VARIANCE))
    t = times(sde)
    x = sde.perturb(normals(4, *event), t, normals(4, *event, draw=1))
    # a noise or score network is multiplied by sigma / alpha
    ratio = float((sde.sigma(t) / sde.alpha(t)).max())
    torch.testing.assert_close(model(x, t), exact(x, t), rtol=1e-9, atol=1e-12 * (1 + ratio))
    for i in range(4):
        torch.testing.assert_close(model(x, t[i])[i], exact(x, t[i])[i], rtol=1e-9, atol=1e-12 * (1 + ratio))


@every_process
@every_precond
def test_coefficients_are_those_of_the_process_in_x_over_alpha(sde, precond):
    """VE in disguise: skip alpha, out and noise are functions of sigma / alpha, and inp alpha too."""
    coefs_of = IDEAL[precond][0]
    edm = EDM(T=1e9, t_min=1e-9)
    t = times(sde)
    mine, theirs = coefs_of(sde, t), coefs_of(edm, sde.sigma(t) / sde.alpha(t))
    alpha = sde.alpha(t)
    for got, expected in zip((mine.skip * alpha, mine.out, mine.inp * alpha, mine.noise), theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)
    assert Coefs._fields == ("skip", "out", "inp", "noise")


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
def test_edm_coefficients_are_those_of_the_paper(sigma_data):
    """Karras et al. 2022, table 1."""
    s, d = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64), sigma_data
    coefs = EDMPrecond(d)(EDM(), s)
    expected = Coefs(d**2 / (s**2 + d**2), s * d / (d**2 + s**2).sqrt(), 1 / (s**2 + d**2).sqrt(), s.log() / 4)
    for got, value in zip(coefs, expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-14, atol=1e-15)


def variances(sde: GaussianSDE, t: Tensor, coefs: Coefs, data: float) -> tuple[Tensor, Tensor]:
    """Variance of the network's input and of its target (x_0 - skip x) / out, for data of variance `data`."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    given = coefs.inp**2 * (alpha**2 * data + sigma**2)
    wanted = ((1 - coefs.skip * alpha) ** 2 * data + (coefs.skip * sigma) ** 2) / coefs.out**2
    return given, wanted


@every_process
@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_edm_input_and_target_have_unit_variance_and_skip_is_the_best(sde, sigma_data):
    t, d = times(sde), sigma_data
    coefs, alpha, sigma = EDMPrecond(d)(sde, t), sde.alpha(t), sde.sigma(t)
    for variance in variances(sde, t, coefs, d**2):
        torch.testing.assert_close(variance, torch.ones_like(t), rtol=1e-9, atol=0)
    # skip minimises out^2 = Var[x_0 - skip x]
    slope = -2 * alpha * (1 - coefs.skip * alpha) * d**2 + 2 * coefs.skip * sigma**2
    torch.testing.assert_close(slope, torch.zeros_like(t), rtol=0, atol=1e-13 * d**2)


@every_process
@pytest.mark.parametrize("precond", ["noise", "score", "velocity"])
def test_the_other_preconditioners_have_unit_variance_for_unit_data(sde, precond):
    t = times(sde)
    for variance in variances(sde, t, IDEAL[precond][0](sde, t), 1.0):
        torch.testing.assert_close(variance, torch.ones_like(t), rtol=1e-9, atol=0)


class Waves(nn.Module):
    """A smooth network without symmetry, of any event shape."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.weights = nn.Parameter(torch.randn(4, dtype=torch.float64))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        w = self.weights.to(x.dtype)
        level = noise.reshape(-1, *(1,) * (x.ndim - 1)) if noise.ndim else noise
        y = (w[0] * x + w[1]).sin() + w[2] * x.roll(1, -1) * level.cos() + w[3] * level
        if label is None:
            return y
        label = label.to(x.dtype)
        return y + (label.reshape(-1, *(1,) * (x.ndim - 1)) if label.ndim else label)


@every_precond
@pytest.mark.parametrize("log_snr", [-4.0, 0.0, 5.0])
def test_a_learned_network_is_one_model_for_all_processes(precond, log_snr):
    """At one noise-to-signal ratio, D is the same function of x / alpha."""
    xbar = normals(3, 5) * 1.7
    outputs = []
    for sde in [*PROCESSES, LinearSDE(lambda t: -2 * t, lambda t: 4 * t.sqrt())]:
        if float(sde.log_snr(torch.tensor(sde.T, dtype=torch.float64))) > log_snr:
            continue
        knot = sde.knot_at(log_snr)
        outputs.append(Preconditioned(Waves(), sde, IDEAL[precond][0])(knot.alpha * xbar, knot.time))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-8, atol=1e-8)


def test_velocity_is_edm_of_unit_data_with_the_sign_turned():
    t = times(Cosine())
    v, e = VelocityPrecond()(Cosine(), t), EDMPrecond(1.0)(Cosine(), t)
    for got, expected in zip(v, (e.skip, -e.out, e.inp, e.noise), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-15)


@every_process
def test_the_noise_level_is_a_quarter_of_the_log_ratio(sde):
    t = times(sde)
    torch.testing.assert_close(noise_level(sde, t), (sde.sigma(t) / sde.alpha(t)).log() / 4, rtol=1e-12, atol=1e-13)


@every_precond
def test_networks_predict_what_their_preconditioner_is_called_for(precond):
    """For VP: F is ehat, sigma s and v itself."""
    sde, x = VP(), normals(4, 3)
    t = times(sde)
    model = Preconditioned(Waves(), sde, IDEAL[precond][0])
    f = model.raw(x, model.precond(sde, t))
    sigma = sde.sigma(t)[:, None]
    views = {"noise": model.noise, "velocity": model.velocity, "score": lambda x, t: sigma * model.score(x, t)}
    if precond in views:
        torch.testing.assert_close(views[precond](x, t), f, rtol=1e-8, atol=1e-9)


@every_process
def test_float32_denoising_costs_rounding_only(sde):
    model, x, t = Preconditioned(Waves(), sde, EDMPrecond(0.5)), normals(4, 3, 8, 8), times(sde)
    x = sde.perturb(0.5 * x, t, normals(4, 3, 8, 8, draw=1)).float()
    got = model(x, t)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), model(x.double(), t), rtol=1e-4, atol=1e-5)


def test_a_network_of_another_shape_is_an_error():
    class Wrong(nn.Module):
        def forward(self, x: Tensor, noise: Tensor) -> Tensor:
            return x[:, :2]

    model = Preconditioned(Wrong(), VP(), EDMPrecond(0.5))
    with pytest.raises(ValueError, match=r"Wrong returned shape \(4, 2\) .* \(4, 3\).*events of shape \(3,\)"):
        model(normals(4, 3), torch.tensor(0.5))


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.nan])
def test_sigma_data_must_be_positive(sigma_data):
    with pytest.raises(ValueError, match=f"sigma_data.*{sigma_data}"):
        EDMPrecond(sigma_data)


def labelled() -> Denoiser:
    return Preconditioned(Waves(), SubVP(), VelocityPrecond())


LABELS = torch.tensor([3, -1, 0, 2])


@pytest.mark.parametrize("label", [LABELS, torch.tensor(3), 3], ids=["one a sample", "scalar", "integer"])
@pytest.mark.parametrize("view", ["forward", "score", "noise", "velocity"])
def test_given_is_the_same_as_passing_the_condition(label, view):
    model, x, t = labelled(), normals(4, 3), times(SubVP())
    expected = getattr(model, view)(x, t, label=torch.as_tensor(label))
    bound = model.given(label=label)
    assert torch.equal(getattr(bound, view)(x, t), expected)
    assert not torch.allclose(getattr(model, view)(x, t), expected)
    assert bound.sde == model.sde


@pytest.mark.parametrize("rows", [[1, 2], [2, 0], [3, 3, 3]])
@pytest.mark.parametrize("label", [LABELS, 3], ids=["one a sample", "integer"])
def test_select_keeps_the_rows_of_the_condition(rows, label):
    model, x, t, rows = labelled(), normals(4, 3), torch.tensor(0.4, dtype=torch.float64), torch.tensor(rows)
    bound = model.given(label=label)
    assert torch.equal(bound.select(rows, 4)(x[rows], t), bound(x, t)[rows])
    # a selection of a selection
    first, second = torch.tensor([3, 0, 1]), torch.tensor([2, 0])
    assert torch.equal(bound.select(first, 4).select(second, 3)(x[first][second], t), bound(x, t)[first][second])
    # a model without conditions serves every row
    assert torch.equal(model.select(rows, 4)(x[rows], t), model(x, t)[rows])


class TwoConditions(Denoiser):
    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return cond["scale"][:, None] * x + cond["shift"]


def test_conditions_can_be_given_one_after_the_other():
    model, x, t = TwoConditions(VP()), normals(3, 2), torch.tensor(0.3)
    scale, shift = torch.tensor([1.0, 2.0, 3.0]), normals(3, 2, draw=1)
    nested = model.given(scale=scale).given(shift=shift)
    expected = scale[:, None] * x + shift
    assert torch.equal(nested(x, t), expected)
    assert torch.equal(nested.select(torch.tensor([1, 2]), 3)(x[1:], t), expected[1:])
    assert torch.equal(model.given(shift=shift)(x, t, scale=scale), expected)


def test_a_condition_of_another_length_is_an_error():
    bound = labelled().given(label=LABELS)
    for call in (lambda: bound(normals(3, 2), torch.tensor(0.3)), lambda: bound.select(torch.tensor([0]), 3)):
        with pytest.raises(ValueError, match="'label' has 4 rows for 3 samples: give one row a sample, or a scalar"):
            call()


def test_a_condition_given_twice_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="label"):
        labelled().given(label=1).given(label=2)(normals(3, 2), torch.tensor(0.3))


class PlainScore:
    """A score of N(0, (alpha^2 v + sigma^2) I) and nothing else."""

    def __init__(self, sde: GaussianSDE) -> None:
        self.sde = sde

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.double()
        variance = self.sde.alpha(t) ** 2 * VARIANCE + self.sde.sigma(t) ** 2
        return -x / (variance.reshape(-1, *(1,) * (x.ndim - 1)) if t.ndim else variance)


@every_process
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_denoiser_of_a_score_is_the_posterior_mean(sde, event):
    plain, t = PlainScore(sde), times(sde)
    x = sde.perturb(normals(4, *event), t, normals(4, *event, draw=1))
    model = as_denoiser(plain)
    exact = gaussian(sde, torch.zeros(event), torch.tensor(VARIANCE))
    torch.testing.assert_close(model(x, t), exact(x, t), rtol=1e-9, atol=1e-10)
    atol = 1e-13 * (1 + float(x.abs().max())) / float(sde.sigma(t).min()) ** 2
    torch.testing.assert_close(model.score(x, t), plain.score(x, t), rtol=1e-9, atol=atol)


def test_a_denoiser_is_its_own_denoiser():
    model = gaussian(VE(), torch.zeros(2), torch.eye(2))
    assert as_denoiser(model) is model
    assert isinstance(model, Score) and isinstance(PlainScore(VP()), Score)


def test_a_score_without_a_gaussian_process_has_no_denoiser():
    model = PlainScore(VP())
    model.sde = ItoSDE(lambda x, t: -(x**3), lambda x, t: x)
    for make in (FromScore, as_denoiser):
        with pytest.raises(TypeError, match=r"Gaussian process; got ItoSDE.*EulerMaruyama"):
            make(model)
