"""Power-function averages and what is made of their snapshots, against closed forms and averages that were tracked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from scorefield import VP, Denoiser
from scorefield.training import Optimisation, PowerEMA, Snapshots, TrainState
from scorefield.training.ema import WIDEST, exponent
from scorefield.training.snapshots import coefficients


class Curve(Denoiser):
    """Weights that go along a noisy curve, as those of a training do; step t is the same for all."""

    def __init__(self, last=1200, size=64):
        super().__init__(VP())
        g = torch.Generator().manual_seed(0)
        slow, fast, trend = torch.randn(3, last + 1, size, generator=g, dtype=torch.float64)
        trend = trend[0] / (1 + torch.arange(last + 1)[:, None] / 50)
        self.values = trend + slow.cumsum(0) / last**0.5 + 0.1 * fast
        self.weight = nn.Parameter(self.values[0].clone())

    def forward(self, x, t, **cond):
        return x

    def go(self, step):
        self.weight.data.copy_(self.values[step])


def advance(state, last, *stores, others=(), batch=16):
    """A training whose weights are moved by hand."""
    while state.step < last:
        state.step += 1
        state.model.go(state.step)
        for average in (*state.averages, *others):
            average.update(state.model, batch * state.step, batch)
        for store in stores:
            store.update(state, newest=state.step == last)


def state_of(curve, widths=(0.05, 0.1)):
    return TrainState(curve, Optimisation(widths=widths), seed=0)


@pytest.mark.parametrize("width", [0.003, 0.05, 0.1, 0.2, 0.28, WIDEST])
def test_a_width_is_the_standard_deviation_of_its_profile(width):
    """Mutant: (gamma + 2) (gamma + 3)^2 in the place of (gamma + 2)^2 (gamma + 3)."""
    gamma = exponent(width)
    mean, square = (quad(lambda x, k=k: (gamma + 1) * x ** (gamma + k), 0, 1, epsabs=1e-13)[0] for k in (1, 2))
    assert math.sqrt(square - mean**2) == pytest.approx(width, rel=1e-6)


def test_the_exponents_are_the_published_ones():
    # Karras et al. 2024, section 3.1; the plain mean has the exponent 0
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(WIDEST) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("batch", [1, 48])
@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_the_average_is_the_weighted_sum_of_all_weights_so_far(width, batch):
    """Mutant: beta = (1 - batch / seen)^gamma."""
    curve = Curve(last=300)
    average = PowerEMA(curve, width)
    for step in range(1, 301):
        curve.go(step)
        average.update(curve, step * batch, batch)
    k, power = torch.arange(1, 301, dtype=torch.float64), exponent(width) + 1
    weights = (k / 300) ** power - ((k - 1) / 300) ** power
    assert float(weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(average.weights["weight"], weights @ curve.values[1:], rtol=1e-11, atol=1e-11)


def test_the_widest_average_is_the_mean_without_the_initial_weights():
    curve = Curve(last=50)
    average = PowerEMA(curve, WIDEST)
    curve.values[0] = math.nan
    for step in range(1, 51):
        curve.go(step)
        average.update(curve, step, 1)
    torch.testing.assert_close(average.weights["weight"], curve.values[1:].mean(0))


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3, math.nan])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ValueError, match="relative width"):
        PowerEMA(Curve(last=2), width)
    with pytest.raises(ValueError, match="wanted widths in"):
        Optimisation(widths=(0.1, width))


def test_the_coefficients_are_the_least_squares_fit_of_the_profiles():
    """Mutants: the exponents of the two profiles swapped; the sum not 1; gamma + 1 instead of gamma in the overlap."""
    steps, widths, step, width = [40, 80, 100], [0.06, 0.15], 80, 0.1
    tau = (np.arange(200_000) + 0.5) / 2000
    profile = lambda t, s: np.where(tau < t, (exponent(s) + 1) * (tau / t) ** exponent(s) / t, 0)  # noqa: E731
    columns = np.stack([profile(t, s) for t in steps for s in widths], 1)
    wanted = profile(step, width)
    free = np.linalg.lstsq(columns, wanted, rcond=None)[0]
    x, residual = coefficients(steps, widths, step, width)
    np.testing.assert_allclose(x.ravel(), free / free.sum(), atol=1e-4)
    missed = np.linalg.norm(columns @ x.numpy().ravel() - wanted) / np.linalg.norm(wanted)
    assert residual == pytest.approx(missed, rel=1e-3)
    assert x.sum() == pytest.approx(1, abs=1e-12)


def test_profiles_that_are_nearly_the_same_are_no_trouble():
    """Mutant: SINGULAR = 0. Coefficients of 1e6 would multiply the rounding of float32 weights."""
    alike = [0.05, 0.05 * (1 + 1e-6), 0.1, 0.1 * (1 + 1e-6)]
    once, twice = (coefficients([64, 100], widths, 100, 0.08) for widths in ([0.05, 0.1], alike))
    assert twice[1] == pytest.approx(once[1], rel=1e-4)
    assert float(twice[0].abs().sum()) == pytest.approx(float(once[0].abs().sum()), rel=1e-3)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Snapshots of a run, as many as given, and averages of other widths at two steps of it."""
    folder = tmp_path_factory.mktemp("averages")
    curve = Curve()
    stores = {most: Snapshots(folder / str(most), most) for most in (4, 8, 16, 32)}
    others = [PowerEMA(curve, width) for width in (0.03, 0.07, 0.1, 0.15, 0.2)]
    state, seen = state_of(curve), {}
    for last in (704, 1200):
        advance(state, last, *stores.values(), others=others)
        seen |= {(average.width, last): average.weights["weight"].clone() for average in others}
    return curve, stores, seen


@pytest.mark.parametrize("width", [0.03, 0.07, 0.15, 0.2])
def test_other_widths_are_made_from_snapshots_the_better_the_more_there_are(tracked, width):
    """Mutants: snapshots written a step late; the newest left out; ta / tb for tb / ta in the overlap."""
    curve, stores, seen = tracked
    values = curve.values[1:]
    reach = float((values - 0.5 * (values.amin(0) + values.amax(0))).abs().max())
    gamma, errors = exponent(width), {}
    for most, store in stores.items():
        try:
            made = store.average(width)
        except ValueError as error:
            assert most < 16 and "out of reach" in str(error)
            continue
        assert made.step == 1200
        errors[most] = float((made.weights["weight"] - seen[width, 1200]).abs().max())
        assert errors[most] <= (gamma + 1) / math.sqrt(2 * gamma + 1) * made.residual * reach
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert errors[32] < 0.01 * reach and errors[32] < 0.5 * errors[16]


def test_averages_of_earlier_steps_and_of_the_tracked_widths_are_there_too(tracked):
    _, stores, seen = tracked
    made = stores[32].average(0.07, 704)
    assert made.step == 704
    assert float((made.weights["weight"] - seen[0.07, 704]).abs().max()) < 0.02
    made = stores[8].average(0.1)
    assert made.residual < 1e-7
    torch.testing.assert_close(made.weights["weight"], seen[0.1, 1200], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("width", "step", "message"),
    [
        (
            0.003,
            None,
            "width 0.003 at step 1200 is out of reach of 19 snapshots of the widths 0.05, 0.1: 67 % .* to those$",
        ),
        (0.07, 700, "out of reach.*or the step 704"),
        (0.1, 5, "width 0.1 at step 5 is out of reach"),
        (0.1, 1201, "wanted a step from 1 to 1200"),
        (0.1, 0, "wanted a step from 1 to 1200"),
        (0.4, None, "relative width"),
    ],
)
def test_what_is_out_of_reach_is_refused(tracked, width, step, message):
    _, stores, _ = tracked
    with pytest.raises(ValueError, match=message):
        stores[32].average(width, step)


def test_the_snapshots_kept_depend_on_the_step_alone(tmp_path):
    store, state = Snapshots(tmp_path, 8), state_of(Curve(size=1))
    for last in (5, 8, 9, 21, 64, 100, 203):
        advance(state, last, store)
        gap = next(2**k for k in range(9) if 2**k * 8 >= last)
        assert store.steps() == sorted({*range(gap, last + 1, gap), last})
        assert len(store.steps()) <= 9
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors"}


@pytest.mark.parametrize("most", [4, 32])
def test_a_run_that_was_killed_and_resumed_ends_with_the_same_files(tmp_path, most):
    """Mutant: files beyond the step are left where they are."""
    whole, killed = (Snapshots(tmp_path / name, most) for name in ("whole", "killed"))
    advance(state_of(Curve(size=3)), 150, whole)
    first = state_of(Curve(size=3))
    advance(first, 90)
    first.save(tmp_path / "state.safetensors")
    first = state_of(Curve(size=3))
    advance(first, 131, killed)
    (killed.folder / ".000000132.safetensors.0123456789abcdef.part").write_bytes(b"cut short")
    resumed = state_of(Curve(size=3))
    resumed.load(tmp_path / "state.safetensors")
    killed.update(resumed, newest=True)
    assert killed.steps()[-1] == 90
    advance(resumed, 150, killed)
    assert killed.steps() == whole.steps()
    for step in whole.steps():
        name = f"{step:09d}.safetensors"
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_without_widths_there_are_no_snapshots(tmp_path):
    store = Snapshots(tmp_path / "averages")
    advance(state_of(Curve(size=1), ()), 5, store)
    assert not store.folder.exists()
    with pytest.raises(FileNotFoundError, match=r"holds no snapshots: train with --optimisation.widths"):
        store.average(0.1)
    with pytest.raises(ValueError, match="most must be at least 2; got 1"):
        Snapshots(tmp_path, 1)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="link: is a link"):
        Snapshots(tmp_path / "link")


def test_a_damaged_snapshot_is_named_and_can_be_done_without(tmp_path):
    store = Snapshots(tmp_path)
    advance(state_of(Curve(size=3)), 50, store)
    good = store.average(0.1).weights["weight"]
    file = tmp_path / "000000040.safetensors"
    content = file.read_bytes()
    other_width = content.replace(b"0.05", b"0.04", 1)
    for damaged in (content[:-1], content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], other_width):
        assert damaged != content
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"000000040.safetensors: damaged.*remove it"):
            store.average(0.1)
    file.unlink()
    torch.testing.assert_close(store.average(0.1).weights["weight"], good, rtol=1e-9, atol=1e-9)
    file.write_bytes((tmp_path / "000000050.safetensors").read_bytes())
    with pytest.raises(ValueError, match="not a snapshot of step 40"):
        store.average(0.07)
    file.unlink()
    other = state_of(Curve(size=3), (0.05, 0.2))
    other.step = 40
    Snapshots(tmp_path / "other").update(other)
    (tmp_path / "other" / file.name).rename(file)
    with pytest.raises(ValueError, match=r"has the widths \[0.05, 0.2\], the last snapshot \[0.05, 0.1\]"):
        store.average(0.07)
