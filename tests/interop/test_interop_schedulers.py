"""Schedulers of diffusers: the noise levels that the installed classes have, and the round trip of what is written."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import scorefield
from scorefield import EDM, VE, VP, Preconditioned, ScoreModel
from scorefield.interop import load_diffusers, save_diffusers
from scorefield.interop.configuration import Configuration, read_configuration
from scorefield.interop.diffusers import DEFAULTS
from scorefield.interop.diffusers_scheduler import DDPM_SCHEDULERS, EDM_SCHEDULERS, REFUSED, process
from scorefield.interop.pixels import CENTRED, DEQUANTISED, UNIT
from scorefield.nn import NCSNpp, Pyramid, seeded
from scorefield.score import DDPMPrecond, EDMPrecond, Prediction, Schedule, VelocityPrecond, VEPrecond, VPPrecond

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("unchecked")]  # the warnings are diffusers'


def installed() -> dict[str, dict[str, ast.expr]]:
    """The defaults of every scheduler as its source has them: some classes need more packages to be imported."""
    found: dict[str, dict[str, ast.expr]] = {}
    for file in (Path(diffusers.__file__).parent / "schedulers").glob("*.py"):
        for cls in ast.parse(file.read_text()).body:
            for method in cls.body if isinstance(cls, ast.ClassDef) else []:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    values = method.args.defaults
                    names = [arg.arg for arg in method.args.args]
                    found[cls.name] = dict(zip(names[len(names) - len(values) :], values, strict=True))
    return found


def test_options_that_no_configuration_names_are_those_of_the_installed_classes():
    """Of every scheduler that has variances: its values here, or the reason why it is not read."""
    known = installed()
    assert {name for name, options in known.items() if "beta_schedule" in options} == {*DDPM_SCHEDULERS, *REFUSED}
    for name, usual in DDPM_SCHEDULERS.items():
        usually = {"prediction_type": "epsilon", "num_train_timesteps": 1000, "timestep_type": "discrete"}
        wanted = usually | usual._asdict()
        options = {key: ast.literal_eval(known[name][key]) for key in known[name].keys() & wanted.keys()}
        assert options == {key: wanted[key] for key in options}, name
        assert usual.rescales == ("rescale_betas_zero_snr" in known[name]), name
        assert ("timestep_type" in known[name]) == (name == "EulerDiscreteScheduler")
    for name in EDM_SCHEDULERS:
        options = {key: ast.literal_eval(known[name][key]) for key in ("sigma_min", "sigma_max", "sigma_data")}
        assert options == {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
        assert of({"_class_name": name}) == (EDM(T=80.0, t_min=0.002, t_end=0.002), EDMPrecond(0.5))


def test_options_of_networks_are_those_of_the_installed_class():
    signature = inspect.signature(diffusers.UNet2DModel.__init__).parameters
    options = {name: option.default for name, option in signature.items() if name not in ("self", "sample_size")}
    assert options.pop("num_train_timesteps") is None  # of learned time embeddings, which are refused
    as_lists = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    assert {"_class_name": "UNet2DModel", **as_lists} == DEFAULTS


def of(told: dict[str, Any]) -> Any:
    return process(Configuration(told, "told"), fourier=False, centres=True)


def close_levels(precond: DDPMPrecond, a2: Tensor) -> None:
    """The log-SNR of all steps, up to diffusers' rounding in float32."""
    a2 = a2.double()
    torch.testing.assert_close(precond.log_snrs(), (a2 / (1 - a2)).log(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", sorted({*DDPM_SCHEDULERS} - {"DPMSolverSDEScheduler"}))
def test_noise_levels_of_a_class_alone(name, tmp_path):
    """Of what a class writes, with its Infinity, and of its name alone. Kills one table for all classes."""
    own = getattr(diffusers, name)()
    own.save_pretrained(tmp_path)
    for told in (read_configuration(tmp_path / "scheduler_config.json").values, {"_class_name": name}):
        close_levels(of(told)[1], own.alphas_cumprod)


@pytest.mark.parametrize("kind", ["DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverMultistepInverse", "SASolver"])
def test_infinity_in_their_json_is_read(kind, tmp_path):
    getattr(diffusers, f"{kind}Scheduler")().save_pretrained(tmp_path)
    assert "-Infinity" in (tmp_path / "scheduler_config.json").read_text()
    assert of(read_configuration(tmp_path / "scheduler_config.json").values)[1] == DDPMPrecond()


def test_a_list_of_variances_and_zero_terminal_snr(tmp_path):
    """As diffusers makes them; by 0 it means 2^-24 in its samplers by sigma, or more than one step before."""
    irregular = torch.linspace(0.3, 1e-4, 50).tolist()
    cases = [
        ({"trained_betas": irregular, "num_train_timesteps": 50}, 50),
        ({"beta_schedule": "sigmoid", "beta_start": 1e-5}, 1000),
        ({"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, 999),
        ({"rescale_betas_zero_snr": True, "prediction_type": "sample", "beta_schedule": "scaled_linear"}, 999),
        ({"rescale_betas_zero_snr": True, "prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}, 999),
    ]
    for told, whole in cases:
        a2 = diffusers.DDPMScheduler(**told).alphas_cumprod[:whole]
        sde, precond = of(told)
        levels = precond.log_snrs()
        a2 = a2.double()
        torch.testing.assert_close(levels[:whole], (a2 / (1 - a2)).log(), rtol=2e-3, atol=2e-3)
        assert bool((levels.diff() < 0).all())
        ends = sde.log_snr(torch.tensor([sde.t_end, 1.0]).double())
        torch.testing.assert_close(ends, levels[[0, -1]], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            precond(sde, sde.time(levels)).noise, torch.arange(len(levels)).double(), atol=1e-4, rtol=0
        )
    latent = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    told = {**latent, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    euler = diffusers.EulerDiscreteScheduler(**told).alphas_cumprod
    close_levels(of({**told, "_class_name": "EulerDiscreteScheduler"})[1], euler)
    same = {"trained_betas": [1 - b for b in _ratios(diffusers.DDPMScheduler(**told).alphas_cumprod)]}
    close_levels(of({**same, "prediction_type": "v_prediction"})[1], euler)
    with pytest.raises(ValueError, match="rescale_betas_zero_snr to be False; got True"):  # which it takes no notice of
        of({**told, "_class_name": "HeunDiscreteScheduler"})
    with pytest.raises(ValueError, match="trained_betas to be a list of 1000 finite numbers"):
        of({"trained_betas": irregular})


def _ratios(a2: Tensor) -> list[float]:
    a2 = torch.cat((torch.ones(1), a2)).double()
    return (a2[1:] / a2[:-1]).tolist()


def unet(**options: Any) -> Any:
    """A small network of diffusers with random weights; with 32 channels its norms would take the embedding off."""
    with seeded(0):
        net = diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(64,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            layers_per_block=1,
            **options,
        ).eval()
        for p in net.parameters():
            p.data += 0.1 * torch.randn(p.shape)
    return net


LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CONTINUOUS = {**LATENT, "timestep_type": "continuous"}
# schedulers, and the process that they make
TOLD_OF_SIGMA = {
    "Euler": ("EulerDiscrete", {**CONTINUOUS, "prediction_type": "v_prediction"}, None),
    "Euler of its own levels": (
        "EulerDiscrete",
        {
            **CONTINUOUS,
            "prediction_type": "v_prediction",
            "use_karras_sigmas": True,
            "sigma_min": 0.01,
            "sigma_max": 99.0,
        },
        EDM(T=99.0, t_min=0.01, t_end=0.01),
    ),
    "Euler by zero terminal SNR": (
        "EulerDiscrete",
        {**CONTINUOUS, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        None,
    ),
    "Euler of noise": ("EulerDiscrete", CONTINUOUS, None),
    "EDM": ("EDMEuler", {"sigma_min": 0.01}, EDM(t_min=0.01, t_end=0.01)),
    "EDM of v": ("EDMEuler", {"sigma_data": 1.0, "prediction_type": "v_prediction"}, EDM()),
    "EDM, multistep": ("EDMDPMSolverMultistep", {"sigma_data": 0.3}, EDM()),
}


@pytest.mark.parametrize("name", TOLD_OF_SIGMA)
@torch.no_grad()
def test_denoisers_are_those_of_the_scheduler_that_tells_its_own_noise(name, tmp_path):
    """x_0 of diffusers' own calls at three of its noise levels. Kills steps for sigmas, and a wrong sign of v."""
    kind, options, sde = TOLD_OF_SIGMA[name]
    own, net = getattr(diffusers, f"{kind}Scheduler")(**options), unet()
    net.save_pretrained(tmp_path / "unet")
    own.save_pretrained(tmp_path / "scheduler")
    model = load_diffusers(tmp_path)
    assert model.denoiser.sde == (sde or model.denoiser.sde)
    own.set_timesteps(10)
    ends = [float(model.denoiser.sde.time(-2 * own.sigmas[k].double().log())) for k in (0, 9)]
    assert ends == pytest.approx([model.denoiser.sde.T, model.denoiser.sde.t_end], rel=1e-3)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for k in (0, 4, 9):
        own._step_index = k
        sigma = own.sigmas[k].double()
        t = own.timesteps[k]
        there = net(own.scale_model_input(sigma * x, t).float(), t).sample
        if kind == "EDMDPMSolverMultistep":
            wanted = own.convert_model_output(there, sample=sigma * x)
        else:
            wanted = own.step(there, t, sigma * x).pred_original_sample
        time = model.denoiser.sde.time(-2 * sigma.log())
        alpha = model.denoiser.sde.alpha(time)
        got = model.denoiser((alpha * sigma * x).float(), time)
        torch.testing.assert_close(got, wanted.float(), rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_v_of_other_data_is_refused():
    with pytest.raises(ValueError, match=r"sigma_data 1 of a network that predicts v; got 0.5"):
        of({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"})
    with pytest.raises(ValueError, match="positive"):
        of({"_class_name": "EDMEulerScheduler", "sigma_data": 0.0})


@torch.no_grad()
def test_conditional_networks_need_a_label(tmp_path):
    net = unet(num_class_embeds=3)
    net.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    model = load_diffusers(tmp_path)
    assert model.classes == 3 and model.needs_label
    x, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(1.0).double()
    for label in range(3):  # at the last step the noise is all but the state
        a2 = diffusers.DDPMScheduler().alphas_cumprod[-1]
        wanted = (x - (1 - a2).sqrt() * net(x, 999, class_labels=torch.tensor([label])).sample) / a2.sqrt()
        torch.testing.assert_close(model.given(label)(x, t), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    with pytest.raises(ValueError, match="label"):
        model.sample(seeds=[0], steps=2)


PRECONDS = {
    **{
        f"{schedule.name} {prediction.name}": DDPMPrecond(0.001, 0.01, 30, schedule, prediction)
        for schedule, prediction in itertools.product(Schedule, Prediction)
    },
    "list": DDPMPrecond(steps=4, prediction=Prediction.VELOCITY, betas=(0.5, 0.1, 0.2, 0.999)),
    "time": VPPrecond(),
    "noise": VEPrecond(2.0),
    "noise of [0, 1]": VEPrecond(1.0),
}


def accepted(name: str, seed: int) -> ScoreModel:
    """A model that export takes, of options drawn by the seed."""
    precond = PRECONDS[name]
    generator = torch.Generator().manual_seed(seed)

    def one_of(*choices: Any) -> Any:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    classes = one_of(0, 0, 1, 4)
    options = {
        "classes": classes,
        "label_last": classes > 0,
        "blocks": one_of(1, 2),
        "dropout": one_of(0.0, 0.1),
        "eps": one_of(1e-6, 1e-5),
        "head_channels": one_of(None, 8),
    }
    attends = one_of((False, True), (True, False), (True, True), (False, False))
    if isinstance(precond, VEPrecond):
        wide = 128 if any(attends) else 32
        options |= {"channels": (wide, wide), "pyramid_in": Pyramid.SKIP, "pyramid_out": Pyramid.SKIP}
        sde, transform = VE(0.02 * precond.unit, 30.0), UNIT if precond.unit == 1 else one_of(CENTRED, DEQUANTISED)
    else:
        options |= {
            "channels": one_of((64, 64), (64, 128)),
            "fourier_scale": None,
            "frequency_shift": one_of(0, 1),
            "centred": one_of(False, True),
            "resample_blocks": False,
            "fir": False,
            "rescale": False,
            "pyramid_in": Pyramid.NONE,
            "attention_each": True,
            "group_width": 1,
        }
        sde, transform = VP(), one_of(CENTRED, DEQUANTISED)
    shape = one_of((1, 8, 8), (3, 8, 8), (2, 4, 8))
    with seeded(seed):
        net = NCSNpp(shape, width=options["channels"][0], attention=attends, **options)
        for p in net.parameters():
            p.data += 0.1 * torch.randn(p.shape)
    model = Preconditioned(net.eval(), sde, precond)
    return ScoreModel(model, shape, transform, classes, needs_label=classes > 0)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        *((name, [0]) for name in ("LINEAR NOISE", "SCALED_LINEAR VELOCITY", "COSINE DATA", *list(PRECONDS)[-4:])),
        *(pytest.param(name, range(1, 4), marks=pytest.mark.slow) for name in PRECONDS),
    ],
)
@torch.no_grad()
def test_what_is_written_is_read(name, seeds, tmp_path):
    """The same weights and options, the same denoiser at whole steps, and the same files when it is written again."""
    for seed in seeds:
        model = accepted(name, 10 * list(PRECONDS).index(name) + seed)
        save_diffusers(model, tmp_path / f"{seed}")
        again = load_diffusers(tmp_path / f"{seed}")
        save_diffusers(again, tmp_path / f"{seed} again")
        for file in (path for path in (tmp_path / f"{seed}").rglob("*") if path.is_file()):
            other = tmp_path / f"{seed} again" / file.relative_to(tmp_path / f"{seed}")
            assert other.read_bytes() == file.read_bytes(), file.name
        assert (again.classes, again.needs_label) == (model.classes, model.needs_label)
        assert (again.transform == UNIT) == (model.transform == UNIT)
        one, other = model.denoiser, again.denoiser
        if isinstance(one.precond, DDPMPrecond):
            assert other.precond.log_snrs().tolist() == one.precond.log_snrs().tolist()
        log_snr = one.sde.log_snr(
            torch.tensor([1, 500, 999]).double() / 999
        )  # whole steps for all of `PRECONDS`' times
        if isinstance(one.precond, DDPMPrecond):
            last = one.sde.log_snr(torch.tensor(one.sde.T, dtype=torch.float64))  # beyond it the process has no time
            log_snr = one.precond.log_snrs()[[0, 2, -1]].clamp_min(last)
        x = torch.randn(3, *model.event_shape, generator=torch.Generator().manual_seed(0))
        label = {"label": torch.tensor([0, 0, model.classes - 1])} if model.classes else {}
        values = []
        for denoiser in (one, other):
            t = denoiser.sde.time(log_snr)
            scaled = torch.hypot(denoiser.sde.alpha(t), denoiser.sde.sigma(t)).reshape(-1, 1, 1, 1)
            values.append(denoiser((scaled * x).float(), t, **label))
        size = float(values[0].abs().max())
        torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-4 * size)


@torch.no_grad()
def test_networks_are_told_whole_steps_on_the_grid_of_the_page(tmp_path):
    """Other grids tell them numbers between, which most samplers of diffusers round."""
    unet().save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    model = load_diffusers(tmp_path)
    told: list[float] = []
    net: Any = model.denoiser.net
    net.register_forward_pre_hook(lambda _, given: told.append(float(given[1])))
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "log_snrs" in part)
    exec(compile(code, "checkpoints.md", "exec"), {"model": model, "sf": scorefield})
    torch.testing.assert_close(torch.tensor(told), torch.arange(999.0, 0, -50), rtol=0, atol=1e-3)
    between = model.denoiser.sde.time(model.denoiser.precond.log_snrs()[[1, 2]].mean())
    assert float(model.denoiser.precond(model.denoiser.sde, between).noise) == pytest.approx(1.5)


def test_written_configurations_are_json(tmp_path):
    """Unlike theirs: no Infinity."""
    save_diffusers(accepted("list", 0), tmp_path)
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    assert (
        VelocityPrecond()
        == of({"_class_name": "EDMEulerScheduler", "sigma_data": 1, "prediction_type": "v_prediction"})[1]
    )
