"""The training loss, and what averaged weights are worth.

The loss falls fast and then slowly, towards the part of the noise that nobody could predict. At a constant learning
rate the last weights wander about a minimum; their exponential moving average w <- b w + (1 - b) p lies nearer to its
middle, as the loss on held-out data and the distance of samples from them show.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf


def main(out: str = "docs/gallery/13_loss_and_ema.png", steps: int = 6000, samples: int = 359) -> None:
    kept, held = sf.data.split(sf.data.digits().unlabelled(), held_out=0.2)
    transform = sf.data.Affine.fitted(kept)
    std = sf.data.transformed_std(kept, transform)
    with sf.nn.seeded(0):
        net = sf.nn.MLP(kept.event_shape, dropout=0.1)
    denoiser = sf.Preconditioned(net, sf.VP(), sf.EDMPrecond(std))
    optimisation = sf.Optimisation(lr=2e-3, decay=False, half_lives=(20_000.0,))  # half-life in samples seen
    state, objective = sf.TrainState(denoiser, optimisation, seed=0), sf.objectives.DenoisingScoreMatching.edm(std)
    test = [sf.Batches(held, transform, len(held), seed=1)[k] for k in range(8)]  # the same noise at each evaluation
    truth = held.rows(torch.arange(samples)).x

    @torch.no_grad()
    def judged(model: sf.Preconditioned) -> tuple[float, float]:
        loss = torch.stack([objective(model, batch.x0, noise=batch.noise) for batch in test]).mean()
        x = sf.ScoreModel(model, kept.event_shape, transform).sample(seeds=range(samples), steps=15)
        return float(loss), sf.metrics.sliced_wasserstein(x, truth)

    losses, at, found = [], [], {"last weights": [], "averaged weights": []}
    for info in sf.train(state, sf.Batches(kept, transform, 128, seed=0), objective, steps=steps):
        losses.append(float(info.loss))
        if info.step % max(1, steps // 20) == 0:
            at.append(info.step)
            found["last weights"].append(judged(state.model.eval()))
            found["averaged weights"].append(judged(state.averaged()))
    floor = sf.metrics.sliced_wasserstein(kept.rows(torch.arange(samples)).x, truth)

    batch, *right = (figure := Figure(figsize=(11, 3.4), layout="constrained")).subplots(1, 3)
    batch.plot(range(1, steps + 1), losses, color="0.8", linewidth=0.4, label="each batch")
    mean = torch.tensor(losses).unfold(0, min(100, steps), 1).mean(1)
    batch.plot(range(steps - len(mean) + 1, steps + 1), mean, color="0.2", label="mean of 100")
    batch.set(title="Training loss", ylabel="loss of a digit", ylim=(0.8 * min(losses), 2 * min(losses)))
    for k, (axes, title) in enumerate(zip(right, ("Held-out loss", "Samples to held-out digits"), strict=True)):
        for (name, values), colour in zip(found.items(), ("C1", "C0"), strict=True):
            axes.plot(at, [pair[k] for pair in values], color=colour, marker="o", markersize=3, label=name)
            print(f"{title}, {name}: {values[-1][k]:.3f} at the end, {min(v[k] for v in values):.3f} at best")
        axes.set(title=title, ylabel=("loss of a digit", "sliced W2, in grey levels")[k])
    right[1].axhline(floor, color="0.5", linestyle="--", label=f"as many training digits: {floor:.2f}")
    for axes in figure.axes:
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
