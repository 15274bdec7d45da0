"""One model, three kinds of samplers: Euler-Maruyama, predictor-corrector and the probability-flow ODE.

All have the marginals of the same process, so that with short steps and the true score they make the same law. They
differ in what they cost: the noise of the reverse SDE asks for many small steps, a Langevin corrector for as many calls
again, and the ODE is smooth. FD is the Frechet distance between the pixels of as many samples as digits and the data.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import metrics, plot, solvers


def main(out: str = "docs/gallery/12_samplers_compared.png", steps: int = 3000, samples: int = 1797) -> None:
    data, sde = sf.data.digits().unlabelled(), sf.VP()
    with sf.nn.seeded(0):
        net = sf.nn.MLP(data.event_shape, dropout=0.1)
    model = sf.fit(net, data, sde, steps=steps, seed=0, optimisation=sf.Optimisation(lr=3e-3))

    real = metrics.FeatureStats.of(data.x.flatten(1).float())
    pc = solvers.PredictorCorrector(solvers.ReverseDiffusion(), solvers.Langevin(snr=0.16))
    runs = [("Euler-Maruyama", solvers.EulerMaruyama(), sf.grids.uniform(sde, n)) for n in (50, 200, 500)]
    runs += [("predictor-corrector", pc, sf.grids.uniform(sde, n)) for n in (25, 100, 250)]
    runs += [("ODE", *sf.default(sde, n)) for n in (5, 10, 20, 50)]
    rows, labels, curves = [], [], {}
    for name, solver, times in runs:
        x = model.sample(seeds=range(samples), solver=solver, times=times)
        calls = sf.network_calls(sde, times, solver)
        distance = metrics.frechet_distance(metrics.FeatureStats.of(x.flatten(1).float()), real)
        curves.setdefault(name, []).append((calls, distance))
        rows.append(x[:12])
        labels.append(f"{name}, {calls} calls: FD {distance:.1f}")
        print(labels[-1])
    floor = metrics.expected_frechet(real.covariance, samples, len(data))

    pictures, axes = (figure := Figure(figsize=(12, 5), layout="constrained")).subplots(1, 2, width_ratios=(2, 1))
    pictures.imshow(plot.image_grid(torch.cat(rows), 17, columns=12, side=48))
    pictures.set_yticks([30 + 54 * k for k in range(len(rows))], labels, fontsize="small")
    pictures.set(xticks=[], title="The same seeds by each sampler")
    for name, values in curves.items():
        axes.loglog(*zip(*values, strict=True), marker="o", markersize=4, label=name)
    axes.axhline(floor, color="0.5", linestyle="--", label=f"as many draws of one normal law: {floor:.1f}")
    axes.set(xlabel="network calls", ylabel="Frechet distance of pixels", title="Quality and cost", ylim=(8, 130))
    axes.legend(frameon=False, fontsize="small", loc="upper right")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
