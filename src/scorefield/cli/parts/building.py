"""The model that a training command builds from its options and its data."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorefield._noise import Noise
from scorefield.data import ArrayDataset, Dataset, Transform, level_distance, noise_scales
from scorefield.nn import MLP, ClassifierNetwork, MLPClassifier, Network, Potential, UNet, UNetClassifier
from scorefield.processes import SDE, VE, VP, GaussianSDE
from scorefield.score import EDMPrecond, Energy, Precond, Preconditioned, ScoreModule, ScoreNetwork
from scorefield.solvers import AnnealedLangevin


def usual_network(data: ArrayDataset) -> Network:
    """MLP for vectors and small events; UNet for signals, images and volumes with sides of 16 and more."""
    shape = data.event_shape
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] > 4:
        raise ValueError(
            f"events of shape {tuple(shape)} look like images with their channels last: transpose them to "
            "(n, channels, height, width), or name the network by --net"
        )
    kind = UNet if _is_large(shape) else MLP
    if data.cond_shape is None:
        return kind(shape, data.classes)
    if len(data.cond_shape) == 1:
        return kind(shape, data.classes, cond_features=data.cond_shape[0])
    if kind is UNet and data.cond_shape[1:] == shape[1:]:
        return UNet(shape, data.classes, cond_channels=data.cond_shape[0])
    raise ValueError(f"no usual network takes conditions of shape {data.cond_shape}: name one of yours by --net")


def usual_classifier(data: ArrayDataset) -> ClassifierNetwork:
    """UNetClassifier where `usual_network` is a UNet, else MLPClassifier."""
    kind = UNetClassifier if _is_large(data.event_shape) else MLPClassifier
    return kind(data.event_shape, data.classes)


def _is_large(shape: Sequence[int]) -> bool:
    """Whether events are signals, images or volumes with sides of 16 and more."""
    return 2 <= len(shape) <= 4 and min(shape[1:]) >= 16


def model_of(net: Network, sde: SDE, precond: Precond | None, energy: bool, std: float) -> ScoreModule:
    """The network as a score of the process: by default preconditioned for data of the standard deviation `std`."""
    if not isinstance(sde, GaussianSDE):
        x = sde.prior.sample(torch.empty(256, *net.event_shape), Noise.per_sample(range(256)))
        return ScoreNetwork(net, sde, float(sde.diffusion(x, torch.tensor(0.5 * sde.T)).square().mean().sqrt()))
    precond = precond or EDMPrecond(std)
    return Energy(Potential(net), sde, precond) if energy else Preconditioned(net, sde, precond)


def process_of_cells(data: Dataset, transform: Transform) -> VP:
    """VP from noise of 0.4 cells on, with which integers at their centres can just be told apart."""
    least = 0.4 * level_distance(transform, data.event_shape).min()
    t_min = float(VP().time(-2 * least.log()))
    return VP(t_min=t_min, t_end=max(t_min, VP().t_end))


def process_of_scales(data: Dataset, transform: Transform) -> tuple[VE, str]:
    """VE between the noise scales that the data ask for, and why it is these."""
    scales = noise_scales(data, transform)
    langevin = AnnealedLangevin.ncsnv2(scales.ratio)
    return VE(scales.sigma_min, scales.sigma_max), f"{scales}; the Langevin dynamics that suits them is {langevin}"
