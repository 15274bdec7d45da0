"""A sample is a function of its seed; the loops do what they say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.networks import labelled_denoiser
from helpers.processes import PROCESSES, name
from torch import Tensor

from scorefield import (
    VE,
    VP,
    EDMPrecond,
    GaussianSDE,
    ItoSDE,
    Noise,
    NormalPrior,
    Preconditioned,
    default,
    gaussian,
    grids,
    sample,
)
from scorefield.certify import output_law
from scorefield.guidance import ClassifierFree
from scorefield.nn import MLP, seeded
from scorefield.sampling import integrate, network_calls, stochastic
from scorefield.score import Denoiser
from scorefield.solvers import (
    DDIM,
    HMC,
    AdaptiveSDE,
    BogackiShampine,
    DormandPrince,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    Solver,
    Step,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")

SEEDS = list(range(100, 123))


@pytest.mark.parametrize("kind", ["MLP", "UNet"])
@pytest.mark.parametrize("solver", [UniPC(), PredictorCorrector(EulerMaruyama(), Langevin())], ids=["UniPC", "PC"])
def test_samples_are_bit_identical_for_any_split_at_equal_batch_size(kind: str, solver: object) -> None:
    model = labelled_denoiser(kind)
    times = grids.uniform_log_snr(model.sde, 3 if kind == "UNet" else 5)

    def draw(seeds: list[int], batch_size: int | None) -> Tensor:
        labels = torch.tensor(seeds) % 4
        return sample(model.given(label=labels), (1, 8, 8), times, solver, seeds=seeds, batch_size=batch_size)  # type: ignore[arg-type]

    whole = draw(SEEDS, 8)
    assert whole.std() > 0.1
    for parts in ((1, 22), (9, 2, 12)):
        pieces = torch.tensor(SEEDS).split(parts)
        assert torch.equal(torch.cat([draw(p.tolist(), 8) for p in pieces]), whole)
    assert torch.equal(draw(SEEDS[::-1], 8).flip(0), whole)
    # other batch shapes round differently
    scale = float(whole.abs().max())
    for batch_size in (None, 1, 5):
        assert float((draw(SEEDS, batch_size) - whole).abs().max()) < 1e-4 * scale


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize(
    "solver",
    [
        BogackiShampine(1e-3),
        DormandPrince(1e-3),
        AdaptiveSDE(),
        PredictorCorrector(BogackiShampine(1e-3), HMC(steps=2)),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_steps_of_their_own_size_leave_no_trace_of_batch_mates(solver: Solver, guided: bool) -> None:
    # samples that need more steps than the others must be seen by the network in batches of the same size
    model, sizes = labelled_denoiser("MLP"), torch.logspace(-2, 1.5, 6)
    x = sizes[:, None, None, None] * Noise.per_sample(SEEDS[:6]).normal(torch.empty(6, 1, 8, 8))
    calls: set[int] = set()

    def report(k: int, knot: Knot, step: Step) -> None:
        if step.info and "calls" in step.info:
            calls.update(step.info["calls"].tolist())

    def draw(rows: list[int]) -> Tensor:
        seeds = [SEEDS[row] for row in rows]
        part = given = model.given(label=torch.tensor(seeds) % 4)
        if guided:  # within an interval: on for some samples of a batch and off for others
            part = ClassifierFree(given, model, 2.0, (0.3, 3.0))
        start, times = (x[rows], 1.0), [1.0, 0.02, 0.0]
        return sample(part, (1, 8, 8), times, solver, seeds=seeds, batch_size=4, start=start, callback=report)

    whole = draw([0, 1, 2, 3, 4, 5])
    assert len(calls) > 1 or isinstance(solver, PredictorCorrector)
    assert torch.equal(draw([5, 4, 3, 2, 1, 0]).flip(0), whole)
    assert torch.equal(draw([3]), whole[3:4])


def test_a_grid_that_ends_at_zero_ends_with_the_posterior_mean() -> None:
    model = gaussian(VP(), torch.zeros(2), torch.eye(2) * 0.3)
    times = grids.karras(model.sde, 10)
    noisy = sample(model, (2,), times[:-1], DDIM(), seeds=range(4))
    clean = sample(model, (2,), times, DDIM(), seeds=range(4))
    assert torch.equal(clean, model(noisy, torch.tensor(times[-2], dtype=torch.float64)))


def test_start_continues_a_grid_from_a_time_inside_it() -> None:
    model = gaussian(VE(), torch.zeros(2), torch.eye(2))
    times = grids.karras(model.sde, 10)
    middle = sample(model, (2,), times[:5], DDIM(), seeds=range(4))
    whole = sample(model, (2,), times, DDIM(), seeds=range(4))
    assert torch.equal(sample(model, (2,), times, DDIM(), seeds=range(4), start=(middle, times[4])), whole)
    between = 0.5 * (times[4] + times[5])  # not a point of the grid: the first step is a shorter one
    moved = sample(model, (2,), times, DDIM(), seeds=range(4), start=(middle, between))
    expected = integrate(model, middle, [between, *times[5:]], DDIM(), noise=Noise.per_sample(range(4)))
    assert torch.equal(moved, expected)


def test_prior_replaces_the_first_law() -> None:
    model = gaussian(VE(), torch.zeros(2), torch.eye(2))
    times = grids.karras(model.sde, 5)
    own = sample(model, (2,), times, DDIM(), seeds=range(4))
    wide = sample(model, (2,), times, DDIM(), seeds=range(4), prior=NormalPrior(2 * model.sde.prior.std))
    torch.testing.assert_close(wide, 2 * own)  # a linear denoiser


def test_callback_sees_each_state_of_each_batch() -> None:
    model = gaussian(VP(), torch.zeros(2), torch.eye(2))
    times = grids.karras(model.sde, 4)
    seen: list[tuple[int, float, Tensor]] = []
    x = sample(
        model,
        (2,),
        times,
        DDIM(),
        seeds=range(6),
        batch_size=4,
        callback=lambda k, knot, s: seen.append((k, knot.t, s.x)),
    )
    assert [(k, t) for k, t, _ in seen] == 2 * list(zip(range(1, 5), times[1:], strict=True))
    assert torch.equal(seen[3][2], x[:4])
    assert torch.equal(seen[7][2][:2], x[4:])


def test_gradients_pass_through_integrate() -> None:
    # a linear denoiser: the derivative of the endpoint is the endpoint itself over the start
    model = gaussian(VP(), torch.zeros(1), torch.tensor([0.5]))
    x = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    y = integrate(model, x, grids.karras(model.sde, 6), UniPC(), noise=Noise.per_sample([0]))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)


def test_networks_run_in_evaluation_mode_and_are_left_as_they_were() -> None:
    with seeded(0):
        net = MLP((2,), features=16, dropout=0.5)
    model = Preconditioned(net, VP(), EDMPrecond(0.5))
    net.layers[0].eval()  # a mixed state must survive
    before = [m.training for m in model.modules()]
    a, b = (sample(model, (2,), grids.karras(VP(), 4), DDIM(), seeds=[0]) for _ in range(2))
    assert torch.equal(a, b)
    assert [m.training for m in model.modules()] == before


def test_a_plain_score_of_any_process_can_be_sampled() -> None:
    # Ornstein-Uhlenbeck written as an ItoSDE: the score of N(0, 1) data is -x at all times, and the law stays N(0, 1)
    sde = ItoSDE(f=lambda x, t: -x, g=lambda x, t: torch.tensor(2.0).sqrt(), terminal=NormalPrior(1.0), T=2.0)

    @dataclasses.dataclass
    class Normal:
        sde: ItoSDE

        def score(self, x: Tensor, t: Tensor) -> Tensor:
            return -x

    times = grids.uniform(sde, 200)
    x = sample(Normal(sde), (2,), times, EulerMaruyama(), seeds=range(20_000))
    # 40,000 values: the variance errs by 0.007 at one sigma, 4.9 sigma is 1e-6; h = 0.01 biases it by 0.005
    assert abs(float(x.var()) - 1.005) < 0.035
    assert abs(float(x.mean())) < 4.9 / 200
    solver, grid = default(sde, 10)
    assert isinstance(solver, EulerMaruyama)
    assert len(grid) == 11


@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 5, 20, 50])
def test_the_default_keeps_to_its_budget(nfe: int) -> None:
    solver, times = default(VP(), nfe)
    assert network_calls(VP(), times, solver) == nfe


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_the_default_keeps_the_variance_in_bounds_for_any_budget(sde: GaussianSDE) -> None:
    variances = torch.tensor([1e-4, 0.01, 0.05, 0.3, 1.0, 3.0, 25.0])
    for nfe in (*range(2, 17), 20, 35):
        law = output_law(*default(sde, nfe), sde, variances)
        assert bool((law.std <= 3 * law.target).all()), nfe
        if nfe >= 8:
            assert bool(((law.std - law.target).abs() <= 0.1 * law.target)[1:].all()), nfe


def test_the_default_leaves_no_noise_on_constant_data() -> None:
    # such as the background of images, for any budget; the grid ends at noise of up to 0.1
    for nfe in (*range(4, 17), 20, 35, 100):
        law = output_law(*default(VP(), nfe), VP(), torch.zeros(1))
        assert float(law.std) < 0.02, nfe


def test_bad_requests_are_refused() -> None:
    model = gaussian(VP(), torch.zeros(2), torch.eye(2))
    times = grids.karras(model.sde, 5)

    def draw(**changes: object) -> object:
        options: dict[str, object] = {"event_shape": (2,), "times": times, "solver": DDIM(), "seeds": [1, 2], **changes}
        return sample(model, **options)  # type: ignore[arg-type]

    for changes, message in (
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [2**64]}, "seed must lie"),
        ({"seeds": torch.zeros(2)}, "seeds must be integers"),
        ({"batch_size": 0}, "batch_size"),
        ({"times": [1.0]}, "at least 2 points"),
        ({"times": [2.0, 0.5]}, r"lie in \[0, 1.0\]; got 2.0"),
        ({"times": [1.0, float("nan")]}, "got nan"),
        ({"times": [1.0, 0.5, 0.5, 0.1]}, "must decrease"),
        ({"times": [0.1, 0.5, 1.0]}, "must decrease"),
        ({"times": [0.5, 0.1, 0.0]}, "T = 1.0; got times that begin at 0.5"),
        ({"start": (torch.zeros(3, 2), 0.5)}, r"shape \(2, 2\); got \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(**changes)
    with pytest.raises(ValueError, match="2 rows for 3 samples"):
        sample(_labelled(), (2,), times, DDIM(), seeds=[1, 2, 3])


def _labelled() -> Denoiser:
    with seeded(0):
        return Preconditioned(MLP((2,), 3, 16), VP(), EDMPrecond(0.5)).given(label=torch.tensor([0, 1]))


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_the_grid_of_guided_samples_goes_down_to_a_tenth_of_the_noise(sde):
    _, usual = stochastic(sde, 7)
    assert usual[-2:] == [pytest.approx(sde.t_end), 0.0]
    last, least = (knot.sigma / knot.alpha for knot in sde.knots([sde.t_end, sde.t_min]))
    for finest in (20 * last, 5 * last, 1e-9):
        _, times = stochastic(sde, 7, finest)
        end = sde.knots(times)[-2]
        assert len(times) == 8 and times[0] == pytest.approx(sde.T)
        assert end.sigma / end.alpha == pytest.approx(min(last, max(least, 0.1 * finest)), rel=1e-6)
