"""Moments of features: all that a Frechet distance needs to know of a set of samples, however many there are."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._memory import check_fits
from scorefield._unpacking import read_npz
from scorefield.metrics.features import Features


@dataclass(frozen=True)
class FeatureStats:
    """Number, mean and covariance of features, in float64. Those of parts add up to those of the whole.

    The covariance is held as a factor, cov = R^T R: rows of R are at first the centred features themselves, and a QR
    decomposition shortens them to d. What is computed of factors keeps the digits that a product would lose, and n < d
    samples need no matrix of d x d numbers.

    Attributes:
        n: number of samples; None if a file of another project does not say.
        mean: (d,).
        factor: R, (k, d) with k <= max(n, 2 d).
        extractor: what made the features, its name and digest; sets compare only with those of the same one.
        features: the features themselves, if they have been kept.
    """

    n: int | None
    mean: Float64[Tensor, "d"]
    factor: Float64[Tensor, "k d"]
    extractor: str = ""
    features: Features | None = None

    @staticmethod
    def of(features: Features | Float[Tensor, "n d"], extractor: str = "", keep: bool = False) -> FeatureStats:
        """The moments of n >= 1 samples.

        Args:
            features: of the samples, finite.
            extractor: what made them.
            keep: keep the features as well.
        """
        features = Features(features) if isinstance(features, Tensor) else features
        features = features.kept()
        x = features.values.double()
        if x.ndim != 2 or not x.numel():
            raise ValueError(f"features are (n, d) with n, d >= 1; got shape {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the features hold NaN or infinite numbers: the samples or the extractor are broken")
        check_fits(x.numel(), f"the covariance of {len(x)} samples with {x.shape[1]} features")
        mean = x.mean(0)
        factor = shortened((x - mean).div_(max(1, len(x) - 1) ** 0.5))
        return FeatureStats(len(x), mean, factor, extractor, features if keep else None)

    def __add__(self, other: FeatureStats) -> FeatureStats:
        """The moments of both sets together  (Chan, Golub & LeVeque 1979)."""
        self.check_same_features(other)
        if self.extractor != other.extractor:
            raise ValueError(
                f"features of {self.extractor or other.extractor} and of an extractor without a name cannot be added"
            )
        if self.n is None or other.n is None:
            raise ValueError("sets whose numbers of samples are not known cannot be added: compute them by scorefield")
        n = self.n + other.n
        shift = other.mean - self.mean
        rows = [s.factor * max(0, s.n - 1) ** 0.5 for s in (self, other) if s.n]
        rows.append(shift[None] * (self.n * other.n / n) ** 0.5)
        kept = None
        if self.features is not None and other.features is not None:
            kept = Features.joined([self.features, other.features])
        factor = shortened(torch.cat(rows) / max(1, n - 1) ** 0.5)
        return replace(self, n=n, mean=self.mean + shift * (other.n / n), factor=factor, features=kept)

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Sum of (f - mean)(f - mean)^T over n - 1."""
        d = len(self.mean)
        check_fits(d * d, f"a covariance of {d} x {d} numbers", "work with its factor, or with fewer features")
        return self.factor.mT @ self.factor

    @property
    def spectrum(self) -> Float64[Tensor, "r"]:
        """Eigenvalues of the covariance, in ascending order: all d, or the first r = k if the factor has k < d rows."""
        k, d = self.factor.shape
        check_fits(2 * min(k, d) ** 2, f"the spectrum of {k} samples with {d} features")
        gram = self.factor @ self.factor.mT if k < d else self.covariance
        return torch.linalg.eigvalsh(gram).clamp_min(0)

    def check_same_features(self, other: FeatureStats) -> None:
        """Raises ValueError unless both are moments of the same features."""
        if self.extractor and other.extractor and self.extractor != other.extractor:
            raise ValueError(
                f"features of different extractors cannot be compared: {self.extractor} and {other.extractor}: compute "
                "both by one"
            )
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"features of {len(self.mean)} and {len(other.mean)} numbers cannot be compared")

    def write(self, file: BinaryIO) -> None:
        """Writes an .npz archive: n, mu, factor, extractor, and features and logits if they have been kept."""
        arrays: dict[str, NDArray[np.generic] | np.generic] = {
            "mu": self.mean.numpy(),
            "factor": shortened(self.factor, 1).numpy(),
            "extractor": np.str_(self.extractor),
        }
        if self.n is not None:
            arrays["n"] = np.int64(self.n)
        if self.features is not None:
            arrays["features"] = self.features.values.numpy()
            if self.features.logits is not None:
                arrays["logits"] = self.features.logits.numpy()
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def holds(path: str | Path) -> bool:
        """Whether a file is an archive of moments, and not one of samples."""
        try:
            with zipfile.ZipFile(path) as file:
                return "mu.npy" in file.namelist()
        except (OSError, zipfile.BadZipFile):
            return False

    @staticmethod
    def read(path: str | Path) -> FeatureStats:
        """What `write` has written, or the `mu` and `sigma` of other projects' FID statistics; runs nothing.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no such moments, or they are not finite numbers.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        arrays = read_npz(Path(path))
        extractor = str(arrays.pop("extractor", ""))
        known = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind in "fiu"}
        if "mu" not in known or not {"factor", "sigma"} & {*known}:
            raise ValueError(f"{path}: holds {', '.join(arrays)}; wanted real numbers mu and factor (or sigma)")
        return _checked(known, extractor, path)


def _checked(arrays: Mapping[str, Tensor], extractor: str, path: str | Path) -> FeatureStats:
    mean, matrix = arrays["mu"].double(), arrays["factor" if "factor" in arrays else "sigma"].double()
    if mean.ndim != 1 or matrix.ndim != 2 or matrix.shape[1] != len(mean) or not len(mean):
        raise ValueError(f"{path}: wanted mu (d,) and a matrix of d columns; got {mean.shape} and {matrix.shape}")
    if not bool(torch.isfinite(mean).all() and torch.isfinite(matrix).all()):
        raise ValueError(f"{path}: holds NaN or infinite numbers")
    if "factor" not in arrays:
        if matrix.shape[0] != matrix.shape[1] or float((matrix - matrix.mT).abs().max()) > 1e-6 * float(
            matrix.abs().max()
        ):
            raise ValueError(f"{path}: sigma is not symmetric, as a covariance is")
        what = f"{path}: the root of a covariance of {len(mean)} x {len(mean)} numbers"
        check_fits(3 * matrix.numel(), what, "take statistics of fewer features")
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        if float(values[0]) < -1e-6 * float(values[-1].abs()):
            raise ValueError(f"{path}: sigma has a negative variance, {float(values[0]):.3g}")
        matrix = values.clamp_min(0).sqrt()[:, None] * vectors.mT
    n = int(arrays["n"]) if "n" in arrays else None
    if n is not None and n < 1:
        raise ValueError(f"{path}: says that it is of {n} samples")
    kept = None
    if "features" in arrays:
        kept = Features(arrays["features"], arrays.get("logits"))
        logits = mean.new_zeros(len(kept.values), 1) if kept.logits is None else kept.logits
        if kept.values.shape != (n, len(mean)) or logits.ndim != 2 or len(logits) != n:
            raise ValueError(
                f"{path}: {n} samples have features and logits of shapes {tuple(kept.values.shape)} and "
                f"{tuple(logits.shape)}"
            )
        if not all(bool(torch.isfinite(v).all()) for v in (kept.values, logits)):
            raise ValueError(f"{path}: holds NaN or infinite features")
    return FeatureStats(n, mean, matrix, extractor, kept)


def shortened(factor: Float64[Tensor, "k d"], times: int = 2) -> Float64[Tensor, "r d"]:
    """R of d rows with the same R^T R, if it has more than some times as many."""
    k, d = factor.shape
    if k <= times * d:
        return factor
    check_fits((k + d) * d, f"the covariance of {k} samples with {d} features")
    return torch.linalg.qr(factor, mode="r").R
