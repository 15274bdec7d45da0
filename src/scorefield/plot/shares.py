"""Histograms, and shares of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def histograms(values: Mapping[str, Float[Tensor, "..."]], xlabel: str, bins: int = 40) -> Figure:
    """Histograms of several sets of numbers over common bins, as densities, with their means as dashed lines.

    Args:
        values: by name, finite numbers.
        xlabel: what they are.
        bins: number of bins.
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    sets = {name: numbers.detach().cpu().double().flatten().numpy() for name, numbers in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins).tolist()
    for k, (name, numbers) in enumerate(sets.items()):
        axes.hist(numbers, edges, density=True, alpha=0.5, label=name, color=f"C{k}")
        axes.axvline(float(numbers.mean()), color=f"C{k}", linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False)
    return figure


def bars(shares: Mapping[str, Float[Tensor, "k"]], names: Sequence[str], ylabel: str = "share") -> Figure:
    """A group of bars for each class, a bar for each set.

    Args:
        shares: by the set's name, a number for each class.
        names: of the classes.
        ylabel: what the numbers are.
    """
    figure = Figure(figsize=(max(5.0, 0.6 * len(names)), 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(shares)
    for k, (name, numbers) in enumerate(shares.items()):
        places = np.arange(len(names)) + (k - (len(shares) - 1) / 2) * width
        axes.bar(places, numbers.detach().cpu().numpy(), width, label=name)
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(len(names)), list(names), rotation=turned, parse_math=False)
    axes.set(ylabel=ylabel)
    axes.legend(frameon=False)
    return figure
