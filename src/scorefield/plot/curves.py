"""Losses over training, errors over network calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def loss_curve(
    steps: Sequence[int], losses: Sequence[float], validation: Sequence[tuple[int, float]] = (), smooth: int = 50
) -> Figure:
    """The training loss, its running mean, and losses on held-out data.

    Args:
        steps: step numbers.
        losses: the loss of each.
        validation: (step, loss).
        smooth: steps in the running mean.
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="0.8", linewidth=0.5, label="each batch")
    width = min(smooth, len(losses))
    if width:
        mean = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], mean, color="C0", label=f"mean of {width}")
        top = 2.5 * float(np.median(losses))
        if 0 < top < np.inf:
            axes.set_ylim(0, top)  # a first loss that is many times the rest would hide it
    if validation:
        at, value = zip(*validation, strict=True)
        axes.plot(at, value, color="C3", marker="o", markersize=3, label="held out, averaged weights")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    return figure


def error_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ylabel: str = "relative W2 error",
    xlabel: str = "network calls",
) -> Figure:
    """Errors over network calls on logarithmic axes, a line for each method.

    Args:
        curves: by name, numbers of calls and the errors there.
        ylabel: what the errors are.
        xlabel: what they are plotted over.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for k, (name, (calls, errors)) in enumerate(curves.items()):
        axes.loglog(calls, errors, marker="o", markersize=3, label=name, linestyle="-" if k < 10 else "--")
    places = sorted({float(x) for calls, _ in curves.values() for x in calls})
    if len(places) <= 12:
        apart = [x for x, before in zip(places, [0.0, *places], strict=False) if x > 1.12 * before]
        axes.set_xticks(apart, minor=False)
        axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure
