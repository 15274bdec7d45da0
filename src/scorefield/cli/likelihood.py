"""`scorefield likelihood`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor

from scorefield._files import write_text
from scorefield.cli.parts.reading import Reading
from scorefield.cli.parts.sources import check_target, directory, load_rows, parse_device
from scorefield.likelihood import Hutchinson, HutchPlusPlus, LogProb, TruncatedNormal, Uniform, averaged
from scorefield.model import ScoreModel
from scorefield.training import distributed

PROFILED = 256  # samples on which the noise profile of a bound is measured


class Method(Enum):
    """How likelihoods are computed."""

    ode = "ode"
    bound = "bound"


def likelihood(
    run: Path,
    data: str,
    out: Path = Path("likelihood.csv"),
    use_labels: bool = False,
    limit: int | None = None,
    method: Method = Method.ode,
    steps: int | None = None,
    tolerance: float | None = None,
    probes: int | None = None,
    sketch: int = 0,
    centred: bool | None = None,
    draws: int | None = None,
    repeats: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Computes the likelihood of data under a trained model; a lower bound for integers.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a path, see `scorefield train --help`.
        out: CSV file with a row for each sample: nats, their standard error, bits/dim of integers, the estimated change
            of nats from t_min to the data and error of the ODE solver, the terms that nats are the sum of, and network
            calls.
        use_labels: log p(x | label) with the data's labels, instead of log p(x), which a model that was trained with
            labels alone does not have.
        limit: take the first so many samples alone.
        method: ode, the likelihood of the probability-flow ODE, or bound, a lower bound for the reverse SDE from the
            denoising error, without derivatives; two models of one network, of which neither number bounds the other.
        steps: of the ODE solver, 10 by default, 6 network calls each.
        tolerance: error of a step of an adaptive ODE solver in nats per dimension, instead of steps; the result's is
            about 10 times as much.
        probes: random probes of the divergence; by default the exact trace up to 64 dimensions, else 8.
        sketch: directions besides the probes in which the divergence is exact (Hutch++).
        centred: look at integers at the centres of their cells, by truncated-normal noise with ode and by a decoder
            with bound, instead of all over them by uniform noise; by default as the model was trained.
        draws: of the noise in the cells with ode, 1 by default, more of them bound more tightly; of the noise level
            with bound, 48 by default, each a network call.
        repeats: evaluations of each sample with seeds of their own, whose mean is taken; several give an error bar to
            integers with ode, of which a single one has none.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        types: your own classes that the model is made of, by their import paths.
        reading: how the data are read, by default as in training.
    """
    model = ScoreModel.load(run, types=types, device=parse_device(device))
    rows = load_rows(model, data, reading, use_labels, limit)
    check_target(out, ".csv")
    discrete = model.transform.levels is not None
    if centred and not discrete:
        raise ValueError("--centred true: is for integers, the model is of real numbers")
    centred = discrete and bool(model.about.get("centred", False) if centred is None else centred)
    if sketch and probes is None:
        raise ValueError("--sketch: goes with --probes, which gives the error bar; give both")
    if sketch > rows.x[0].numel():
        raise ValueError(f"--sketch {sketch}: the data have {rows.x[0].numel()} dimensions: leave --probes out")
    if draws is not None and (draws < 1 or (method is Method.ode and not discrete)):
        raise ValueError(f"--draws {draws}: wanted at least 1, with ode for integers alone")
    if repeats < 1:
        raise ValueError(f"--repeats {repeats}: wanted at least 1")
    ode_options = {"steps": steps, "tolerance": tolerance, "probes": probes, "sketch": sketch or None}
    if method is Method.bound and (given := [name for name, value in ode_options.items() if value is not None]):
        raise ValueError(f"--{given[0]}: goes with --method ode")
    show = distributed.rank() == 0
    x, seeds = distributed.mine(rows.x), distributed.mine(torch.arange(len(rows.x)))
    cond = {name: distributed.mine(value) for name, value in rows.cond.items()}
    with directory(out.parent):
        if method is Method.ode:
            divergence = None if probes is None else HutchPlusPlus(probes, sketch) if sketch else Hutchinson(probes)
            cell = TruncatedNormal() if centred else Uniform()

            def compute(seeds: Tensor) -> LogProb:
                return model.log_prob(
                    x,
                    seeds=seeds,
                    steps=steps,
                    tolerance=tolerance,
                    divergence=divergence,
                    dequantisation=cell if discrete else None,
                    draws=1 if draws is None else draws,
                    batch_size=batch_size,
                    progress=show,
                    **cond,
                )
        else:
            first = slice(PROFILED)
            profile = model.noise_profile(
                rows.x[first],
                centred=centred,
                batch_size=batch_size,
                progress=show,
                **{name: value[first] for name, value in rows.cond.items()},
            )

            def compute(seeds: Tensor) -> LogProb:
                return model.elbo(
                    x,
                    seeds=seeds,
                    draws=48 if draws is None else draws,
                    profile=profile,
                    centred=centred,
                    batch_size=batch_size,
                    progress=show,
                    **cond,
                )

        result = averaged([compute(seeds + (k << 32)) for k in range(repeats)])
        parts = distributed.gathered({name: column.cpu() for name, column in _columns(result).items()})
        if parts is None:
            return
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        _write(columns, out)
    for name in ("nats", "bits_per_dim"):
        if name in columns:
            print(f"{name.replace('bits_per_dim', 'bits/dim')} {mean_and_error(columns[name])}")
    if method is Method.bound:
        print(f"prior mismatch at most {-float(columns['prior'].mean()):.3g} nats")
    elif not (error := float(columns["solver_error"].mean())) <= standard_error(columns["nats"]):
        print(f"the ODE solver may err by {error:.2g} nats a sample: take more --steps, or a --tolerance")
    if (estimates := result.probes.shape[1]) == 1:
        print("stderr is nan, since each sample has one random estimate: --repeats 2 or more give it an error bar")
    elif estimates:
        print(f"stderr is that of {estimates} estimates of each sample")
    calls = float(columns["nfe"].double().mean())
    print(f"{len(rows.x)} samples, {calls:g} network calls each; wrote {out}")


def mean_and_error(values: Tensor) -> str:
    """The mean over samples and its standard error."""
    return f"{float(values.mean()):.4f} +- {standard_error(values):.4f}"


def standard_error(values: Tensor) -> float:
    """Of the mean over samples: their own scatter, and whatever is random in each of them."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _columns(result: LogProb) -> dict[str, Tensor]:
    columns = {"nats": result.nats, "stderr": result.stderr}
    if result.discrete:
        columns["bits_per_dim"] = result.bits_per_dim
    if result.truncation is not None and result.solver_error is not None:
        columns |= {"truncation": result.truncation, "solver_error": result.solver_error}
    return {**columns, **result.terms, "nfe": result.nfe}


def _write(columns: dict[str, Tensor], out: Path) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("index", *columns))
    for k, values in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
        writer.writerow((k, *values))
    write_text(out, table.getvalue())
