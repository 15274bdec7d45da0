"""What every objective learns in the same time: the Fisher divergence from the true score of a mixture in the plane.

python benchmarks/objectives.py

Three normal laws of variance 0.1, VE from 0.3 to 5, an MLP with 64 features, 1200 steps of 256 samples on one thread.
"""

from __future__ import annotations

import math
import time

import torch

from scorefield import VE, EDMPrecond, Energy, GaussianMixture, GaussianSDE, Noise, Preconditioned, ScoreModule
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, Potential, seeded
from scorefield.objectives import (
    AdaptiveLogSNR,
    DenoisingScoreMatching,
    EDMWeight,
    ImplicitScoreMatching,
    Levels,
    LikelihoodWeight,
    MinSNRWeight,
    Objective,
    OneLevel,
    Perturbed,
    SlicedScoreMatching,
    UniformLogSNR,
    UniformTime,
    fisher_divergence,
    kl_bound,
)
from scorefield.training import Batches, Optimisation, TrainState, train

SDE = VE(0.3, 5.0)
MEANS = torch.tensor([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])
TRUTH = GaussianMixture(SDE, torch.tensor([0.3, 0.3, 0.4]), MEANS, torch.full((3,), 0.1))
LEVELS = (0.31, 0.5, 0.8, 1.5, 3.0)
ONE = Perturbed(OneLevel(0.5))
OBJECTIVES: dict[str, Objective] = {
    "denoising at 0.5": DenoisingScoreMatching(OneLevel(0.5)),
    "exact trace at 0.5": ImplicitScoreMatching(ONE),
    "sliced at 0.5": SlicedScoreMatching(ONE),
    "sliced at 0.5, 2 normal v": SlicedScoreMatching(ONE, projections=2, gaussian=True),
    "sliced at 0.5, not reduced, 4 v": SlicedScoreMatching(ONE, projections=4, reduced=False),
    "NCSN, 10 levels": DenoisingScoreMatching(Levels(10)),
    "NCSN, 10 levels, sliced": SlicedScoreMatching(Perturbed(Levels(10))),
    "continuous": DenoisingScoreMatching(),
    "continuous, sliced": SlicedScoreMatching(),
    "likelihood weight": DenoisingScoreMatching(UniformTime(), LikelihoodWeight()),
    "likelihood weight, importance sampling": DenoisingScoreMatching(UniformLogSNR(), LikelihoodWeight()),
    "likelihood weight, adaptive density": DenoisingScoreMatching(AdaptiveLogSNR(), LikelihoodWeight()),
    "EDM": DenoisingScoreMatching.edm(0.9),
    "min-SNR": DenoisingScoreMatching(weight=MinSNRWeight()),
    "velocity": DenoisingScoreMatching(weight=EDMWeight(1.0)),
    "EDM, energy": DenoisingScoreMatching.edm(0.9),
}


def network(energy: bool = False, sde: GaussianSDE = SDE) -> ScoreModule:
    """A small network as a denoiser, or as an energy."""
    with seeded(0):
        net, precond = MLP((2,), features=64, blocks=2), EDMPrecond(0.9)
    return Energy(Potential(net), sde, precond) if energy else Preconditioned(net, sde, precond)


def trained(objective: Objective, model: ScoreModule, data: ArrayDataset, steps: int = 1200) -> ScoreModule:
    """The averaged model."""
    state = TrainState(model, Optimisation(lr=3e-3, half_lives=(20_000.0,)), seed=0)
    for _ in train(state, Batches(data, Affine(), 256, seed=0), objective, steps=steps):
        pass
    return state.averaged()


def draws(count: int) -> ArrayDataset:
    """Samples of the mixture."""
    return ArrayDataset(TRUTH.marginal(0.0).sample(torch.empty(count, 2), Noise.per_sample(range(count))))


def fisher(model: ScoreModule, sigma: float, truth: GaussianMixture = TRUTH) -> float:
    """The Fisher divergence from the truth at a noise level."""
    t = truth.sde.time(torch.tensor(-2 * math.log(sigma), dtype=torch.float64))
    x = truth.marginal(float(t)).sample(torch.empty(4000, 2), Noise.per_sample(range(10**6, 10**6 + 4000)))
    with torch.no_grad():
        return float(fisher_divergence(model, truth, x, t).mean())


def main() -> None:
    torch.set_num_threads(1)
    data = draws(20_000)
    print("| objective | " + " | ".join(f"sigma {s:g}" for s in LEVELS) + " | KL bound | ms a step |")
    print("|---" * (len(LEVELS) + 3) + "|")
    for name, objective in OBJECTIVES.items():
        start = time.perf_counter()
        model = trained(objective, network("energy" in name), data)
        pace = (time.perf_counter() - start) / 1.2
        cells = " | ".join(f"{fisher(model, sigma):.4f}" for sigma in LEVELS)
        with torch.no_grad():
            bound = float(kl_bound(model, TRUTH, data.x[:4000], noise=Noise.per_batch(9, 4000)).mean())
        print(f"| {name} | {cells} | {bound:.4f} | {pace:.1f} |", flush=True)


if __name__ == "__main__":
    main()
