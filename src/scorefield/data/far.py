"""Values far outside of the others, as are written where there is none: -9999, 1e20."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from scorefield.data.dataset import Dataset, Subset, choice, named

NUMBERS = 4_000_000  # that are looked at, about
FAR = 50.0  # times the middle half of the different values, from their median
FEWEST = 8  # different values among which one can be told to be far
SAID = 5  # features, beyond which their number is


def far_values(data: Dataset, names: Sequence[str] = (), cond_names: Sequence[str] = ()) -> list[str]:
    """What to tell about real numbers that may stand for no value, feature by feature (columns, channels).

    A value is far if it is `FAR` times the interquartile range of the different values away from their median, or if
    it is the smallest or largest, occurs more than once, and is further from the next one than that from the last.

    Args:
        data: of which about `NUMBERS` numbers are looked at; integers 0 .. levels - 1 cannot be far.
        names: of the features of the samples.
        cond_names: of those of the conditions.
    """
    said = list[str]()
    rows = choice(len(data), max(1, NUMBERS // max(1, math.prod(data.event_shape))))
    x, cond = data.rows(rows)
    samples = (data.index[rows] if isinstance(data, Subset) else rows).numpy()
    kinds = {"number": (x if data.levels is None else None, names), "condition": (cond.get("cond"), cond_names)}
    for kind, (values, called) in kinds.items():
        if values is None:
            continue
        columns = values.numpy(force=True).reshape(len(values), *(values.shape[1:2] or (1,)), -1)
        for k, far in _features(columns):
            others = columns[:, k][~np.isin(columns[:, k], far)]
            where = samples[np.isin(columns[:, k], far).any(-1)]
            name = f"column {called[k]}" if called else f"{kind} {k}" if values.ndim < 3 else f"channel {k}"
            what = " or ".join(f"{value:.7g}" for value in far[:3])
            said.append(
                f"{name} is {what} in {len(where)} of {len(values)} samples (from 0: {named(where.tolist())}), "
                f"far outside of the others, {others.min():.7g} to {others.max():.7g}: if that is no value, drop "
                "these samples or leave it out"
            )
    more = [f"and so are {len(said) - SAID} others"] if len(said) > SAID else []
    return said[:SAID] + more


def _features(columns: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """The features of (n, features, positions) that have far values, and these."""
    for k in range(columns.shape[1]):
        rising = np.sort(columns[:, k], axis=None)
        last = np.append((rising[1:] != rising[:-1]).nonzero()[0], len(rising) - 1)  # of each run of equal ones
        if len(far := _far(rising[last].astype(np.float64), np.diff(last, prepend=-1))):
            yield k, far.astype(columns.dtype)


def _far(values: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Those of different values, rising, that are far from the others."""
    if len(values) <= FEWEST:
        return values[:0]
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    near = np.abs(values - middle) <= FAR * (high - low)
    first, last = int(near.argmax()), len(near) - int(near[::-1].argmax())
    while last - first > FEWEST:  # `near` is one run, since the values rise
        if counts[first] > 1 and values[first + 1] - values[first] > values[last - 1] - values[first + 1]:
            first += 1
        elif counts[last - 1] > 1 and values[last - 1] - values[last - 2] > values[last - 2] - values[first]:
            last -= 1
        else:
            break
    return np.concatenate((values[:first], values[last:]))
