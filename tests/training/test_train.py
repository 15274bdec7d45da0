"""Training: averages and batches in closed form, steps that repeat to the bit, and a score that is learned."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.networks import awake
from safetensors import safe_open
from safetensors.torch import load, save
from torch import nn

from scorefield import VP, Denoiser, EDMPrecond, Preconditioned, gaussian
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, EDM2UNet, UNet, seeded
from scorefield.objectives import (
    AdaptiveLogSNR,
    DenoisingScoreMatching,
    EDMWeight,
    LabelDropout,
    LikelihoodWeight,
    LogNormalSigma,
    Objective,
)
from scorefield.training import EMA, Batches, Optimisation, TrainState, distributed, train, validation_loss

OBJECTIVE = DenoisingScoreMatching(LogNormalSigma(-0.5), EDMWeight(1.0))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser():
    with seeded(0):
        return Preconditioned(MLP((2,), 3, features=16, blocks=1), VP(), EDMPrecond(1.0))


def batches(size=8, n=50, seed=1):
    return Batches(ArrayDataset(normal(n, 2), torch.arange(n) % 3), Affine(), size, seed=seed)


# the learning rate and the gradient


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    o = Optimisation(lr=2.0, warmup=4)
    assert [o.rate(k, 100) for k in range(3)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * k / 100)) * (k + 1) / 2 for k in range(3)]
    )
    assert o.rate(50, 100) == pytest.approx(1.0)
    assert o.rate(25, 100) == pytest.approx(1 + math.sqrt(0.5))
    assert o.rate(99, 100) == pytest.approx(0, abs=1e-3)
    assert [Optimisation(lr=2.0, warmup=0, decay=False).rate(k, 10) for k in (0, 10**6)] == [2, 2]
    assert [Optimisation(lr=2.0, warmup=4, decay=False).rate(k, 10) for k in (0, 3, 4, 999)] == [0.5, 2, 2, 2]


def test_each_step_moves_by_the_rate_of_its_number():
    state = TrainState(denoiser(), Optimisation(lr=1e-3, warmup=3), seed=0)
    previous = state.model.net.out.weight.detach().clone()
    for k, info in enumerate(train(state, batches(), OBJECTIVE, steps=7)):
        moved = float((state.model.net.out.weight.detach() - previous).abs().max())
        previous = state.model.net.out.weight.detach().clone()
        assert info.lr == state.optimisation.rate(k, 7) and info.step == k + 1 == state.step
        assert moved <= 1.01 * info.lr * (1 if k == 0 else 10)
        assert moved > 0
        if k == 0:
            assert moved == pytest.approx(info.lr, rel=1e-3)  # Adam's first step is lr sign(gradient)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_the_gradient_is_that_of_the_mean_loss_per_dimension_cut_to_its_largest_norm(clip):
    model, source = denoiser(), batches()
    batch = source[0]
    loss = OBJECTIVE(model, batch.x0, noise=batch.noise, **batch.cond).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    gradients = [None if g is None else g / batch.x0[0].numel() for g in gradients]
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients if g is not None))
    state = TrainState(model, Optimisation(clip=clip), seed=0)
    info = next(train(state, source, OBJECTIVE, steps=1))
    assert float(info.loss) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert float(info.gradient_norm) == pytest.approx(norm, rel=1e-4)
    factor = min(1, clip / norm)
    for p, g in zip(model.parameters(), gradients, strict=True):
        if g is not None:
            torch.testing.assert_close(p.grad, factor * g, rtol=1e-3, atol=1e-6 * factor * norm)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"lr": math.nan},
        {"clip": 0.0},
        {"warmup": -1},
        {"weight_decay": -1.0},
        {"betas": (0.9, 1.5)},
        {"half_lives": (0.0,)},
        {"half_lives": ()},
    ],
)
def test_impossible_optimisations_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainState(denoiser(), Optimisation(**change), seed=0)


def test_a_model_without_weights_cannot_be_trained():
    with pytest.raises(ValueError, match="GaussianMixture has no parameters"):
        TrainState(gaussian(VP(), torch.zeros(2), torch.eye(2)), seed=0)


# the state


def network_of(kind, seed, features):
    with seeded(seed):
        if kind == "MLP":
            net = MLP((2,), 3, features=features, blocks=2, dropout=0.3)
        else:
            net = UNet((1, 8), 3, channels=(4, 8), blocks=1, dropout=0.3)
        return Preconditioned(net, VP(), EDMPrecond(1.0))


def run_of(kind, seed=5, initial=0, features=16):
    shape = (2,) if kind == "MLP" else (1, 8)
    data = ArrayDataset(normal(30, *shape), torch.arange(30) % 3)
    optimisation = Optimisation(warmup=5, decay=False, half_lives=(60.0, 20.0))
    state = TrainState(network_of(kind, initial, features), optimisation, seed=seed)
    return state, Batches(data, Affine(), 8, seed=seed), LabelDropout(OBJECTIVE, 0.4)


def advance(run, steps):
    return [info.loss.item() for info in train(*run, steps=steps)]


def contents(state):
    """Everything that the next step depends on."""
    moments = state.optimiser.state_dict()["state"]
    return {
        **{f"model.{k}": v.clone() for k, v in state.model.state_dict().items()},
        **{f"average.{k}": v.clone() for k, v in state.averages[0].weights.items()},
        **{f"{k}.{name}": v.clone() for k, values in moments.items() for name, v in values.items()},
    }


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("kind", ["MLP", "UNet"])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(kind, tmp_path):
    whole = run_of(kind)
    losses = advance(whole, 20)
    first = run_of(kind)
    before = advance(first, 10)
    first[0].save(tmp_path / "state.safetensors")
    second = run_of(kind, initial=99)
    second[0].load(tmp_path / "state.safetensors")
    assert second[0].step == 10
    assert before + advance(second, 20) == losses
    equal(contents(second[0]), contents(whole[0]))
    assert second[0].step == whole[0].step == 20


def test_an_adaptive_density_is_a_part_of_the_state(tmp_path):
    """A resumed run goes on with what was learnt, and a second run with the same objective begins without it."""

    def begun():
        state, source, _ = run_of("MLP")
        return state, source, DenoisingScoreMatching(AdaptiveLogSNR(8), LikelihoodWeight())

    whole, first, second = begun(), begun(), begun()
    losses = advance(whole, 12)
    before = advance(first, 6)
    first[0].save(tmp_path / "state.safetensors")
    second[0].load(tmp_path / "state.safetensors")
    assert before + advance(second, 12) == losses
    assert torch.equal(second[0].learnt["0"], whole[0].learnt["0"]) and bool(whole[0].learnt["0"].any())
    assert advance((run_of("MLP")[0], first[1], whole[2]), 6) == before


def test_a_run_repeats_to_the_bit_and_another_seed_gives_another():
    a, b, c = run_of("MLP"), run_of("MLP"), run_of("MLP", seed=6)
    assert advance(a, 8) == advance(b, 8)
    equal(contents(a[0]), contents(b[0]))
    assert advance(c, 8)[0] != advance(run_of("MLP"), 1)[0]


def test_dropout_of_weights_and_labels_takes_part_in_training():
    state, source, objective = run_of("MLP")
    plain = run_of("MLP")
    plain[0].model.net.layers[0].dropout.p = plain[0].model.net.layers[1].dropout.p = 0.0
    shown = run_of("MLP")
    losses = advance((state, source, objective), 5)
    assert advance(plain, 5) != losses
    assert advance((shown[0], shown[1], OBJECTIVE), 5) != losses


class Repeated:
    """The first batch again and again."""

    size = 8

    def __init__(self, source):
        self.source = source

    def part(self, step, first, last):
        return self.source.part(0, first, last)


def test_dropout_is_drawn_anew_in_each_step_and_only_it_changes_the_loss_of_a_repeated_batch():
    state, source, _ = run_of("MLP")
    still = Optimisation(lr=1e-30, warmup=0)
    awake(state.model.net)  # a fresh network is zero with or without dropout
    with_dropout = TrainState(state.model.eval(), still, seed=0)
    losses = [float(info.loss) for info in train(with_dropout, Repeated(source), OBJECTIVE, steps=4)]
    assert len(set(losses)) == 4
    without = TrainState(denoiser(), still, seed=0)
    assert len({float(info.loss) for info in train(without, Repeated(source), OBJECTIVE, steps=4)}) == 1


def test_a_networks_constraint_on_its_weights_holds_after_each_step():
    """EDM2's rows have unit magnitude; Adam's steps alone, in directions of their own, would let them grow."""
    with seeded(0):
        net = EDM2UNet((1, 4, 4), channels=(4,), blocks=1, attention=(True,), head_channels=4)
    state = TrainState(Preconditioned(net, VP(), EDMPrecond(1.0)), Optimisation(lr=0.1, warmup=0), seed=0)
    images = Batches(ArrayDataset(normal(50, 1, 4, 4)), Affine(), 8, seed=1)
    before = net.inp.weight.detach().clone()
    for _ in train(state, images, OBJECTIVE, steps=2):
        rows = net.inp.weight.detach().flatten(1)
        torch.testing.assert_close(rows.square().mean(1), torch.ones(4), rtol=1e-3, atol=0)
    assert not torch.allclose(net.inp.weight, before, atol=0.05)


def test_the_loop_stops_at_its_step_and_goes_on_when_asked():
    run = run_of("MLP")
    assert len(advance(run, 3)) == 3 and advance(run, 3) == [] and len(advance(run, 5)) == 2
    steps = train(*run, steps=100)
    assert next(steps).step == 6
    steps.close()
    assert run[0].step == 6


def tampered(drop=None, put=None, about=None):
    """Damage that leaves a well-formed file: tensors dropped by their prefix, put in, or other plain values."""

    def damage(path):
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["scorefield"])
        tensors = {k: v for k, v in load(path.read_bytes()).items() if drop is None or not k.startswith(drop)}
        path.write_bytes(save({**tensors, **(put or {})}, {"scorefield": json.dumps(said if about is None else about)}))

    return damage


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0xFF
    path.write_bytes(bytes(data))


ONE = torch.zeros(1)
DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "text": lambda path: path.write_text("hello"),
    "flipped": flip,
    "no tensors": tampered(drop=""),
    "no moments": tampered(drop="optimiser."),
    "one moment less": tampered(drop="optimiser.0.exp_avg"),
    "moments of one weight less": tampered(drop="optimiser.0."),
    "moment's shape": tampered(put={"optimiser.0.exp_avg": ONE}),
    "moment's name": tampered(put={"optimiser.x.y": ONE}),
    "more": tampered(put={"other.weight": ONE}),
    "weight's shape": tampered(put={"model.net.inp.bias": ONE}),
    "average's shape": tampered(put={"average.0.net.inp.bias": ONE}),
    "no step": tampered(about={"seed": 5}),
    "negative step": tampered(about={"seed": 5, "step": -5}),
    "text as step": tampered(about={"seed": 5, "step": "ten"}),
    "list": tampered(about=[1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused_by_name_and_changes_nothing(damage, tmp_path):
    path = tmp_path / "state.safetensors"
    run = run_of("MLP")
    advance(run, 2)
    run[0].save(path)
    DAMAGE[damage](path)
    fresh = run_of("MLP", initial=1)[0]
    before = contents(fresh)
    with pytest.raises((ValueError, FileNotFoundError), match=path.name):
        fresh.load(path)
    equal(contents(fresh), before)
    assert fresh.step == 0


def test_a_state_of_another_seed_or_network_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    run_of("MLP")[0].save(path)
    with pytest.raises(ValueError, match=r"seed 6"):
        run_of("MLP", seed=6)[0].load(path)
    with pytest.raises(ValueError, match=r"net.inp.weight has shape \(16, 2\) instead of \(32, 2\)"):
        run_of("MLP", features=32)[0].load(path)
    with pytest.raises(ValueError, match="does not fit"):
        run_of("UNet")[0].load(path)


def test_a_state_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    state = run_of("MLP")[0]
    state.save(path)
    before = path.read_bytes()

    def full(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    state.step = 3
    with pytest.raises(OSError, match="no space"):
        state.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_averaged_is_a_model_of_the_averaged_weights_apart_from_the_run():
    state, source, objective = run_of("MLP")
    advance((state, source, objective), 6)
    model = state.averaged()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    equal(kept, {name: state.averages[0].weights[name] for name in kept})
    assert any(not torch.equal(kept[name], value) for name, value in state.model.state_dict().items())
    assert not any(module.training for module in model.modules()) and state.model.training
    advance((state, source, objective), 9)
    equal(kept, model.state_dict())


def test_the_average_counts_the_samples_that_the_loop_has_seen():
    _, source, objective = run_of("MLP")
    state = TrainState(denoiser(), Optimisation(half_lives=(1.0,)), seed=0)
    other = EMA(state.model, half_life=1.0)  # so short that the ramp, which knows no units, ends
    for info in train(state, source, objective, steps=6):
        other.update(state.model, 8 * info.step, 8)
    equal(state.averages[0].weights, other.weights)


def test_the_validation_loss_is_that_of_the_averaged_weights_and_leaves_no_trace():
    state, source, objective = run_of("MLP")
    advance((state, source, objective), 6)
    before, modes = contents(state), [module.training for module in state.model.modules()]
    first = validation_loss(state, source, objective, count=3)
    assert validation_loss(state, source, objective, count=3) == first
    equal(contents(state), before)
    assert [module.training for module in state.model.modules()] == modes
    model = state.averaged()
    with torch.no_grad():
        losses = torch.cat([objective(model, b.x0, noise=b.noise, **b.cond) for b in (source[k] for k in range(3))])
    assert first == pytest.approx(float(losses.mean()), rel=1e-6)
    mixed = validation_loss(state, source, objective, count=3, precision=torch.bfloat16)
    assert mixed != first and mixed == pytest.approx(first, rel=0.03)


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (3, 1), (1, 3), (3, 2), (9, 1)])
def test_the_validation_loss_is_the_same_for_any_number_of_processes(processes, accumulate, monkeypatch):
    """Killed by noise or times that count from the beginning of a part, and by means of unequal parts."""
    state, source, objective = run_of("MLP")
    whole = validation_loss(state, source, objective, count=2)
    monkeypatch.setattr(distributed, "world", lambda: processes)
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "total", lambda value: value)
        parts.append(validation_loss(state, source, objective, count=2, accumulate=accumulate))
    assert sum(parts) == pytest.approx(whole, rel=1e-6) and len(set(parts)) == processes


def test_mixed_precision_changes_the_loss_by_its_rounding_alone_and_keeps_float32_weights():
    plain, mixed = run_of("MLP"), run_of("MLP")
    reference = [info.loss.item() for info in train(*plain, steps=5)]
    losses = [info.loss.item() for info in train(*mixed, steps=5, precision=torch.bfloat16)]
    assert losses != reference
    assert losses == pytest.approx(reference, rel=0.03)
    assert all(p.dtype == torch.float32 for p in mixed[0].model.parameters())


# what is learned


class Fit(Denoiser):
    """N(mean, exp(log_std)^2) with its two numbers to learn."""

    def __init__(self, sde):
        super().__init__(sde)
        self.mean, self.log_std = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x, t, **cond):
        alpha, sigma = (v.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) for v in (self.sde.alpha(t), self.sde.sigma(t)))
        variance = (2 * self.log_std).exp()
        return self.mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * self.mean)


def test_training_finds_the_mean_and_standard_deviation_of_its_data():
    x = 0.4 * normal(4096, 1) + 1.5
    objective = DenoisingScoreMatching(LogNormalSigma(math.log(0.4), 0.7), EDMWeight(0.4))
    optimisation = Optimisation(lr=0.02, warmup=0, half_lives=(1e5,))
    state = TrainState(Fit(VP()), optimisation, seed=0)
    for _ in train(state, Batches(ArrayDataset(x), Affine(), 1024, seed=0), objective, steps=400):
        pass
    fitted = state.averaged()
    # 5 standard deviations over seeds, measured as 0.0012 and 0.0013; noise x 0.98 moves the second by 0.02
    assert float(fitted.mean.detach()) == pytest.approx(float(x.mean()), abs=0.006)
    assert float(fitted.log_std.detach().exp()) == pytest.approx(float(x.std(correction=0)), rel=0.0065)


@pytest.mark.usefixtures("unchecked")
def test_a_network_learns_the_score_of_correlated_data():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
    x = (normal(8000, 2).double() @ torch.linalg.cholesky(covariance).mT).float()
    truth = gaussian(VP(), torch.zeros(2), covariance)
    with seeded(0):
        model = Preconditioned(MLP((2,), features=32, blocks=1), VP(), EDMPrecond(1.0))
    state = TrainState(model, Optimisation(lr=0.01, warmup=20), seed=0)
    for _ in train(state, Batches(ArrayDataset(x), Affine(), 512, seed=0), OBJECTIVE, steps=500):
        pass
    learned = state.averaged()
    for t in (0.1, 0.3, 0.6):
        time = torch.tensor(t, dtype=torch.float64)
        xt = VP().perturb(x[:2000], time, normal(2000, 2, seed=9))
        exact = truth.score(xt.double(), time)
        error = (learned.score(xt, time) - exact).detach().square().sum(1).mean()
        assert float(error / exact.square().sum(1).mean()) < 0.01  # the Fisher divergence over the Fisher information


class Doubled(Objective):
    def __call__(self, model, x0, *, noise, **cond):
        return 2 * OBJECTIVE(model, x0, noise=noise, **cond)


def test_any_objective_is_minimised_by_its_mean():
    state, source, _ = run_of("MLP")
    other = run_of("MLP")[0]
    one = next(train(state, source, OBJECTIVE, steps=1)).loss
    two = next(train(other, source, Doubled(), steps=1)).loss
    assert float(two) == pytest.approx(2 * float(one), rel=1e-6)


def test_the_optimiser_is_adamw_with_the_options_that_were_given():
    options = {"lr": 0.01, "betas": (0.5, 0.75), "weight_decay": 0.3}
    state = TrainState(denoiser(), Optimisation(**options, warmup=0, decay=False, clip=1e9), seed=0)
    model, source = denoiser(), batches()
    reference = torch.optim.AdamW(model.parameters(), **options)
    for k, _ in enumerate(train(state, source, OBJECTIVE, steps=4)):
        batch = source[k]
        loss = OBJECTIVE(model, batch.x0, noise=batch.noise, **batch.cond).mean() / batch.x0[0].numel()
        for p, g in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), strict=True
        ):
            p.grad = torch.zeros_like(p) if g is None else g
        reference.step()
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


class Masks(Objective):
    """Notes the masks of dropout that it meets."""

    def __init__(self):
        self.seen = []

    def __call__(self, model, x0, *, noise, **cond):
        self.seen.append(nn.functional.dropout(torch.ones(64), 0.5))
        return OBJECTIVE(model, x0, noise=noise, **cond)


def test_masks_of_dropout_differ_between_steps_and_micro_batches_and_come_again():
    runs = []
    for _ in range(2):
        masks = Masks()
        for _ in train(run_of("MLP")[0], run_of("MLP")[1], masks, steps=3, accumulate=2):
            pass
        runs.append(masks.seen)
    assert len(runs[0]) == 6 and all(map(torch.equal, *runs))
    assert len({tuple(mask.tolist()) for mask in runs[0]}) == 6


def test_compiling_compiles_the_network_that_the_objective_calls(monkeypatch):
    calls = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: calls.append(module))
    state, source, objective = run_of("MLP")
    next(train(state, source, objective, steps=1, compiled=True))
    assert calls == [state.model.net]
    fit = TrainState(Fit(VP()), seed=0)
    next(train(fit, Batches(ArrayDataset(normal(9, 1)), Affine(), 4, seed=0), OBJECTIVE, steps=1, compiled=True))
    assert calls[1:] == [fit.model]


def test_float16_is_refused_since_it_would_need_a_scaled_loss():
    with pytest.raises(ValueError, match="bfloat16"):
        next(train(*run_of("MLP"), steps=1, precision=torch.float16))
