"""Tomography from 8 projections and MRI from a third of k-space, by one model of the images.

The model is trained on images of random ellipses alone; the operator comes in at sampling, by Bayes' rule for scores
(MMPS). Projections and k-space are those of the ellipses themselves, by closed forms, and noisy. Backprojection leaves
streaks and the inverse transform with zeros ghosts; posterior samples are likely images.
"""

import torch

import scorefield as sf
from scorefield import guidance, operators, plot
from scorefield.operators import phantom


def ellipses(g: torch.Generator) -> list[phantom.Ellipse]:  # a body with five organs
    (*_, a, b, turn), *organs = torch.rand(6, 6, generator=g).tolist()
    return [phantom.Ellipse(0.6, 0, 0, 0.65 + 0.25 * a, 0.65 + 0.25 * b, 3 * turn)] + [
        phantom.Ellipse(0.7 * v - 0.35, 0.8 * x - 0.4, 0.8 * y - 0.4, 0.08 + 0.25 * a, 0.08 + 0.25 * b, 3 * turn)
        for v, x, y, a, b, turn in organs
    ]


def main(out: str = "docs/gallery/20_ct_and_mri.png", steps: int = 1000, samples: int = 8) -> None:
    g = torch.Generator().manual_seed(0)
    bodies = [ellipses(g) for _ in range(1502)]
    images = torch.stack([phantom.image(body, 32, samples=3) for body in bodies]).float()
    unseen, truth, data = bodies[:2], images[:2], sf.data.ArrayDataset(images[2:])
    with sf.nn.seeded(0):
        net = sf.nn.UNet((1, 32, 32), channels=(8, 16, 32), blocks=1, attention=(False, False, False))
    model = sf.fit(net, data, steps=steps, seed=0, batch_size=16, optimisation=sf.Optimisation(lr=4e-3))

    rows, radon, mask = {}, operators.Radon(32, 8), operators.cartesian_mask(32, 32, acceleration=3, seed=0)
    fourier, k_space = operators.FourierMask(mask), torch.stack([phantom.k_space(body, 32)[mask] for body in unseen])
    sinograms = torch.stack([phantom.sinogram(body, radon.angles, radon.detectors) for body in unseen])
    problems = {
        "CT, backprojection": (radon, sinograms, lambda y: operators.filtered_back_projection(radon, y)),
        "MRI, zero-filled": (fourier, k_space, fourier.A_adjoint),
    }
    for name, (operator, exact, classical) in problems.items():
        y = exact + 0.02 * torch.randn(exact.shape, generator=g, dtype=exact.dtype)
        known = model.measured(operator, y.repeat_interleave(samples, 0), operators.Gaussian(0.03))
        guided = model.guided(guidance.MomentMatching(model.given(), *known))
        x = guided.sample(seeds=range(2 * samples), steps=25).reshape(2, samples, 1, 32, 32)
        found = {name.split(", ")[1]: classical(y), "sample": x[:, 0], "sample 2": x[:, 1], "mean": x.mean(1)}
        quality = {method: sf.metrics.psnr(image, truth, 1.0) for method, image in found.items()}
        print(name, *(f"{method}: {float(value.mean()):.1f} dB" for method, value in quality.items()))
        for k in (0, 1):
            shown = {f"{method}, {quality[method][k]:.1f} dB": image[k] for method, image in found.items()}
            rows[f"{name.split(', ')[0]} {k}"] = {"truth": truth[k]} | shown | {"std": x[k].std(0)}
    plot.panels(rows, 0, 1, spread="std").savefig(out, dpi=80)


if __name__ == "__main__":
    main()
