"""A trained model with everything that is needed to use it: one directory, one object, in the data's own units."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield import likelihood
from scorefield._derivatives import leaf, recording
from scorefield._device import widest
from scorefield._finite import Doubtful, require_finite
from scorefield._inputs import Array, Seeds, Shape, Time, as_seeds, as_shape, as_tensor, check_event, whole
from scorefield._noise import Noise
from scorefield.data import Affine, Transform, beyond, level_distance
from scorefield.likelihood import Cells, Dequantisation, Divergence, LogProb, NoiseProfile, Uniform, importance_weighted
from scorefield.likelihood.batches import keys_of
from scorefield.likelihood.bound import GROUPS
from scorefield.model import stored
from scorefield.model.conditions import Condition, Label, numbered, standardised
from scorefield.model.measured import Measured, measured
from scorefield.model.solving import instability, solving
from scorefield.operators import MeasurementNoise, Operator
from scorefield.processes import GaussianSDE
from scorefield.sampling import sample
from scorefield.score import ScoreModule, as_states, evaluating, placement
from scorefield.solvers import Solver


class ScoreModel:
    """A trained score, the transform between its space and the data's, and what the data look like.

    Everything here takes and returns data in their own units: integers for discrete data. The functions of
    `scorefield.sampling` and `scorefield.likelihood` work in the model's space instead, on `.denoiser`.

    Args:
        denoiser: the model of the transformed data: a `Denoiser`, or a `ScoreNetwork` if the process is not Gaussian.
        event_shape: shape of one sample.
        transform: between the data's units and the model's space.
        classes: number of classes, 0 without labels.
        about: plain values to keep with the model: how it was trained, on what.
        needs_label: the denoiser was trained only with labels; it cannot be used without one.
        class_names: of the classes in the order of their numbers, if they have names.
        cond_transform: between the units of the condition `cond` and the model's space; None leaves it as it is.
    """

    def __init__(
        self,
        denoiser: ScoreModule,
        event_shape: Shape,
        transform: Transform | None = None,
        classes: int = 0,
        about: Mapping[str, Any] | None = None,
        needs_label: bool = False,
        class_names: Sequence[str] = (),
        cond_transform: Affine | None = None,
    ) -> None:
        self.denoiser, self.event_shape = denoiser, as_shape(event_shape)
        self.transform, self.classes = transform or Affine(), whole(classes, "classes", 0)
        self.about, self.needs_label, self.class_names = dict(about or {}), needs_label, tuple(class_names)
        self.cond_transform = cond_transform
        stored.check_form(self.event_shape, self.transform, self.classes, self.class_names)

    def sample(
        self,
        *,
        seeds: Seeds,
        steps: int = 20,
        label: Label | None = None,
        solver: Solver | None = None,
        times: Sequence[float] | None = None,
        tolerance: float | None = None,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> Tensor:
        """Draws one sample for each seed.

        Args:
            seeds: one 64-bit integer for each sample, which depends on its own alone; 7 is [7].
            steps: network calls for each sample with the default solver and grid; for a `PosteriorDenoiser` steps of
                the reverse SDE.
            label: one class for all, or one for each sample, by their numbers or their names; any class by default,
                unless the model needs one.
            solver: instead of the default one.
            times: instead of the default solver's grid, or of `steps` equal steps of the log-SNR for another (of
                sqrt(t) for a process that is not Gaussian; adaptive solvers make their own steps).
            tolerance: error of an adaptive solver of the probability-flow ODE, in the place of steps, solver and times.
            batch_size: samples in one network call; all by default.
            progress: show a progress bar.
            cond: further conditions, one row for each sample or one for all, such as `cond` of the networks here in the
                units of the training data.

        Returns:
            (n, *event) in the data's units.

        Raises:
            Diverged: a ValueError, of samples that are not finite.

        A `Doubtful` warning names a solver that is unstable on this grid, which is tried on Gaussian data the first
        time that the two are given, and says of how many samples of integers the values lie far outside of the data's.
        """
        keys, chosen = as_seeds(seeds), solver is not None or times is not None
        solver, times = solving(self.denoiser, whole(steps, "steps"), solver, times, tolerance)
        if chosen and (problem := instability(solver, times, self.denoiser.sde)):
            warnings.warn(problem, Doubtful, stacklevel=2)
        z = sample(
            self._given(label, len(keys), cond),
            self.event_shape,
            times,
            solver,
            seeds=keys,
            batch_size=batch_size,
            progress=progress,
        )
        x = self.transform.inverse(z)
        if problem := beyond(self.transform, x, z):
            warnings.warn(problem, Doubtful, stacklevel=2)
        return x

    def log_prob(
        self,
        x: Array,
        *,
        label: Label | None = None,
        seeds: Seeds | None = None,
        steps: int | None = None,
        tolerance: float | None = None,
        divergence: Divergence | None = None,
        dequantisation: Dequantisation | None = None,
        draws: int = 1,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> LogProb:
        """Log-likelihoods in the data's units: densities of continuous data, a lower bound for discrete ones.

        Discrete data are dequantised by noise of their seed: log P(k) >= E_u[log p(k + u) - log q(u)]. One draw of u
        has that expectation; the mean of K of p / q, in the logarithm, bounds more tightly (Burda et al. 2016). The
        trace should then be exact or have many probes: the exponential of an estimate with an error is on average too
        large. Either is a single estimate, of which `stderr` is NaN: `scorefield.likelihood.averaged` makes an error
        bar of several with different seeds. See `scorefield.log_prob` for the other arguments.

        Args:
            dequantisation: the law q of u, `Uniform()` by default.
            draws: K, at least 1; it multiplies the network calls.
        """
        draws = whole(draws, "draws")
        if self.transform.levels is None and (draws > 1 or dequantisation is not None):
            raise ValueError(f"draws and dequantisation are for discrete data alone; got {draws} and {dequantisation}")
        x, keys = self._data(x, seeds)
        given, found = self._given(label, len(x), cond), list[LogProb]()
        for draw in range(draws):
            z, log_q = self._to_model(x, keys, dequantisation or Uniform(), draw)
            result = likelihood.log_prob(
                given,
                z,
                seeds=keys,
                steps=steps,
                tolerance=tolerance,
                divergence=divergence,
                batch_size=batch_size,
                progress=progress,
            )
            found.append(self._in_data_units(result, x, log_q))
        if draws > 1:
            return importance_weighted(found)
        # the probes of a trace know nothing of the error of u
        return replace(found[0], probes=found[0].nats[:, None]) if found[0].discrete else found[0]

    def elbo(
        self,
        x: Array,
        *,
        label: Label | None = None,
        seeds: Seeds | None = None,
        draws: int = 48,
        profile: NoiseProfile | None = None,
        centred: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> LogProb:
        """The stochastic lower bound in the data's units; see `scorefield.elbo` for the other arguments.

        Args:
            profile: by `noise_profile` on data such as these.
            centred: discrete data are put at the centres of their cells and a decoder gives P(k | z), for a model that
                was trained so; by default they are dequantised by uniform noise of their seed, as in training, anew
                for each of the independent estimates.
        """
        levels = self.transform.levels
        if centred and levels is None:
            raise ValueError("only discrete data have cells with centres: leave out `centred`")
        x, keys = self._data(x, seeds)
        copies = [self._to_model(x, keys, None if centred else Uniform(), k) for k in range(GROUPS)]
        cells = None
        if centred and levels is not None:
            cells = Cells(x.to(copies[0][0].device), levels, level_distance(self.transform, self.event_shape))
        result = likelihood.elbo(
            self._given(label, len(x), cond),
            [z for z, _ in copies],
            seeds=keys,
            draws=draws,
            profile=profile,
            cells=cells,
            batch_size=batch_size,
            progress=progress,
        )
        return result if centred else self._in_data_units(result, x, torch.zeros_like(result.nats))

    def noise_profile(
        self,
        x: Array,
        *,
        label: Label | None = None,
        seeds: Seeds | None = None,
        centred: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> NoiseProfile:
        """Where this model errs on data such as x, for `elbo`; see `scorefield.noise_profile`."""
        x, keys = self._data(x, seeds)
        z, _ = self._to_model(x, keys, None if centred else Uniform())
        given = self._given(label, len(x), cond)
        return likelihood.noise_profile(given, z, seeds=keys, batch_size=batch_size, progress=progress)

    def encode(
        self,
        x: Array,
        *,
        label: Label | None = None,
        seeds: Seeds | None = None,
        steps: int = 80,
        tolerance: float | None = None,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> Float[Tensor, "n *event"]:
        """The latent of each sample at time T; discrete data are dequantised by their seed.

        See `scorefield.encode` for the arguments.
        """
        x, keys = self._data(x, seeds)
        given = self._given(label, len(x), cond)
        z, _ = self._to_model(x, keys, Uniform())
        return likelihood.encode(given, z, steps=steps, tolerance=tolerance, batch_size=batch_size, progress=progress)

    def decode(
        self,
        latent: Array,
        *,
        label: Label | None = None,
        steps: int = 80,
        tolerance: float | None = None,
        batch_size: int | None = None,
        progress: bool = False,
        **cond: Condition | None,
    ) -> Tensor:
        """The sample of each latent; see `scorefield.encode` for the arguments."""
        self._check_gaussian()
        z = as_states(self.denoiser, latent, "latent").to(placement(self.denoiser)["dtype"])
        check_event(z, self.event_shape, "this model")
        given = self._given(label, len(z), cond)
        return self.transform.inverse(
            likelihood.decode(given, z, steps=steps, tolerance=tolerance, batch_size=batch_size, progress=progress)
        )

    def score(self, x: Array, t: Time, *, label: Label | None = None, **cond: Condition | None) -> Tensor:
        """grad log p of the noisy states at time t, in the data's units; discrete data count as real numbers.

        Raises:
            Diverged: a ValueError, of scores that are not finite.
        """
        place, x = placement(self.denoiser), as_states(self.denoiser, x)
        check_event(x, self.event_shape, "this model")
        with recording(), evaluating(self.denoiser):
            x = leaf(x)
            z = self.transform.forward(x, torch.zeros_like(x))
            value = self._given(label, len(x), cond).score(z.detach().to(**place), t).to(z)
            (gradient,) = torch.autograd.grad((z * value).sum() + self.transform.log_det(x).sum(), x)
        require_finite(gradient, "scores", self.denoiser.sde, self.denoiser)
        dtype = widest(place["device"]) if gradient.dtype == torch.float64 else gradient.dtype
        return gradient.to(place["device"], dtype)

    def given(self, label: Label | None = None, **cond: Condition | None) -> ScoreModule:
        """The denoiser under conditions, each checked: what guidance is made of.

        Args:
            label: one class for all, or one for each sample, by their numbers or their names; any class by default,
                unless the model needs one.
            cond: further conditions, one row for each sample or one for all; `cond` in the units of the training data.
        """
        return self._given(label, None, cond)

    def guided(self, denoiser: ScoreModule) -> ScoreModel:
        """The same data by another denoiser of the same space, which brings its conditions with it.

        `model.guided(ClassifierFree(model.given(3), model.given(), 2.0)).sample(seeds=range(64))` makes samples of
        class 3 by classifier-free guidance.
        """
        if not isinstance(denoiser, ScoreModule):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"wanted a denoiser, made of `model.given()`; got {type(denoiser).__name__}: solvers go to "
                "`model.sample(solver=...)`, and samplers with a loop of their own have a `sample`"
            )
        return ScoreModel(denoiser, self.event_shape, self.transform, 0, self.about, cond_transform=self.cond_transform)

    def measured(self, operator: Operator, y: Array, noise: MeasurementNoise) -> Measured:
        """A measurement y = A(x) + noise of the data, in their units, as one of the model's space.

        `model.guided(PiGDM(model.given(), *model.measured(a, y, noise))).sample(seeds=range(16))` draws what y may have
        been measured of. See `scorefield.model.measured`.
        """
        like = torch.empty(0, **placement(self.denoiser))
        return measured(self.transform, self.event_shape, operator, as_tensor(y, "y"), noise, like)

    def save(self, path: str | Path) -> None:
        """Writes config.json and model.safetensors into a directory, which is made if need be."""
        stored.save(self, stored.SCORE, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, types: Iterable[type] = (), device: torch.device | str = "cpu") -> ScoreModel:
        """Reads a directory that `save` wrote, without running anything from it.

        Args:
            path: the directory.
            types: your own classes, if the model is made of any: networks, processes, preconditioners, transforms.
            device: where the model goes.
        """
        return stored.load(cls, stored.SCORE, Path(path), types, device)

    def _given(self, label: Label | None, n: int | None, cond: Mapping[str, Condition | None]) -> ScoreModule:
        """The model under its conditions, with one row for each of n samples, if they are known, or one for all."""
        bound = {name: as_tensor(value, name) for name, value in cond.items() if value is not None}
        if "cond" in bound:
            like = torch.empty(0, **placement(self.denoiser))
            bound["cond"] = standardised(bound["cond"], self.cond_transform, like)
        if label is not None:
            bound["label"] = numbered(label, self.classes, self.class_names)
        elif self.needs_label:
            raise ValueError("this model was trained only with labels and cannot be used without one: give a label")
        for name, value in bound.items():
            if n is not None and value.ndim and len(value) not in ((1, n) if value.ndim > 1 else (n,)):
                raise ValueError(f"wanted a row of {name!r} for each of {n} samples, or one for all; got {len(value)}")
        return self.denoiser.given(**bound) if bound else self.denoiser

    def _check_gaussian(self) -> None:
        if not isinstance(self.denoiser.sde, GaussianSDE):
            raise ValueError(
                f"likelihoods and encodings need a Gaussian process; got {type(self.denoiser.sde).__name__}"
            )

    def _data(self, x: Array, seeds: Seeds | None) -> tuple[Tensor, Tensor]:
        """Samples of this model's data, real ones as finite numbers on its device, and a seed for each."""
        self._check_gaussian()
        x = as_tensor(x, "x") if self.transform.levels is not None else as_states(self.denoiser, x)
        check_event(x, self.event_shape, "this model")
        if len(x) == 0:
            raise ValueError("wanted at least one sample; got none")
        return x, keys_of(seeds, len(x))

    def _to_model(
        self, x: Tensor, keys: Tensor, dequantisation: Dequantisation | None, draw: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The data in the model's space, and log q of their dequantisation; without one at the centres of the cells."""
        levels, place = self.transform.levels, placement(self.denoiser)
        nothing = torch.zeros(len(x), dtype=widest(place["device"]), device=place["device"])
        if levels is None:
            return self.transform.forward(x).to(**place), nothing
        x = x.to(place["device"])
        if x.is_floating_point() or int(x.min()) < 0 or int(x.max()) >= levels:
            raise ValueError(
                f"this model is of integers from 0 to {levels - 1}; got {x.dtype}, {float(x.min())} to {float(x.max())}"
            )
        like = torch.empty(x.shape, dtype=widest(x.device), device=x.device)
        if dequantisation is None:
            return self.transform.forward(x, torch.full_like(like, 0.5)).to(**place), nothing
        knot, noise = self.denoiser.sde.knots([self.denoiser.sde.t_min])[0], Noise.per_sample(keys, x.device)
        width = level_distance(self.transform, self.event_shape).to(like)
        drawn = dequantisation.draw(like, width, knot.sigma / knot.alpha, noise.child(255).at(draw))
        return self.transform.forward(x, drawn.u).to(**place), drawn.log_density

    def _in_data_units(self, result: LogProb, x: Tensor, log_q: Tensor) -> LogProb:
        """A density of the transformed data as one of the data, or as a bound for the probability of integers."""
        discrete = self.transform.levels is not None
        terms = {"transform": self.transform.log_det(x).to(result.nats)}
        return result.plus(terms | ({"dequantisation": -log_q.to(result.nats)} if discrete else {}), discrete)
