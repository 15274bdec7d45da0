"""From a trained model to a flow map, which makes the same samples in a call or two."""

from __future__ import annotations

import copy

import numpy as np
from torch import Tensor
from tqdm import tqdm

from scorefield._derivatives import recording
from scorefield._finite import not_finite
from scorefield._inputs import Array, whole
from scorefield.data import ArrayDataset, Dataset, transformed_std
from scorefield.model import ScoreModel
from scorefield.nn import Network
from scorefield.objectives import LabelDropout, Objective, PathRegression
from scorefield.sampling import default
from scorefield.score import Denoiser, FlowMap, Preconditioned, ScoreModule, placement
from scorefield.training.batches import Batches
from scorefield.training.loop import train
from scorefield.training.optimisation import Optimisation
from scorefield.training.state import TrainState

CALLS = 20  # of the teacher for a path
HIDDEN = 0.1  # share of the labels hidden, for a teacher that can do without


def flow_map(model: ScoreModule, seed: int) -> FlowMap:
    """A trained denoiser as a flow map that has learnt nothing yet: as a denoiser it is the same to the bit.

    Args:
        model: `Preconditioned`, of a network that can be told a number more: see `Network.told`.
        seed: of the weights that are new.

    Raises:
        TypeError: the model is none, or a flow map already.
    """
    if isinstance(model, FlowMap):
        raise TypeError("the model is a flow map already: take the one that it was made of, or train it further")
    if not (isinstance(model, Preconditioned) and isinstance(model.net, Network)):
        raise TypeError(
            f"a flow map is made of a preconditioned network of a Gaussian process; got {type(model).__name__}"
        )
    return FlowMap(Preconditioned(model.net.told("target", seed=seed), model.sde, model.precond))


def paths_of(model: ScoreModel, sigma_data: float, calls: int = CALLS) -> Objective[Denoiser]:
    """The usual objective of a flow map: paths of the model by the default solver, some labels hidden if it allows."""
    teacher = copy.deepcopy(model.denoiser)
    assert isinstance(teacher, Denoiser)
    for weight in teacher.parameters():
        weight.requires_grad_(False)
    objective = PathRegression(teacher, *default(teacher.sde, whole(calls, "calls", 2)), sigma_data)
    return LabelDropout(objective, HIDDEN) if model.classes and not model.needs_label else objective  # pyright: ignore


@recording()
def distil(
    model: ScoreModel,
    data: Dataset | Array,
    *,
    steps: int,
    seed: int,
    batch_size: int = 64,
    calls: int = CALLS,
    optimisation: Optimisation | None = None,
    progress: bool = False,
) -> ScoreModel:
    """Trains a flow map on paths of a model and returns it as a model: `fast.sample(seeds=range(64), steps=1)`.

    Its samples begin at the noise of their seeds as the model's do, so that the two can be compared one by one.

    Args:
        model: the teacher.
        data: what it was trained on, with its labels and conditions; an array (n, *event) of real numbers.
        steps: of training.
        seed: of the order of the data, the noise and the new weights.
        batch_size: paths in a step.
        calls: of the teacher for a path.
        optimisation: learning rate, averaging and the like.
        progress: show a progress bar.

    Raises:
        TypeError: the model is not of the kind that a flow map is made of.
        ValueError: data and model differ in their shape or classes, or the training has diverged.
    """
    data = ArrayDataset(data) if isinstance(data, Tensor | np.ndarray) else data
    if tuple(data.event_shape) != model.event_shape or data.classes not in (0, model.classes):
        raise ValueError(
            f"the model is of events of shape {model.event_shape} and {model.classes} classes, the data have "
            f"{tuple(data.event_shape)} and {data.classes}: take the data that it was trained on"
        )
    steps, batch_size = whole(steps, "steps"), whole(batch_size, "batch_size")
    state = TrainState(flow_map(model.denoiser, seed), optimisation, seed=seed)
    objective = paths_of(model, transformed_std(data, model.transform), calls)
    batches = Batches(
        data,
        model.transform,
        batch_size,
        seed=seed,
        cond_transform=model.cond_transform,
        **placement(model.denoiser),
    )
    for _ in tqdm(train(state, batches, objective, steps=steps), total=steps, disable=not progress, unit="step"):
        pass
    fast = state.averaged()
    if strange := not_finite(fast.state_dict()):
        raise ValueError(f"the training has diverged: of the weights {strange}; take a smaller learning rate")
    return ScoreModel(
        fast,
        model.event_shape,
        model.transform,
        model.classes,
        model.about,
        model.needs_label,
        model.class_names,
        model.cond_transform,
    )
