"""Other projects' checkpoints: their networks' values, everything that a model can do, and files that do not fit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import yaml
from helpers.edm_pickles import Persistent, write_edm, write_edm2
from helpers.networks import awake
from helpers.published import COUNTS
from helpers.reference_networks import edm2_unet, ncsn, song_unet
from torch import Tensor

from scorefield import EDM, VE, VP, EDMPrecond, Hutchinson, ScoreModel, SubVP, solvers
from scorefield.cli import main
from scorefield.data import Affine
from scorefield.guidance import MomentMatching
from scorefield.interop import edm, edm2, load_edm, load_ncsn, load_ncsnv2, load_score_sde, score_sde
from scorefield.interop import ncsn as ncsn_files
from scorefield.interop.configuration import Configuration
from scorefield.interop.score_sde_published import PUBLISHED
from scorefield.interop.translation import translated, translated_back
from scorefield.nn import NCSN, EDM2UNet, NCSNpp, Pyramid, seeded
from scorefield.operators import Gaussian, Mask
from scorefield.score import DDPMPrecond, NCSNPrecond, VEPrecond, VPPrecond

SMALL = {"width": 8, "channels": (8, 16), "blocks": 1, "attention": (False, True), "dropout": 0.0}


def small(**changes) -> NCSNpp:
    with seeded(0):
        return awake(NCSNpp((3, 8, 8), **{**SMALL, **changes}), 0.1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# score_sde_pytorch

LAST = 19  # number of its last convolution


def fixture(name: str = "ve_ncsnpp_continuous"):
    return score_sde.Path(__file__).parents[1] / "fixtures" / "score_sde" / f"{name}.pth"


TOLD = json.loads(fixture().with_suffix(".json").read_text())


def changed(**changes):
    told = json.loads(json.dumps(TOLD))
    for name, value in changes.items():
        part, _, key = name.partition("_")
        told[part][key] = value
    return told


def written(folder, told):
    file = folder / "config.json"
    file.write_text(json.dumps(told))
    return file


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_give_the_published_networks(name):
    told = score_sde._told(name)
    with torch.device("meta"):
        net = score_sde._network(told)
        lines = list(score_sde._lines(net))
    count = sum(p.numel() for p in net.parameters())
    if "cifar10" in name:
        deep = " deep" if "deep" in name else ""
        kind = (
            "DDPM, by Song et al." if "ddpm" in name and "ddpmpp" not in name else "DDPM++" if "ddpmpp" in name else ""
        )
        kind = kind or ("NCSN++ VE" if net.fourier_scale else "NCSN++ positional")
        if f"{kind}{deep}" in COUNTS:
            assert count == COUNTS[f"{kind}{deep}"][2]
    elif net.event_shape[1] == 1024 or "ncsnpp" in name:
        assert count == COUNTS["NCSN++ 1024 px" if net.event_shape[1] == 1024 else "NCSN++ 256 px"][2]
    entries = {other for line in lines for other in line.others}
    tensors = {
        "ve/cifar10_ncsnpp_continuous": 571,
        "ve/cifar10_ncsnpp_deep_continuous": 963,
        "ve/cifar10_ncsnpp": 570,
        "vp/cifar10_ddpmpp_continuous": 564,
        "vp/cifar10_ddpmpp_deep_continuous": 956,
        "vp/ddpm/cifar10": 308,
        "vp/ddpm/church": 430,
        "ve/church_ncsnpp_continuous": 645,
        "ve/ffhq_ncsnpp_continuous": 553,
    }  # entries of the authors' state dicts but for the buffer `sigmas`
    assert len(entries) == tensors.get(name, len(entries))
    sde, precond = score_sde._process(told)
    kinds = {"ve": VE, "vp": VP, "subvp": SubVP}
    assert isinstance(sde, kinds[name.partition("/")[0]])
    assert isinstance(precond, VEPrecond) == (name.startswith("ve") and "continuous" in name)


def test_units_bytes_and_levels_are_those_of_a_configuration(tmp_path):
    model = load_score_sde(fixture(), written(tmp_path, changed(data_centered=True, model_sigma_max=7.0)))
    assert model.denoiser.sde == VE(TOLD["model"]["sigma_min"], 7.0) and model.denoiser.precond == VEPrecond(1.0)
    model = load_score_sde(fixture(), written(tmp_path, changed(data_uniform_dequantization=True)))
    assert model.transform == Affine.of_levels(256)
    told = changed(training_continuous=False, model_embedding_type="positional", model_num_scales=77)
    sde, precond = score_sde._process(Configuration(told, "told"))
    assert isinstance(sde, VE) and precond == NCSNPrecond(sde.sigma_min, sde.sigma_max, 77)


def test_steps_have_variances_of_any_number():
    """beta_i = (beta_min + i (beta_max - beta_min) / (N - 1)) / N, by their VPSDE."""
    told = {"training": {"sde": "vpsde", "continuous": False}, "data": {"centered": True}}
    model = {"name": "ddpm", "scale_by_sigma": False, "num_scales": 500, "beta_min": 0.2, "beta_max": 10.0}
    _, precond = score_sde._process(Configuration({**told, "model": model}, "told"))
    assert precond == DDPMPrecond(0.2 / 500, 10.0 / 500, 500)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name": "ncsnv9"}, "model.name to be 'ncsnpp' or 'ddpm'; got 'ncsnv9'"),
        ({"model_nf": "16"}, "model.nf to be a value of type int; got '16'"),
        ({"model_nf": True}, "model.nf to be a value of type int; got True"),
        ({"model_ch_mult": [1, -2]}, "model.ch_mult to be a list of up to 32 positive integers; got a list"),
        ({"model_fir_kernel": [1, 2, 1]}, "model.fir_kernel to be"),
        ({"model_nonlinearity": "elu"}, "model.nonlinearity to be 'swish'"),
        ({"model_resamp_with_conv": False}, "model.resamp_with_conv to be True; got False"),
        ({"model_embedding_type": "positional"}, "Fourier embedding for continuous"),
        ({"model_scale_by_sigma": False}, "model.scale_by_sigma to be True"),
        ({"training_sde": "vpsde"}, "data.centered to be True; got False"),
        ({"training_sde": "vpsde", "data_centered": True}, "model.scale_by_sigma to be False"),
        ({"training_sde": "vpsde", "data_centered": True, "model_scale_by_sigma": False}, "embedding_type positional"),
        ({"training_sde": "cosine"}, "training.sde to be 'vesde' or"),
        ({"training_continuous": False}, "Fourier embedding for continuous"),
        ({"model_nf": 8}, r"all_modules.0.W has shape \(16,\) instead of \(8,\)"),
        ({"model_num_res_blocks": 2}, "missing all_modules"),
        ({"model_attn_resolutions": [4]}, "missing all_modules.8.Conv_0.weight"),
        ({"model": {}}, "model.name to be 'ncsnpp' or 'ddpm'; got None"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes, message, tmp_path):
    told = {**TOLD, "model": {}} if changes == {"model": {}} else changed(**changes)
    with pytest.raises(ValueError, match=message):
        load_score_sde(fixture(), written(tmp_path, told))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "not a JSON object"),
        ("{", "wanted a configuration in JSON or YAML"),
        ('{"model": NaN}', "NaN"),
        ("{" + " " * (1 << 20) + "}", "no more than 131072"),
    ],
)
def test_damaged_configurations_are_refused(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_score_sde(fixture(), tmp_path / "config.json")


def test_configurations_may_be_yaml(tmp_path):
    (tmp_path / "config.yml").write_text(yaml.safe_dump(TOLD))
    one, other = (load_score_sde(fixture(), file) for file in (tmp_path / "config.yml", fixture().with_suffix(".json")))
    assert one.about == other.about and one.denoiser.sde == other.denoiser.sde
    for name, value in one.denoiser.state_dict().items():
        assert torch.equal(other.denoiser.state_dict()[name], value)


def spoilt(folder, change):
    held = torch.load(fixture(), weights_only=True)
    change(held)
    torch.save(held, folder / "spoilt.pth")
    return folder / "spoilt.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("model"), "no weights by the name of `model`"),
        (lambda held: held.pop("ema"), "no averaged weights.*--weights model"),
        (lambda held: held["ema"]["shadow_params"].pop(), "155 averages for 156 trained weights"),
        (lambda held: held["ema"]["shadow_params"].reverse(), r"the average of all_modules.1.weight has shape \(3,\)"),
        (lambda held: held["model"].pop("module.all_modules.3.bias"), "155 trained|averages for"),
        (lambda held: held["model"].update({"module.all_modules.3.weight": "x"}), "no weights by the name"),
    ],
)
def test_damaged_checkpoints_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json"))


def test_all_that_is_wrong_with_the_weights_is_listed(tmp_path):
    def change(held):
        held["model"].pop("module.all_modules.3.bias")
        held["model"]["module.all_modules.99.weight"] = torch.zeros(2)
        held["model"]["module.all_modules.2.bias"] = torch.zeros(5)
        held["model"]["module.all_modules.1.weight"] = torch.zeros(64, 32).reshape(32, 64)

    wanted = [
        r"all_modules.1.weight has shape \(32, 64\) instead of \(64, 32\)",
        r"all_modules.2.bias has shape \(5,\) instead of \(64,\)",
        "missing all_modules.3.bias",
        "unexpected all_modules.99.weight",
    ]
    with pytest.raises(ValueError, match=".*".join(wanted)):
        load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json"), averaged=False)


def test_files_that_wrappers_have_not_named_are_read_as_well(tmp_path):
    def change(held):
        held["model"] = {name.removeprefix("module."): value for name, value in held["model"].items()}

    one = load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json"))
    other = load_score_sde(fixture(), fixture().with_suffix(".json"))
    for name, value in one.denoiser.state_dict().items():
        assert torch.equal(other.denoiser.state_dict()[name], value)


@pytest.mark.filterwarnings("ignore:.*samples mean nothing")  # a score of zero leaves noise, which is clipped
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_an_imported_model_does_all_that_a_model_does(tmp_path):
    """With a last layer of zeros the score is zero: noise stays as it is, and the density is that of the prior."""

    def change(held):
        for name in ("weight", "bias"):
            held["model"][f"module.all_modules.{LAST}.{name}"].zero_()
        for value in held["ema"]["shadow_params"][-2:]:
            value.zero_()

    load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json")).save(tmp_path)
    model = ScoreModel.load(tmp_path)
    assert model.event_shape == (3, 16, 16) and model.transform == Affine(128.0, 127.5, 256)
    ways = [model.sample(seeds=range(2), steps=3, solver=s) for s in (solvers.DDIM(), solvers.Heun(), solvers.UniPC())]
    assert all(int((x.int() - ways[0].int()).abs().max()) <= 1 for x in ways)  # what rounding makes of a level
    assert not torch.equal(model.sample(seeds=range(2), steps=3, solver=solvers.EulerMaruyama()), ways[0])

    x = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    # the steps are those of data of unit variance, and one probe is exact for a denoiser that is the identity
    density = model.log_prob(x, seeds=[0], steps=40, divergence=Hutchinson(1))
    d, std = 3 * 16 * 16, model.denoiser.sde.prior.std
    u = model.transform.forward(x.double(), torch.full(x.shape, 0.5).double())
    wanted = -d * math.log(127.5 * std * math.sqrt(2 * math.pi)) - u.square().flatten(1).sum(1) / (2 * std**2)
    torch.testing.assert_close(density.nats, wanted, rtol=5e-3, atol=0)
    latents = model.encode(x, seeds=[0], steps=10)
    assert float((model.decode(latents, steps=10).double() - x).abs().max()) <= 1

    half = torch.zeros(3, 16, 16, dtype=torch.bool)
    half[:, :8] = True
    operator = Mask(half)
    measurement = model.measured(operator, operator.A(x.double()), Gaussian(1.0))
    guided = model.guided(MomentMatching(model.given(), *measurement))
    got = operator.A(guided.sample(seeds=[0], steps=20).double())
    assert float((got - operator.A(x.double())).abs().mean()) < 2


# dictionaries


DICTIONARIES = {
    **{
        f"score_sde {name}": (lambda net=net: (net, score_sde._lines(net)))
        for name, net in {
            "ncsn++": small(),
            "ddpm++": small(fourier_scale=None, fir=False, pyramid_in=Pyramid.NONE),
            "ddpm": small(fourier_scale=None, resample_blocks=False, fir=False, rescale=False, pyramid_in=Pyramid.NONE),
            "skips": small(pyramid_in=Pyramid.SKIP, pyramid_out=Pyramid.SKIP, concatenate=True),
            "residuals": small(pyramid_out=Pyramid.RESIDUAL, resample_blocks=False),
        }.items()
    },
    "edm": lambda: (net := small(classes=3), edm._lines(net)),
    "edm heads": lambda: (net := small(head_channels=4), edm._lines(net)),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionaries_name_every_weight_once_and_lead_back(name):
    net, lines = DICTIONARIES[name]()
    lines = list(lines)
    own = net.state_dict()
    named = {line.own for line in lines}
    assert len(named) == len(lines) and own.keys() - named <= {"embedding.frequencies"}
    others = translated_back(own, lines)
    assert len(others) == sum(len(line.others) for line in lines)
    again = translated(others, lines, own, "there and back")
    for key, value in own.items():
        torch.testing.assert_close(again[key], value)


# EDM


def arguments(net: NCSNpp, **more) -> dict:
    return {
        "img_resolution": 8,
        "in_channels": 3,
        "out_channels": 3,
        "label_dim": net.classes,
        "augment_dim": 9,
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
        "dropout": 0.1,
        "embedding_type": "positional" if net.fourier_scale is None else "fourier",
        "channel_mult_noise": 1 if net.fourier_scale is None else 2,
        "encoder_type": {Pyramid.NONE: "standard", Pyramid.SKIP: "skip", Pyramid.RESIDUAL: "residual"}[net.pyramid_in],
        "decoder_type": "skip" if net.pyramid_out is Pyramid.SKIP else "standard",
        "resample_filter": [1, 3, 3, 1] if net.fir else [1, 1],
        **more,
    }


def weights_of(net: NCSNpp) -> dict[str, Tensor]:
    """Under EDM's names, with what a model does without."""
    more = {"map_augment.weight": random(16, 9), "enc.4x4_down.conv0.resample_filter": torch.ones(1, 1, 2, 2)}
    return {**translated_back(net.state_dict(), edm._lines(net)), **more}


EDMS = {
    "DDPM++": {"fourier_scale": None, "fir": False, "pyramid_in": Pyramid.NONE},
    "NCSN++": {},
    "skips": {"pyramid_in": Pyramid.SKIP, "pyramid_out": Pyramid.SKIP},
    "classes": {"classes": 3, "fourier_scale": None},
}


@pytest.mark.parametrize("name", EDMS)
def test_edms_networks_have_the_values_of_their_weights(name, tmp_path):
    net = small(**EDMS[name])
    weights, told = weights_of(net), arguments(net)
    write_edm(tmp_path / "edm.pkl", weights, told, sigma_data=0.5)
    model = load_edm(tmp_path / "edm.pkl")
    assert model.denoiser.sde == EDM() and model.denoiser.precond == EDMPrecond(0.5)
    assert model.classes == net.classes and model.needs_label == (net.classes > 0)
    x, sigma = random(3, 3, 8, 8), torch.tensor([0.01, 0.7, 40.0])
    label = torch.tensor([2, 0, -1]) if net.classes else None
    one_hot = None if label is None else torch.cat((torch.eye(3), torch.zeros(1, 3)))[label]
    wide = sigma.reshape(-1, 1, 1, 1)
    total = (wide**2 + 0.25).sqrt()
    f = song_unet(weights, told, x / total, sigma.log() / 4, one_hot)
    wanted = 0.25 / total**2 * x + 0.5 * wide / total * f
    given = {} if label is None else {"label": label}
    torch.testing.assert_close(model.denoiser(x, sigma.double(), **given), wanted, rtol=1e-4, atol=1e-4)


def test_labels_of_edm_are_free_where_some_were_left_out(tmp_path):
    net = small(classes=3)
    write_edm(tmp_path / "edm.pkl", weights_of(net), arguments(net, label_dropout=0.1))
    assert not load_edm(tmp_path / "edm.pkl").needs_label


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((64, 32), math.nan), "not finite"),
        (torch.zeros(64, 32, dtype=torch.int64), "torch.int64 instead of real"),
        (torch.eye(64, 32).to_sparse(), "not stored as plain numbers"),
        (torch.zeros(64, 32, dtype=torch.complex64), "instead of real"),
    ],
)
def test_weights_that_are_no_real_numbers_are_refused(value, message, tmp_path):
    def change(held):
        held["model"]["module.all_modules.1.weight"] = value

    with pytest.raises(ValueError, match=f"all_modules.1.weight .*{message}"):
        load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json"), averaged=False)


def test_sizes_that_no_memory_holds_are_refused_before_any_is_taken(tmp_path):
    with pytest.raises(ValueError, match="instead of"):
        load_score_sde(fixture(), written(tmp_path, changed(model_nf=1_000_000)))
    for name, value in {"model_nf": 10**7, "model_num_res_blocks": 10**6, "model_ch_mult": [1] * 50}.items():
        with pytest.raises(ValueError, match=r"up to 1000000|from 1 to 32|up to 32"):
            load_score_sde(fixture(), written(tmp_path, changed(**{name: value})))


def test_weights_named_twice_are_refused(tmp_path):
    def change(held):
        held["model"]["all_modules.1.weight"] = torch.zeros(64, 32)

    with pytest.raises(ValueError, match="with and without the prefix"):
        load_score_sde(spoilt(tmp_path, change), fixture().with_suffix(".json"), averaged=False)


def test_edms_other_preconditioners_have_their_noise_levels(tmp_path):
    net = small(fourier_scale=None)
    x = random(2, 3, 8, 8)
    weights, told = weights_of(net), arguments(net)
    write_edm(tmp_path / "vp.pkl", weights, told, "VPPrecond", beta_d=19.9, beta_min=0.1, M=1000, epsilon_t=1e-5)
    model = load_edm(tmp_path / "vp.pkl")
    assert model.denoiser.sde == VP(0.1, 20.0) and model.denoiser.precond == VPPrecond(999.0)
    sigma = torch.tensor([0.1, 20.0])
    t = ((0.1**2 + 2 * 19.9 * (sigma**2 + 1).log()).sqrt() - 0.1) / 19.9  # their sigma_inv
    wide = sigma.reshape(-1, 1, 1, 1)
    wanted = x - wide * song_unet(weights, told, x / (wide**2 + 1).sqrt(), 999 * t)
    alpha = model.denoiser.sde.alpha(t.double()).float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(model.denoiser(alpha * x, t.double()), wanted, rtol=1e-3, atol=1e-3)

    net = small()
    weights, told = weights_of(net), arguments(net)
    write_edm(tmp_path / "ve.pkl", weights, told, "VEPrecond", sigma_min=0.02, sigma_max=100)
    model = load_edm(tmp_path / "ve.pkl")
    assert model.denoiser.sde == VE(0.02, 100.0)
    t = model.denoiser.sde.time(-2 * sigma.double().log())
    wanted = x + wide * song_unet(weights, told, x, (sigma / 2).log())
    torch.testing.assert_close(model.denoiser(x, t), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "outer", "message"),
    [
        ({"out_channels": 6}, "EDMPrecond", "as many channels out as in, 3"),
        ({"resample_filter": [1, 2]}, "EDMPrecond", "resample_filter"),
        ({"embedding_type": "learned"}, "EDMPrecond", "embedding_type"),
        ({"channel_mult_noise": 3}, "EDMPrecond", "channel_mult_noise"),
        ({"num_blocks": 2}, "EDMPrecond", "missing enc.8x8_block1"),
        ({}, "iDDPMPrecond", "wanted EDMPrecond, VEPrecond or VPPrecond; got iDDPMPrecond"),
    ],
)
def test_other_networks_of_edm_are_refused(change, outer, message, tmp_path):
    net = small()
    write_edm(tmp_path / "edm.pkl", weights_of(net), arguments(net, **change), outer)
    with pytest.raises(ValueError, match=message):
        load_edm(tmp_path / "edm.pkl")


# EDM2


def edm2_told(classes: int, **more) -> dict:
    told = {"img_resolution": 8, "img_channels": 4, "label_dim": classes, "use_fp16": True, "model_channels": 8}
    rest = {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8, 4], "channels_per_head": 4}
    return {**told, **rest, "sigma_data": 0.5, "dropout": 0.1, **more}


def edm2_weights(classes: int, head_channels: int = 4) -> dict[str, Tensor]:
    """Of a network with every gain awake, and those of the training's uncertainty, which a model does without."""
    with seeded(0):
        net = EDM2UNet((4, 8, 8), classes, (8, 16), 1, (True, True), head_channels=head_channels, whole_heads=True)
    weights = translated_back(awake(net, 0.3).state_dict(), edm2._lines(net))
    more = {"logvar_fourier.freqs": random(4), "logvar_fourier.phases": random(4), "logvar_linear.weight": random(1, 4)}
    return {**{f"unet.{name}": value.half().float() for name, value in weights.items()}, **more}


VAE = Persistent("StabilityVAEEncoder", {"scale": np.float32(0.5) / np.float32([4, 5, 4, 3]), "bias": np.ones(4, "f4")})


# of 8 and 16 channels: heads of 4; one of 8 and two of 8; none and one of 16; none at all, not even in the middle
@pytest.mark.parametrize(("classes", "head_channels"), [(0, 4), (3, 4), (0, 7), (0, 12), (3, 64)])
def test_edm2s_networks_have_the_values_of_their_weights(classes, head_channels, tmp_path):
    weights = edm2_weights(classes, head_channels)
    assert ("unet.dec.4x4_in0.attn_qkv.weight" in weights) == (head_channels <= 16)
    assert ("unet.enc.8x8_block0.attn_qkv.weight" in weights) == (head_channels <= 8)
    told = edm2_told(classes, channels_per_head=head_channels)
    write_edm2(tmp_path / "edm2.pkl", weights, told, VAE)
    model = load_edm(tmp_path / "edm2.pkl")
    assert model.denoiser.sde == EDM() and model.denoiser.precond == EDMPrecond(0.5)
    assert model.event_shape == (4, 8, 8) and model.needs_label == (classes > 0)
    x, sigma = random(3, 4, 8, 8), torch.tensor([0.01, 0.7, 40.0])
    label = torch.tensor([2, 0, -1]) if classes else None
    one_hot = None if label is None else torch.cat((torch.eye(3), torch.zeros(1, 3)))[label]
    wide = sigma.reshape(-1, 1, 1, 1)
    total = (wide**2 + 0.25).sqrt()
    f = edm2_unet(weights, told, x / total, sigma.log() / 4, one_hot)
    assert float(f.std()) > 0.1
    wanted = 0.25 / total**2 * x + 0.5 * wide / total * f
    given = {} if label is None else {"label": label}
    torch.testing.assert_close(model.denoiser(x, sigma.double(), **given), wanted, rtol=1e-4, atol=1e-4)
    scale, bias = (torch.tensor(VAE.state[name]).reshape(-1, 1, 1) for name in ("scale", "bias"))
    torch.testing.assert_close(model.transform.forward(x), x * scale + bias)


def test_other_networks_of_edm2_are_refused(tmp_path):
    weights = edm2_weights(0)
    rgb = Persistent("StandardRGBEncoder", {})
    write_edm2(tmp_path / "edm2.pkl", weights, edm2_told(0), rgb)
    assert load_edm(tmp_path / "edm2.pkl").transform == Affine(128.0, 127.5, 256)
    for told, encoder, message in (
        (edm2_told(0, res_balance=0.5), rgb, "res_balance to be 0.3"),
        (edm2_told(0, resample_filter=[1, 3, 3, 1]), rgb, "resample_filter"),
        (edm2_told(0, num_blocks=2), rgb, "missing enc.8x8_block1"),
        (edm2_told(0), Persistent("CosmosEncoder", {}), "got those of a CosmosEncoder"),
    ):
        write_edm2(tmp_path / "edm2.pkl", weights, told, encoder)
        with pytest.raises(ValueError, match=message):
            load_edm(tmp_path / "edm2.pkl")


# NCSN


LEVELS = {"4": ["1", "2", "3", "4"], "5": ["1", "2", "3", "4", "5"], "6": ["1", "2", "3", "31", "4", "5"]}


def refinenet(levels: str, noise_levels: int) -> NCSN:
    channels = {"4": (4, 8, 8, 8), "5": (4, 8, 8, 16, 16), "6": (4, 8, 8, 8, 16, 16)}[levels]
    with seeded(0):
        return awake(NCSN((3, 16, 16), channels=channels, noise_levels=noise_levels), 0.1)


def ncsn_config(folder, **changes):
    told = {
        "data": {"image_size": 16, "channels": 3, "logit_transform": False},
        "model": {"sigma_begin": 1, "sigma_end": 0.01, "num_classes": 10, "ngf": 4},
    }
    for name, value in changes.items():
        part, _, key = name.partition("_")
        told[part][key] = value
    (folder / "config.yml").write_text(yaml.safe_dump(told))
    return folder / "config.yml"


def theirs(net: NCSN) -> dict[str, Tensor]:
    return translated_back(net.state_dict(), ncsn_files._lines(net))


def test_ncsn_has_the_values_of_its_weights(tmp_path):
    net = refinenet("4", 10)
    weights = theirs(net)
    torch.save([{f"module.{k}": v for k, v in weights.items()}, {"state": {}}], tmp_path / "checkpoint.pth")
    model = load_ncsn(tmp_path / "checkpoint.pth", ncsn_config(tmp_path))
    assert model.denoiser.sde == VE(0.02, 2.0) and model.transform == Affine.of_levels(256)
    sigmas = torch.logspace(0, -2, 10, dtype=torch.float64)
    x, label = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 4, 9])
    score = ncsn({name: value.double() for name, value in weights.items()}, 2 * x.double() - 1, LEVELS["4"], label)
    t = model.denoiser.sde.time(-2 * (2 * sigmas[label]).log())
    torch.testing.assert_close(2 * model.denoiser.double().score(2 * x.double() - 1, t), score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("levels", LEVELS)
def test_ncsnv2_has_the_values_of_its_weights(levels, averaged, tmp_path):
    net = refinenet(levels, 0)
    weights = theirs(net)
    named = {**{f"module.{k}": v for k, v in weights.items()}, "module.sigmas": torch.ones(10)}
    last, average = ({k: v + 1 for k, v in named.items()}, named) if averaged else (named, {})
    torch.save([last, {"state": {}}, 3, 700, *([average] if averaged else [])], tmp_path / "checkpoint.pth")
    changes = {"data_rescaled": False, "data_uniform_dequantization": False, "model_sigma_dist": "geometric"}
    config = ncsn_config(tmp_path, **changes, model_num_classes=232, model_sigma_begin=50)
    model = load_ncsnv2(tmp_path / "checkpoint.pth", config, averaged)
    assert model.denoiser.precond == NCSNPrecond(0.02, 100.0, 232)
    x, sigma = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.02, 30.0])
    f = ncsn({name: value.double() for name, value in weights.items()}, 2 * x.double() - 1, LEVELS[levels])
    t, score = model.denoiser.sde.time(-2 * (2 * sigma.double()).log()), f / sigma.double().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(2 * model.denoiser.double().score(2 * x.double() - 1, t), score, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("dequantised", [False, True])
def test_units_and_bytes_of_ncsnv2_are_those_of_its_configuration(rescaled, dequantised, tmp_path):
    weights = theirs(refinenet("4", 0))
    torch.save([weights, {}, 0, 0, weights], tmp_path / "checkpoint.pth")
    changes = {"data_rescaled": rescaled, "data_uniform_dequantization": dequantised}
    model = load_ncsnv2(tmp_path / "checkpoint.pth", ncsn_config(tmp_path, **changes))
    assert model.denoiser.sde == (VE(0.01, 1.0) if rescaled else VE(0.02, 2.0))
    assert model.transform == (Affine.of_levels(256) if dequantised else Affine(128.0, 127.5, 256))


@pytest.mark.parametrize(
    ("changes", "held", "message"),
    [
        ({"model_normalization": "BatchNorm"}, None, "model.normalization"),
        ({"model_sigma_dist": "uniform"}, None, "model.sigma_dist"),
        ({"data_logit_transform": True}, None, "data.logit_transform"),
        ({"model_ngf": 8}, None, "instead of"),
        ({}, {"model": 1}, "wanted a list with weights at place 4"),
        ({}, [1, 2, 3, 4], "averaged weights.*--weights model"),
        ({}, [1, 2, 3, 4, 5], "named weights at place 4"),
    ],
)
def test_other_checkpoints_of_ncsnv2_are_refused(changes, held, message, tmp_path):
    if held is None:
        weights = theirs(refinenet("4", 0))
        held = [weights, {}, 0, 0, weights]
    torch.save(held, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=message):
        load_ncsnv2(tmp_path / "checkpoint.pth", ncsn_config(tmp_path, **changes))


# the command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--format score_sde", "needs the configuration"),
        ("--format edm --config x.json", "edm: has no --config"),
        ("--format edm --weights ema", "have one set of weights alone"),
        ("--format score_sde --config vp/cifar10", "vp/cifar10: no such file"),
        ("--format score_sde --config {config} --out {full}", "is not empty: name another"),
        ("--format diffusers", "config.json: no such file"),
        ("--format ncsn --config {config}", "wanted a list"),
    ],
)
def test_the_command_line_says_what_is_wrong(words, message, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "config.json").write_text("{}")
    given = words.format(config=fixture().with_suffix(".json"), full=full).split()
    given = given if "--out" in given else [*given, "--out", str(tmp_path / "out")]
    assert main(["import", str(fixture()), *given]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
