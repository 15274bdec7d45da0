"""From a network and data to a trained model in one call."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from scorefield._derivatives import recording
from scorefield._finite import not_finite
from scorefield._inputs import Array, whole
from scorefield.data import Affine, ArrayDataset, Dataset, transformed_std
from scorefield.data.dataset import named, unseen_classes
from scorefield.model import ScoreModel
from scorefield.nn import Network
from scorefield.objectives import DenoisingScoreMatching, LabelDropout, Objective
from scorefield.processes import VP, GaussianSDE
from scorefield.score import EDMPrecond, Precond, Preconditioned, placement
from scorefield.training.batches import Batches
from scorefield.training.loop import train
from scorefield.training.optimisation import Optimisation
from scorefield.training.state import TrainState


@recording()
def fit(
    net: Network,
    data: Dataset | Array,
    sde: GaussianSDE | None = None,
    *,
    steps: int,
    seed: int,
    batch_size: int = 128,
    precond: Precond | None = None,
    objective: Objective[Any] | None = None,
    label_dropout: float = 0.1,
    optimisation: Optimisation | None = None,
    progress: bool = False,
) -> ScoreModel:
    """Trains a network on data and returns the model with its averaged weights.

    The choices are those of the command `scorefield train`: integers go to [-1, 1], real data and conditions to mean 0
    and standard deviation 1, EDM's preconditioner and objective for that, a share of the labels is hidden so that one
    can sample with and without them. Whoever wants to see the losses, to resume or to share the work among processes
    writes the loop (`train`) or uses the command.

    Args:
        net: what is trained, on the device where its weights are; it is changed.
        data: rows, with labels if the network takes classes; an array (n, *event) of real numbers.
        sde: the forward process, VP by default.
        steps: of training.
        seed: of the order of the data and of the noise.
        batch_size: samples in a step.
        precond: how the network makes a denoiser, `EDMPrecond` by default.
        objective: what is minimised, EDM's denoising score matching by default.
        label_dropout: share of the labels hidden, from 0 to 1.
        optimisation: learning rate, averaging and the like.
        progress: show a progress bar.

    Raises:
        ValueError: data and network differ in their shape or classes, or the training has diverged.
    """
    data = ArrayDataset(data) if isinstance(data, Tensor | np.ndarray) else data
    if tuple(net.event_shape) != tuple(data.event_shape):
        raise ValueError(
            f"the network takes events of shape {tuple(net.event_shape)}, the data have {tuple(data.event_shape)}: "
            "make it with data.event_shape"
        )
    if net.classes != data.classes:
        raise ValueError(
            f"the network takes {net.classes} classes, the data have {data.classes}: make it with data.classes, or "
            "train on data.unlabelled()"
        )
    steps, batch_size = whole(steps, "steps"), whole(batch_size, "batch_size")
    if data.classes and isinstance(objective, LabelDropout):
        raise ValueError(f"give the rate {objective.rate} as label_dropout, and the objective within LabelDropout")
    names: tuple[str, ...] = getattr(data, "class_names", ())
    if unseen := unseen_classes(data):
        warnings.warn(f"no row has the class {named(unseen, names)}, of which nothing is learnt", stacklevel=2)
    transform, cond_transform = Affine.fitted(data), Affine.of_conditions(data)
    std = transformed_std(data, transform)
    objective = objective or DenoisingScoreMatching.edm(std)
    if data.classes and label_dropout:
        objective = LabelDropout(objective, label_dropout)
    denoiser = Preconditioned(net, sde or VP(), precond or EDMPrecond(std))
    state = TrainState(denoiser, optimisation, seed=seed)
    place = placement(net)
    batches = Batches(data, transform, batch_size, seed=seed, cond_transform=cond_transform, **place)
    for _ in tqdm(train(state, batches, objective, steps=steps), total=steps, disable=not progress, unit="step"):
        pass
    model = state.averaged()
    if strange := not_finite(model.state_dict()):
        raise ValueError(f"the training has diverged: of the weights {strange}; take a smaller learning rate")
    needs_label = data.classes > 0 and label_dropout == 0
    return ScoreModel(
        model,
        data.event_shape,
        transform,
        data.classes,
        {"unseen": unseen} if unseen else None,
        needs_label,
        names,
        cond_transform,
    )
