"""One digit by a model of that digit alone, or by a model of all digits that is told the class.

A model of one class needs no labels, but sees a tenth of the images: trained for as long it copies them. One network
with the label as an input learns the strokes that the classes share, and makes all ten. An SVC fitted on real digits
says how many samples are of the class; the distance to the nearest training image tells new ones from copies.
"""

import torch
from matplotlib.figure import Figure
from sklearn.svm import SVC

import scorefield as sf
from scorefield import plot

DIGIT = 3


def trained(data: sf.data.Dataset, steps: int) -> sf.ScoreModel:
    with sf.nn.seeded(0):
        net = sf.nn.MLP(data.event_shape, data.classes, dropout=0.1)
    return sf.fit(net, data, steps=steps, seed=0, label_dropout=0, optimisation=sf.Optimisation(lr=3e-3))


def main(out: str = "docs/gallery/14_one_class_or_all.png", steps: int = 2500, samples: int = 1000) -> None:
    kept, held = sf.data.split(sf.data.digits(), held_out=0.2)
    known, unseen = (part.rows(torch.arange(len(part))) for part in (kept, held))
    judge = SVC(C=10.0).fit(known.x.flatten(1).numpy(), known.cond["label"].numpy())
    own, test = (part.x[part.cond["label"] == DIGIT] for part in (known, unseen))
    one, every = (trained(data, steps) for data in (sf.data.ArrayDataset(own, levels=17), kept))

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return torch.cdist(x.flatten(1).float(), own.flatten(1).float()).min(1).values

    *pictures, distances = (figure := Figure(figsize=(12, 4.2), layout="constrained")).subplots(1, 3)
    distances.hist(nearest(test), 25, range=(0, 35), density=True, color="0.8", label="held-out threes")
    print(f"held-out threes: {float(nearest(test).mean()):.1f} to the nearest three")
    names = f"Model of the {len(own)} threes", f"Model of all {len(kept)} digits, told 3"
    for axes, name, model, label in zip(pictures, names, (one, every), (None, DIGIT), strict=True):
        x = model.sample(seeds=range(samples), steps=20, label=label)
        agreement = 100 * (judge.predict(x.flatten(1).numpy()) == DIGIT).mean()
        bits = [float(model.log_prob(y, label=label).bits_per_dim.mean()) for y in (own, test)]
        axes.imshow(plot.image_grid(x[:64], 17, side=48))
        found = f"agreement {agreement:.1f} %\nbits/dim {bits[1]:.2f} held out, {bits[0]:.2f} in training"
        axes.set(title=name, xticks=[], yticks=[], xlabel=found)
        print(f"{name}: {found}; {float(nearest(x).mean()):.1f} to the nearest three")
        distances.hist(nearest(x).clamp_max(34), 25, range=(0, 35), density=True, histtype="step", lw=2, label=name)
    distances.set(
        title="Copies? Densities of ...", ylim=(0, 0.25), xlabel="... the distance to the nearest in training"
    )
    distances.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
