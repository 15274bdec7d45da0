"""diffusers' pipelines, in and out: the same values from both libraries' networks, and refusals where they differ."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scorefield import VE, VP, Preconditioned, ScoreModel
from scorefield.cli import main
from scorefield.data import Affine
from scorefield.interop import load_diffusers, save_diffusers
from scorefield.interop.pixels import CENTRED, UNIT
from scorefield.nn import MLP, NCSNpp, Pyramid, seeded
from scorefield.score import DDPMPrecond, EDMPrecond, Prediction, Schedule, VEPrecond, VPPrecond

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("unchecked")]  # the warnings are diffusers'

# google/ddpm-cifar10-32
CIFAR10 = {
    "attention_head_dim": None,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "sample_size": 32,
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
# what diffusers takes unless it is told otherwise
DEFAULT = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
# google/ncsnpp-ffhq-1024, narrower
NCSNPP = {
    "attention_head_dim": None,
    "block_out_channels": (32, 32, 128, 128),
    "center_input_sample": True,
    "down_block_types": ("SkipDownBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"),
    "layers_per_block": 1,
    "mid_block_scale_factor": math.sqrt(2),
    "norm_eps": 1e-6,
    "norm_num_groups": None,
    "sample_size": 16,
    "time_embedding_type": "fourier",
    "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D"),
}
NETWORKS = {
    "DDPM for CIFAR-10": CIFAR10,
    "DDPM by default": DEFAULT,
    "DDPM narrow": {**CIFAR10, "block_out_channels": (32, 32, 64, 64), "sample_size": 16},
    "DDPM of classes": {**DEFAULT, "block_out_channels": (64, 64), "num_class_embeds": 5},
    "NCSN++": NCSNPP,
    "NCSN++ not square": {**NCSNPP, "sample_size": (8, 16)},
    "NCSN++ of [0, 1]": {**NCSNPP, "center_input_sample": False, "block_out_channels": (32, 128), "sample_size": 8}
    | {name: NCSNPP[name][1:3] for name in ("down_block_types", "up_block_types")},
}


def theirs(name: str) -> Any:
    """A network of diffusers with random weights."""
    with seeded(0):
        net = diffusers.UNet2DModel(**NETWORKS[name]).eval()
        with torch.no_grad():
            for p in net.parameters():
                if p.ndim == 1:
                    p += 0.1 * torch.randn(p.shape)
    return net


def scheduler(name: str, **options: Any) -> Any:
    if "NCSN" in name:
        return diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=1348, **options)
    return diffusers.DDPMScheduler(**options)


def saved(folder: Path, name: str, **options: Any) -> Any:
    net = theirs(name)
    net.save_pretrained(folder / "unet")
    scheduler(name, **options).save_pretrained(folder / "scheduler")
    return net


def read(folder: Path) -> Any:
    with seeded(0):  # it draws initial weights
        return diffusers.UNet2DModel.from_pretrained(folder / "unet").eval()


def inputs(net: Any) -> Tensor:
    size = net.config.sample_size
    sides = size if isinstance(size, list | tuple) else (size, size)
    return torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(0))


def values(net: Any, x: Tensor) -> Tensor:
    """The network's noise of a step, or score times sigma of a noise level."""
    if net.config.time_embedding_type == "fourier":
        sigma = torch.tensor([0.02, 30.0])
        return net(x, sigma).sample * sigma.reshape(-1, 1, 1, 1)
    labels = None if net.config.num_class_embeds is None else torch.tensor([4, 0])
    return net(x, torch.tensor([0, 700]), class_labels=labels).sample


def own_values(model: ScoreModel, x: Tensor) -> Tensor:
    net: Any = model.denoiser.net
    if net.fourier_scale is None:
        return net(x, torch.tensor([0.0, 700.0]), label=torch.tensor([4, 0]) if model.classes else None)
    return net(2 * x - 1 if model.transform == CENTRED else x, torch.tensor([0.02, 30.0]).log())


def close(got: Tensor, wanted: Tensor) -> None:
    assert float((got - wanted).norm() / wanted.norm()) < 1e-5


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "DDPM for CIFAR-10" else name for name in NETWORKS]
)
@torch.no_grad()
def test_networks_agree_there_and_back(name, tmp_path):
    """Ours from their files and theirs from ours, to 1e-5 relative."""
    net = saved(tmp_path / "in", name)
    x = inputs(net)
    wanted = values(net, x)
    model = load_diffusers(tmp_path / "in")
    close(own_values(model, x), wanted)
    save_diffusers(model, tmp_path / "out")
    close(values(read(tmp_path / "out"), x), wanted)
    for config in ("unet/config.json", "scheduler/scheduler_config.json"):
        one, other = (json.loads((tmp_path / side / config).read_text()) for side in ("in", "out"))
        same = {"sigma_min", "sigma_max", "beta_start", "beta_end", "prediction_type", "block_out_channels", "dropout"}
        same |= {"center_input_sample", "num_class_embeds"}
        assert all(other[key] == value for key, value in one.items() if key in same)
    load_diffusers(tmp_path / "out").save(tmp_path / "again")
    close(own_values(ScoreModel.load(tmp_path / "again"), x), wanted)


@torch.no_grad()
def test_old_layouts_and_names_are_read(tmp_path):
    """Everything at the root, attention's layers by their former names, weights as torch.save wrote them."""
    net = saved(tmp_path, "DDPM narrow")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    for new, old in names.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    old = tmp_path / "old"
    old.mkdir()
    torch.save(weights, old / "diffusion_pytorch_model.bin")
    (tmp_path / "unet" / "config.json").rename(old / "config.json")
    (tmp_path / "scheduler" / "scheduler_config.json").rename(old / "scheduler_config.json")
    x = inputs(net)
    close(own_values(load_diffusers(old), x), values(net, x))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@torch.no_grad()
def test_denoisers_are_those_of_the_scheduler(schedule, kind, tmp_path):
    """At their steps x_0 is what DDIM, with one step left, returns."""
    net = saved(tmp_path, "DDPM by default", beta_schedule=schedule, prediction_type=kind, clip_sample=False)
    model = load_diffusers(tmp_path)
    ddim = diffusers.DDIMScheduler.from_pretrained(tmp_path / "scheduler", clip_sample=False)
    ddim.set_timesteps(1000)
    x = inputs(net)[:1]
    for k in (1, 300, 999):
        a2 = ddim.alphas_cumprod.double()[k]
        t = model.denoiser.sde.time((a2 / (1 - a2)).log())
        wanted = ddim.step(net(x, k).sample, k, x).pred_original_sample
        torch.testing.assert_close(model.denoiser(x, t), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    sde = model.denoiser.sde
    ends = [float(sde.log_snr(torch.tensor(t).double())) for t in (sde.t_end, 1.0)]
    bar = ddim.alphas_cumprod.double()[[0, -1]]
    assert ends == pytest.approx((bar / (1 - bar)).log().tolist(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("centres", [True, False])
@torch.no_grad()
def test_scores_are_those_of_the_network_in_the_units_of_its_data(centres, tmp_path):
    """Their data lie in [0, 1]; a network that centres them makes a model of data in [-1, 1], with twice the noise."""
    net = saved(tmp_path, "NCSN++")
    change(tmp_path, "unet/config.json", center_input_sample=centres)
    net.register_to_config(center_input_sample=centres)
    model = load_diffusers(tmp_path)
    assert model.denoiser.sde == (VE(0.02, 2696.0) if centres else VE(0.01, 1348.0))
    level = torch.tensor([[0.0, 255.0]])
    ends = model.transform.forward(level, torch.full(level.shape, 0.5))
    torch.testing.assert_close(ends, torch.tensor([[-1.0, 1.0] if centres else [0.0, 1.0]]))
    x, sigma = inputs(net), torch.tensor([0.05, 30.0])
    wanted = net(x, sigma).sample
    unit = 2.0 if centres else 1.0
    z = 2 * x - 1 if centres else x
    t = model.denoiser.sde.time(-2 * (unit * sigma.double()).log())
    close(unit * model.denoiser.score(z, t), wanted)


@torch.no_grad()
def test_other_numbers_of_steps_and_old_predictions_are_known(tmp_path):
    saved(tmp_path, "DDPM by default", num_train_timesteps=50)
    change(tmp_path, "scheduler/scheduler_config.json", predict_epsilon=False, prediction_type=None)
    assert load_diffusers(tmp_path).denoiser.precond == DDPMPrecond(steps=50, prediction=Prediction.DATA)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "_class_name to be"),
        ("scheduler/scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "_class_name to be"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr to be False"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": True}, "use_flow_sigmas to be False"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "LCMScheduler"},
            "LCMScheduler is not read, since its network",
        ),
        ("scheduler/scheduler_config.json", {"_class_name": ["DDIMScheduler"]}, "_class_name to be"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "up to 1000000"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "_class_name to be 'UNet2DModel'"),
        ("unet/config.json", {"attention_head_dim": -8}, "head_channels >= 1"),
        ("unet/config.json", {"norm_eps": -1.0}, "eps > 0"),
        ("unet/config.json", {"freq_shift": 16}, "frequency_shift 0 or 1"),
        ("unet/config.json", {"block_out_channels": [10**6] * 2}, "missing|instead of"),
    ],
)
def test_pipelines_that_are_something_else_are_refused(file, changes, message, tmp_path):
    saved(tmp_path, "DDPM by default")
    change(tmp_path, file, **changes)
    with pytest.raises(ValueError, match=message):
        load_diffusers(tmp_path)


def test_a_process_that_ends_elsewhere_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="T = 1"):
        save_diffusers(ours(VPPrecond(), VP(T=0.5)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_a_pipeline_is_not_left_behind(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scorefield.interop.diffusers.write_text", full)
    with pytest.raises(OSError, match="No space"):
        save_diffusers(ours(VPPrecond(), VP()), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file: name another"):
        save_diffusers(ours(VPPrecond(), VP()), tmp_path / "file")


def test_a_pipeline_runs_on_what_is_written(tmp_path):
    saved(tmp_path / "in", "DDPM by default")
    words = ["--format", "diffusers", "--out"]
    assert main(["import", str(tmp_path / "in"), *words, str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), *words, str(tmp_path / "out")]) == 0
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert images.shape == (1, 16, 16, 3) and 0 <= images.min() < images.max() <= 1
    assert main(["export", str(tmp_path / "run"), *words, str(tmp_path / "out")]) == 2


def test_a_continuous_process_becomes_the_variances_of_its_steps(tmp_path):
    """VPPrecond told its network 999 t, so step k is time k / 999."""
    save_diffusers(ours(VPPrecond(), VP()), tmp_path)
    ddpm = diffusers.DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    k = torch.arange(1, 1000, dtype=torch.float64)
    torch.testing.assert_close(ddpm.alphas_cumprod.double()[1:], VP().alpha(k / 999) ** 2, rtol=1e-3, atol=1e-6)
    assert 0 < float(ddpm.betas.min()) < float(ddpm.betas.max()) < 1


def change(folder: Path, file: str, **changes: Any) -> None:
    path = folder / file
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn gelu instead of silu"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift scale_shift instead of default"),
        ({"out_channels": 6}, "out_channels 6 instead of 3"),
        ({"center_input_sample": True}, "center_input_sample True instead of False"),
        ({"class_embed_type": "timestep", "num_class_embeds": 7}, "class_embed_type .* num_class_embeds 7"),
        ({"class_embed_type": "identity"}, "class_embed_type identity instead of None"),
        ({"num_class_embeds": 7}, "missing class_embedding.weight"),
        ({"num_class_embeds": -7}, "classes=-7"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "up_block_types"),
        ({"down_block_types": ["KDownBlock2D", "AttnDownBlock2D"]}, "down_block_types"),
        ({"mid_block_type": None}, "mid_block_type None"),
        ({"norm_num_groups": 16}, "norm_num_groups 16 instead of 32"),
        ({"sample_size": None}, "sample_size to be a value of type int; got None"),
        ({"time_embedding_type": "learned"}, "time_embedding_type to be 'positional' or 'fourier'"),
        ({"block_out_channels": [32]}, "attention for each"),
        ({"block_out_channels": [32, 48]}, "48 channels cannot"),
        ({"layers_per_block": 1}, "unexpected down_blocks.0.resnets.1"),
    ],
)
def test_networks_that_ours_is_not_are_refused(changes, message, tmp_path):
    saved(tmp_path, "DDPM by default")
    change(tmp_path, "unet/config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load_diffusers(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained_betas": [0.1]}, "trained_betas"),
        ({"trained_betas": [0.1] * 999 + [2.0]}, "one variance between 0 and 1 .* from 0.1 to 2"),
        ({"trained_betas": [0.1] * 999 + ["x"]}, "trained_betas to be a list of 1000 finite numbers"),
        ({"trained_betas": [0.1] * 999 + [1.0]}, "the last of trained_betas below 1, of a network that predicts noise"),
        ({"beta_schedule": "laplace"}, "beta_schedule"),
        ({"timestep_type": "learned"}, "timestep_type"),
        ({"beta_start": math.inf}, "beta_start to be a value of type float; got inf"),
        ({"prediction_type": "learned"}, "prediction_type"),
        ({"beta_start": "x"}, "beta_start to be a value of type float"),
    ],
)
def test_schedulers_that_are_not_known_are_refused(changes, message, tmp_path):
    saved(tmp_path, "DDPM by default")
    change(tmp_path, "scheduler/scheduler_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load_diffusers(tmp_path)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    saved(tmp_path, "DDPM by default")
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.bias"]
    save_file({**weights, "more.weight": torch.ones(1), "conv_out.bias": torch.ones(4)}, file)
    wanted = r"missing conv_in.bias; conv_out.bias has shape \(4,\) instead of \(3,\); unexpected more.weight"
    with pytest.raises(ValueError, match=wanted):
        load_diffusers(tmp_path)


# the graph of their NCSN++
SKIPS = {
    "fourier_scale": 16.0,
    "pyramid_in": Pyramid.SKIP,
    "pyramid_out": Pyramid.SKIP,
    "resample_blocks": True,
    "fir": True,
    "rescale": True,
    "attention_each": False,
    "group_width": 4,
}


def ours(precond: Any, sde: Any, transform: Any = CENTRED, needs_label: bool = False, **changes: Any) -> ScoreModel:
    arguments = {
        "width": 32,
        "channels": (32, 64),
        "blocks": 1,
        "attention": (False, True),
        "fourier_scale": None,
        "resample_blocks": False,
        "fir": False,
        "rescale": False,
        "pyramid_in": Pyramid.NONE,
        "attention_each": True,
        "group_width": 1,
        **changes,
    }
    with seeded(0):
        net = NCSNpp((3, 8, 8), **arguments)
    model = Preconditioned(net, sde, precond)
    return ScoreModel(model, (3, 8, 8), transform, net.classes, needs_label=needs_label)


DDPM = DDPMPrecond(0.001, 0.01, 500, Schedule.SCALED_LINEAR, Prediction.VELOCITY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours(DDPM, VP(), attention_each=False), "attention_each False instead of True"),
        (lambda: ours(DDPM, VP(), rescale=True, fir=True), "fir True instead of False; rescale True instead of False"),
        (lambda: ours(DDPM, VP(), classes=3), "no unknown one.*--label_dropout 0"),
        (lambda: ours(DDPM, VP(), classes=3, needs_label=True), "label_last False instead of True"),
        (lambda: ours(DDPM, VP(), group_width=4), "norms"),
        (lambda: ours(DDPM, VP(), width=64), "width 64 instead of 32"),
        (lambda: ours(EDMPrecond(0.5), VP()), "no scheduler for EDMPrecond on VP"),
        (lambda: ours(VPPrecond(1.0), VP()), "no scheduler for VPPrecond"),
        (lambda: ours(VEPrecond(2.0), VE()), "no scheduler for VEPrecond"),
        (lambda: ours(DDPM, VP(), Affine(0.0, 1.0)), "8-bit images"),
        (lambda: ours(DDPM, VP(), UNIT), r"DDPMPrecond on VP, of data in \[0, 1\]"),
        (lambda: ours(VEPrecond(1.0), VE(), **SKIPS), r"VEPrecond on VE, of data in \[-1, 1\]"),
        (lambda: ours(VEPrecond(2.0), VE(), UNIT, **SKIPS), r"VEPrecond on VE, of data in \[0, 1\]"),
        (lambda: ScoreModel(Preconditioned(MLP((2,)), VP(), DDPM), (2,)), "`NCSNpp`"),
        (lambda: ours(VEPrecond(2.0), VE(), **SKIPS), "attention of 64 channels, wanted 128 or more"),
    ],
)
def test_networks_that_diffusers_does_not_have_are_refused(make, message, tmp_path):
    with seeded(0):
        model = make()
    with pytest.raises(ValueError, match=message):
        save_diffusers(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_a_model_trained_here_is_theirs(tmp_path):
    """Prediction, schedule and steps go along; integers in 0 .. 255 of either convention."""
    model = ours(DDPM, VP(), Affine.of_levels(256))
    net: Any = model.denoiser.net.eval()
    for p in net.parameters():
        p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    save_diffusers(model, tmp_path)
    there = read(tmp_path)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    close(there(x, torch.tensor([3, 400])).sample, net(x, torch.tensor([3.0, 400.0])))
    ddpm = diffusers.DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    assert ddpm.config.prediction_type == "v_prediction" and len(ddpm.alphas_cumprod) == 500
    a2 = ddpm.alphas_cumprod.double()
    torch.testing.assert_close(DDPM.log_snrs(), (a2 / (1 - a2)).log(), rtol=1e-3, atol=1e-3)
