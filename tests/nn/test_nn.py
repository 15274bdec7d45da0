"""Networks: functions of their own row, twice differentiable, that start at zero and use all that they are given."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.networks import NETWORKS, awake, inputs, make
from torch.nn.functional import scaled_dot_product_attention

from scorefield import _describe
from scorefield._describe import describe
from scorefield.nn import MLP, NCSN, FourierFeatures, SelfAttention, TutorialUNet, UNet, seeded
from scorefield.nn.attention import attend
from scorefield.nn.embedding import ConditionEmbedding
from scorefield.nn.normalisation import groups, norm_silu

every_network = pytest.mark.parametrize("name", NETWORKS)


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_network
def test_a_fresh_network_is_zero_and_an_awake_one_is_not(name):
    cls, arguments, _, _ = NETWORKS[name]
    with seeded(0):
        fresh = cls(**arguments).double()
    x, given = inputs(name)
    assert bool((fresh(x, **given) == 0).all())
    assert float(make(name)(x, **given).detach().std()) > 0.05


@every_network
def test_an_output_depends_on_its_own_row_alone(name):
    net, (x, given) = make(name), inputs(name)
    whole = net(x, **given)
    for k in range(len(x)):
        same(net(x[k : k + 1], **{key: value[k : k + 1] for key, value in given.items()}), whole[k : k + 1])
    spoilt = x.clone()
    spoilt[0] = math.nan
    same(net(spoilt, **given)[1:], whole[1:])


@every_network
def test_every_weight_has_an_effect(name):
    net, (x, given) = make(name), inputs(name)
    weights = dict(net.named_parameters())
    gradients = torch.autograd.grad(net(x, **given).square().sum(), list(weights.values()))
    for weight, gradient in zip(weights, gradients, strict=True):
        # a bias of all keys drops out of the softmax: a third of qkv.bias
        assert float((gradient.abs() > 1e-12).double().mean()) > 0.6, weight


@every_network
def test_one_noise_level_and_label_serve_a_whole_batch(name):
    net, (x, given) = make(name), inputs(name)
    for key in ("noise", "label"):
        if key in given:
            one = given[key][2]
            same(net(x, **{**given, key: one}), net(x, **{**given, key: one.expand(len(x))}))


@pytest.mark.parametrize("name", [name for name in NETWORKS if "classes" in NETWORKS[name][1]])
def test_label_minus_one_is_no_label_and_the_others_differ(name):
    net, (x, given) = make(name), inputs(name)
    del given["label"]
    unknown = net(x, **given)
    same(net(x, **given, label=torch.tensor(-1)), unknown, 0)
    outputs = [unknown, *(net(x, **given, label=torch.tensor(k)) for k in range(net.classes))]
    for a, b in itertools.combinations(outputs, 2):
        assert float((a - b).detach().abs().mean()) > 0.01


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "source"),
    [
        *((name, "noise") for name in NETWORKS),
        *((name, "label") for name in ("points", "signal", "image")),
        *((name, "cond") for name in ("points", "given vector", "given image")),
    ],
)
def test_a_network_learns_a_target_that_one_input_alone_tells(name, source):
    cls, arguments, _, _ = NETWORKS[name]
    with seeded(0):
        net = cls(**arguments)
    x, given = inputs(name, 16, torch.float32)
    given = {key: v if key == source else v[:1].expand(v.shape) for key, v in given.items()}
    value = given[source].float().flatten(1).mean(1) if source == "cond" else given[source].float()
    target = ((value - value.mean()) / value.std()).reshape(-1, *[1] * (x.ndim - 1)).expand(x.shape)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        loss = (net(x[:1].expand(x.shape), **given) - target).square().mean()
        if float(loss.detach()) < 0.35:  # 1 without the input
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pytest.fail(f"the loss is still {float(loss.detach()):.2f}")


@pytest.mark.parametrize("differentiable", [p for p in itertools.product((0, 1), repeat=3) if any(p)])
def test_attention_has_the_value_and_gradient_of_torchs(differentiable):
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 5, 4, generator=g, dtype=torch.float64) for _ in range(4)]
    cotangent = parts.pop()
    ours, theirs = (
        [part.clone().requires_grad_(bool(d)) for part, d in zip(parts, differentiable, strict=True)] for _ in range(2)
    )
    a, b = attend(*ours), scaled_dot_product_attention(*theirs)
    same(a, b)
    got, wanted = (
        torch.autograd.grad(out, [p for p in leaves if p.requires_grad], cotangent)
        for out, leaves in ((a, ours), (b, theirs))
    )
    for ours_, theirs_ in zip(got, wanted, strict=True):
        same(ours_, theirs_)


@pytest.mark.parametrize("differentiable", [(1, 1, 1), (1, 1, 0), (0, 0, 1)])
def test_attention_has_a_second_derivative(differentiable):
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, 2, 3, 2, generator=g, dtype=torch.float64).requires_grad_(bool(d)) for d in differentiable]
    assert torch.autograd.gradcheck(attend, parts)
    cotangent = torch.randn(1, 2, 3, 2, generator=g, dtype=torch.float64)  # drawn here, not from the global generator
    assert torch.autograd.gradgradcheck(attend, parts, cotangent)


@pytest.mark.parametrize("create_graph", [False, True])
def test_attention_differentiates_a_batch_of_directions_at_once(create_graph):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 1, 4, 3, generator=g, dtype=torch.float64).requires_grad_() for _ in range(3))
    directions = torch.randn(5, 2, 1, 4, 3, generator=g, dtype=torch.float64)
    out = attend(q, k, v)
    at_once = torch.autograd.grad(out, (q, k, v), directions, is_grads_batched=True, create_graph=create_graph)
    for n, direction in enumerate(directions):
        one = torch.autograd.grad(attend(q, k, v), (q, k, v), direction)
        for whole, single in zip(at_once, one, strict=True):
            same(whole[n].detach(), single)


@pytest.mark.parametrize("name", ["vector", "signal", "image", "ncsn", "ncsn++", "ddpm", "skips", "residuals", "edm2"])
def test_a_divergence_and_its_gradient_agree_with_finite_differences(name):
    net, (x, given) = make(name), inputs(name, 2)
    g = torch.Generator().manual_seed(2)
    directions = torch.randn(2, *x.shape, generator=g, dtype=torch.float64)

    def divergence(z):
        z = z.detach().requires_grad_()
        y = net(z, **given)  # one direction at a time: torch's group norm has no batched, differentiable gradient
        products = [torch.autograd.grad(y, z, v, create_graph=True)[0] for v in directions]
        return z, (torch.stack(products) * directions).sum()

    # the second derivative of elu, which NCSN has, jumps at 0: a step so small that few units cross it
    h, tolerance = (1e-7, 1e-3) if name == "ncsn" else (1e-5, 1e-5)
    forms = sum(
        float((v * (net(x + h * v, **given) - net(x - h * v, **given))).detach().sum()) / (2 * h) for v in directions
    )
    z, value = divergence(x)
    assert float(value.detach()) == pytest.approx(forms, rel=1e-6 if h == 1e-5 else 1e-4)

    weights = list(net.parameters())
    gradients = torch.autograd.grad(value, [z, *weights], allow_unused=True)
    along = torch.randn(x.shape, generator=g, dtype=torch.float64)
    rise = float((divergence(x + h * along)[1] - divergence(x - h * along)[1]).detach()) / (2 * h)
    assert float((gradients[0] * along).sum()) == pytest.approx(rise, rel=tolerance)
    moves = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in weights]
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, move in zip(weights, moves, strict=True):
                p += sign * h * move
        ends.append(float(divergence(x)[1].detach()))
    slope = sum(float((d * move).sum()) for d, move in zip(gradients[1:], moves, strict=True) if d is not None)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=tolerance)


def test_self_attention_is_the_formula_of_its_docstring():
    with seeded(0):
        layer = SelfAttention(8, 4).double()
    awake(layer)  # pyright: ignore[reportArgumentType]
    x = torch.randn(2, 8, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = layer.norm(x).flatten(2).mT @ layer.qkv.weight.mT + layer.qkv.bias
    mixed = []
    for head in range(2):
        q, k, v = (h[..., 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in range(3))
        mixed.append((q @ k.mT / 2).softmax(-1) @ v)
    wanted = x + (torch.cat(mixed, -1) @ layer.out.weight.mT + layer.out.bias).mT.reshape(x.shape)
    same(layer(x), wanted)


@pytest.mark.parametrize(
    ("event_shape", "sizes"),
    [((1, 8), [(4,), (12,), (40,)]), ((2, 8, 8), [(4, 4), (4, 12), (16, 8)]), ((1, 4, 4, 4), [(4, 8, 12)])],
)
def test_a_unet_takes_any_size_that_its_strides_divide_and_sees_all_of_it(event_shape, sizes):
    with seeded(0):
        net = awake(UNet(event_shape, channels=(4, 4, 8), blocks=1).double())
        other = UNet((event_shape[0], *[16] * (len(event_shape) - 1)), channels=(4, 4, 8), blocks=1).double()
    other.load_state_dict(net.state_dict())
    for size in sizes:
        x = torch.randn(1, event_shape[0], *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x.requires_grad_()
        y = net(x, torch.tensor(0.1).double())
        same(other(x, torch.tensor(0.1).double()), y, 0)
        corner = y[(0, 0, *[-1] * len(size))]
        (reach,) = torch.autograd.grad(corner, x)
        assert float(reach.abs().min()) > 0  # attention at the coarsest level joins every position to every other


@pytest.mark.parametrize("sides", [(6, 8), (8, 7), (5, 3)])
def test_a_unet_fills_up_sides_that_its_levels_do_not_divide(sides):
    with seeded(0):
        net = awake(UNet((2, *sides), channels=(4, 4, 8), blocks=1))
    x = torch.randn(3, 2, *sides, generator=torch.Generator().manual_seed(0))
    filled = torch.zeros(3, 2, *(-(-side // 4) * 4 for side in sides))
    filled[:, :, : sides[0], : sides[1]] = x
    y = net(x, torch.tensor(0.0))
    torch.testing.assert_close(y, net(filled, torch.tensor(0.0))[:, :, : sides[0], : sides[1]])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8), r"events like \(1, 8, 8\)"),
        ((1, 8), r"events like \(1, 8, 8\)"),
        ((1, 8, 8, 8), r"events like \(1, 8, 8\)"),
    ],
)
def test_a_unet_refuses_other_channels_and_dimensions(shape, message):
    with seeded(0):
        net = UNet((1, 8, 8), channels=(4, 4, 8), blocks=1)
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(2, *shape), torch.tensor(0.0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UNet((2,)), "use MLP"),
        (lambda: UNet((1, 2, 2, 2, 2)), "use MLP"),
        (lambda: UNet((1, 8, 8), channels=(4, 8), attention=(True,)), "2 levels"),
        (lambda: UNet((1, 8, 8), channels=()), "channels"),
        (lambda: UNet((1, 8, 8), cond_features=1, cond_channels=1), "not both"),
        (lambda: UNet((1, 8, 8), classes=-2), "classes"),
        (lambda: UNet((1, 8, 8), blocks=-1), "blocks"),
        (lambda: MLP((2,), classes=-2), "classes"),
        (lambda: MLP((2,), blocks=-1), "blocks"),
        (lambda: MLP((2,), features=7), "even"),
        (lambda: SelfAttention(12, 8), "divide"),
        (lambda: FourierFeatures(2), "at least 4"),
    ],
)
def test_impossible_networks_are_refused(build, message):
    with seeded(0), pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vector", {"label": torch.zeros(4, dtype=torch.int64)}, "classes="),
        ("vector", {"cond": torch.zeros(4, 2)}, "cond_features="),
        ("points", {"cond": None}, r"\(b, 2\).*got None"),
        ("points", {"cond": torch.zeros(4, 3)}, r"got \(4, 3\)"),
        ("points", {"label": torch.tensor([0, 1, 2, 3])}, "label"),
        ("points", {"label": torch.tensor([0, 1, 2, -2])}, "label"),
        ("given image", {"cond": None}, r"\(4, 2, 4, 6\); got None"),
        ("given image", {"cond": torch.zeros(4, 2, 4, 4)}, r"\(4, 2, 4, 6\); got \(4, 2, 4, 4\)"),
    ],
)
def test_conditions_that_a_network_was_not_built_for_are_refused(name, change, message):
    net, (x, given) = make(name, torch.float32), inputs(name, dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        net(x, **{**given, **change})


def test_an_mlp_refuses_other_events():
    with pytest.raises(ValueError, match=r"events of shape \(2,\); got \(3,\)"):
        make("vector")(torch.zeros(4, 3).double(), torch.tensor(0.0).double())


@every_network
def test_float32_agrees_with_float64(name):
    x, given = inputs(name)
    single = {key: value if key == "label" else value.float() for key, value in given.items()}
    same(make(name).float()(x.float(), **single).double(), make(name)(x, **given), 2e-4)


@pytest.mark.parametrize("name", ["image", "given image"])
def test_memory_layout_makes_no_difference(name):
    net, (x, given) = make(name), inputs(name)
    wanted = net(x, **given)
    last = make(name).to(memory_format=torch.channels_last)
    same(last(x.to(memory_format=torch.channels_last), **given), wanted, 1e-11)
    same(net(x.mT.contiguous().mT, **given), wanted, 1e-11)


def test_dropout_acts_in_training_alone_and_is_drawn_from_the_seeded_generator():
    for make_one in (lambda: MLP((2,), features=16, dropout=0.5), lambda: UNet((2, 4), channels=(4,), dropout=0.5)):
        with seeded(0):
            net = awake(make_one())
        x, noise = torch.ones(2, *net.event_shape), torch.tensor(0.3)
        outputs = []
        for seed in (1, 1, 2):
            with seeded(seed):
                outputs.append(net.train()(x, noise))
        same(outputs[0], outputs[1], 0)
        assert not torch.allclose(outputs[0], outputs[2])
        same(net.eval()(x, noise), net(x, noise), 0)


def test_fourier_features_are_cosines_and_sines_at_geometric_frequencies():
    layer = FourierFeatures(6, lowest=0.5, highest=8.0)
    value = torch.tensor([0.0, 0.37, -1.2])
    turns = 2 * math.pi * value[:, None] * torch.tensor([0.5, 2.0, 8.0])
    same(layer(value), torch.cat((turns.cos(), turns.sin()), 1), 1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 12, 32, 48, 64, 100, 128, 192])
def test_groups_divide_the_channels_into_four_or_more(channels):
    n = groups(channels)
    assert channels % n == 0 and n <= 32 and (channels // n >= 4 or n == 1)
    assert not any(channels % m == 0 and channels // m >= 4 for m in range(n + 1, 33))


def test_seeded_puts_the_generator_back_even_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(1, 2):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_each_sequence_of_integers_is_a_seed_of_its_own():
    seeds = [(), (0,), (1,), (-1,), (2**63,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (0, 0, 1), (7, 3), (3, 7)]
    draws = {}
    for seed in seeds:
        with seeded(*seed):
            draws[seed] = torch.rand(4).tolist()
        with seeded(*seed):
            assert torch.rand(4).tolist() == draws[seed]
    for a, b in itertools.combinations(seeds, 2):
        assert draws[a] != draws[b], (a, b)


@every_network
def test_every_argument_is_kept_so_that_a_network_can_be_built_again(name):
    cls, arguments, _, _ = NETWORKS[name]
    other = {} if cls is NCSN else {"dropout": 0.25}
    with seeded(0):
        net = cls(**{**arguments, **other})
    described = json.loads(json.dumps(describe(net)))
    assert described.items() >= {"class": cls.__name__, **other}.items()
    with seeded(0):
        again = _describe.build(described, {cls.__name__: cls})
    assert describe(again) == described
    same_shapes = {key: value.shape for key, value in again.state_dict().items()}
    assert same_shapes == {key: value.shape for key, value in net.state_dict().items()}


COMPARE_COMPILED = """
import torch
from helpers.networks import inputs, make

for name in ("points", "image"):
    net, (x, given) = make(name, torch.float32), inputs(name, dtype=torch.float32)
    compiled = torch.compile(net)
    results = []
    for f in (net, compiled):
        y = f(x, **given)
        results.append((y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * float(a.abs().max()))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, **given), results[0][0], rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    print(name, "agrees")
"""


@pytest.mark.slow
def test_eager_equals_compiled():
    # in a process of its own: the run-time checks of shapes, which conftest installs, cannot be compiled
    done = subprocess.run(
        [sys.executable, "-c", COMPARE_COMPILED], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["points agrees", "image agrees"], done.stderr[-2000:]


def test_one_condition_for_the_whole_batch_is_not_taken_for_a_row_each():
    with seeded(0):
        embedding = ConditionEmbedding(8, cond_features=2)
    with pytest.raises(ValueError, match=r"shape \(b, 2\).*got \(2,\)"):
        embedding(torch.zeros(2), cond=torch.zeros(2))


@pytest.mark.parametrize("d", [1, 2, 3, 5, 9])
def test_a_perceptron_rounds_a_row_alike_wherever_it_stands_in_the_batch(d):
    with seeded(0):
        net = awake(MLP((d,), features=64))
    for size in (2, 5, 7, 12, 33):
        x = torch.randn(size, d, generator=torch.Generator().manual_seed(0))
        whole = net(x, torch.tensor(0.3))
        for shift in range(1, size):
            assert torch.equal(net(x.roll(shift, 0), torch.tensor(0.3)).roll(-shift, 0), whole)


def plain_norm_silu(x, weight, bias, shift=None, number=None, eps=1e-5):
    space = (1,) * (x.ndim - 2)
    x = x if shift is None else x + shift.reshape(*shift.shape, *space)
    normal = torch.nn.functional.group_norm(x, number or groups(x.shape[1]), eps=eps)
    return torch.nn.functional.silu(normal * weight.reshape(*weight.shape, *space) + bias.reshape(*bias.shape, *space))


@pytest.mark.parametrize("shape", [(3, 8, 5), (3, 6, 4, 4), (2, 32, 3, 2, 2)])
@pytest.mark.parametrize("rows", [1, None])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("others", [(), (1, 2, 0.3), (None, 1, 1e-6)])
def test_norm_and_activation_have_the_derivatives_of_torchs(shape, rows, last, others):
    g = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(shape, generator=g, dtype=torch.float64)
    if last:  # channels last in memory
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    weight, bias = (torch.randn(rows or shape[0], shape[1], generator=g, dtype=torch.float64) for _ in range(2))
    given = [x, weight, bias]
    if others:  # a shift for all or for each sample, the number of groups, and eps
        given.append(torch.randn(others[0] or shape[0], shape[1], generator=g, dtype=torch.float64))
    outcomes = []
    for function in (norm_silu, plain_norm_silu):
        inputs = [v.detach().clone(memory_format=torch.preserve_format).requires_grad_() for v in given]
        out = function(*inputs, *others[1:])
        with torch.no_grad():
            torch.testing.assert_close(function(*inputs, *others[1:]), out, rtol=1e-12, atol=1e-12)
        first = torch.autograd.grad(out.sin().sum(), inputs, retain_graph=True)
        again = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(v.square().sum() for v in again), inputs)
        outcomes.append([out, *first, *again, *second])
    for own, torchs in zip(*outcomes, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-6, atol=1e-8)


def test_norm_and_activation_in_bfloat16_are_as_good_as_torchs():
    g = torch.Generator().manual_seed(0)
    x = 1 + 2 * torch.randn(4, 16, 16, 16, generator=g)
    weight, bias = torch.randn(1, 16, generator=g), torch.randn(1, 16, generator=g)
    exact = plain_norm_silu(x, weight, bias)
    rounded = x.bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    error = (norm_silu(rounded, weight, bias).detach().float() - exact).abs().mean()
    theirs = (plain_norm_silu(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).float() - exact).abs().mean()
    assert float(error) < 1.2 * float(theirs) < 0.02


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("mean", "std"), [(10.0, 1.0), (-30.0, 1.0), (0.0, 300.0)])
def test_norms_lose_no_digits_to_a_mean_beside_which_the_deviation_is_small(kind, tolerance, shifted, mean, std):
    """Relative to the output and its gradients. Kills E[x^2] - m^2, and a centre that is rounded with x."""
    g = torch.Generator().manual_seed(0)
    x = (mean + std * torch.randn(2, 32, 8, 8, generator=g)).to(kind)
    given = [torch.randn(1, 32, generator=g), torch.randn(1, 32, generator=g)]
    given += [torch.randn(2, 32, generator=g)] if shifted else []
    outcomes = []
    for function, dtype in ((norm_silu, kind), (plain_norm_silu, torch.float64)):
        z = x.detach().to(dtype).requires_grad_()
        inputs = [v.double() if dtype == torch.float64 else v for v in given]
        out = function(z, *inputs)
        outcomes.append([out.detach().double()])
        if kind != torch.float16:  # nothing is trained in it
            outcomes[-1].append(torch.autograd.grad(out.double().sin().sum(), z)[0].double())
    for own, exact in zip(*outcomes, strict=True):
        assert float((own - exact).norm() / exact.norm()) < tolerance * (1 + abs(mean) / std) ** 0.5


def test_the_tutorials_network():
    with seeded(0):
        net = awake(TutorialUNet((1, 28, 28)), scale=0.05)
    assert sum(p.numel() for p in net.parameters()) == 1_115_297
    x, t = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.7])
    out = net(x, t)
    assert out.shape == x.shape
    torch.testing.assert_close(net(x[:1], t[0]), out[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x, t.flip(0)), out, atol=1e-3)
    for build in (lambda: TutorialUNet((1, 28, 28), 10), lambda: TutorialUNet((1, 32, 32)), lambda: TutorialUNet((4,))):
        with pytest.raises(ValueError, match=r"TutorialUNet takes"):
            build()
    with pytest.raises(ValueError, match="neither labels"):
        net(x, t, torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["signal", "image"])
def test_checkpointing_changes_nothing_but_the_memory(name):
    cls, arguments, _, _ = NETWORKS[name]
    x, given = inputs(name)
    outcomes = []
    for checkpointing in (False, True):
        with seeded(0):
            net = awake(cls(**arguments, dropout=0.3, checkpointing=checkpointing).double())
        with seeded(1):
            out = net(x, **given)
        gradients = torch.autograd.grad(out.square().sum(), list(net.parameters()))
        outcomes.append([out, *gradients])
    for plain, again in zip(*outcomes, strict=True):
        assert torch.equal(plain, again)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_with_the_jacobian_can_be_taken_many_at_once(name):
    net, (x, given) = make(name), inputs(name, 2)
    x.requires_grad_()
    out = net(x, **given)
    directions = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(0), dtype=out.dtype)
    (batched,) = torch.autograd.grad(out, x, directions, is_grads_batched=True, retain_graph=True)
    each = torch.stack([torch.autograd.grad(out, x, v, retain_graph=True)[0] for v in directions])
    torch.testing.assert_close(batched, each)


def test_the_tutorials_network_has_a_divergence():
    with seeded(0):
        net = awake(TutorialUNet((1, 28, 28)), scale=0.05)
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = net(x, torch.tensor(0.3))
    directions = torch.randn(2, *out.shape, generator=torch.Generator().manual_seed(1))
    (batched,) = torch.autograd.grad(out, x, directions, is_grads_batched=True, retain_graph=True)
    each = torch.stack([torch.autograd.grad(out, x, v, retain_graph=True)[0] for v in directions])
    torch.testing.assert_close(batched, each, rtol=1e-4, atol=1e-5)
