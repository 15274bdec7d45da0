"""Guidance by a classifier.

Bayes' rule for scores, grad log p_t(x | c) = grad log p_t(x) + w grad log p_t(c | x) with w = 1: a model trained
without labels makes digits of a class with the help of a classifier that was trained on noisy digits. Larger w trade
likeness to the digits of the class for certainty of it.
"""

import torch
from matplotlib.figure import Figure
from sklearn.svm import SVC

import scorefield as sf
from scorefield import plot
from scorefield.metrics import sliced_wasserstein


def main(out: str = "docs/gallery/17_guidance_by_classifier.png", steps: int = 3000, samples: int = 1000) -> None:
    data, sde = sf.data.digits(), sf.VP()
    transform = sf.data.Affine.fitted(data)
    std = sf.data.transformed_std(data, transform)
    with sf.nn.seeded(0):
        net = sf.nn.MLP(data.event_shape, dropout=0.1)
        classifier = sf.NoisyClassifier(sf.nn.MLPClassifier(data.event_shape, 10, dropout=0.1), sde, std)
    model = sf.fit(net, data.unlabelled(), sde, steps=steps, seed=0, optimisation=sf.Optimisation(lr=3e-3))
    state = sf.TrainState(classifier, sf.Optimisation(lr=2e-3), seed=0)
    batches = sf.Batches(data, transform, 128, seed=0)
    for _ in sf.train(state, batches, sf.objectives.CrossEntropy(), steps=steps // 2):
        pass
    guide = sf.ClassifierModel(state.averaged(), data.event_shape, 10, transform)

    everything = data.rows(torch.arange(len(data)))
    judge = SVC(C=10.0).fit(everything.x.flatten(1).numpy(), everything.cond["label"].numpy())  # of clean digits
    real, label = everything.x[:samples].float(), everything.cond["label"][:samples]  # a sample for each of these
    weights, agreement, distance, shown = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0), [], [], []
    for w in weights:
        x = guide.guide(model, label, w).sample(seeds=range(samples), steps=20).float()
        shown.append(x[:10])
        agreement.append(100 * judge.score(x.flatten(1).numpy(), label.numpy()))
        distance.append(sum(sliced_wasserstein(x[label == k], real[label == k]) for k in range(10)) / 10)
        print(f"w = {w:g}: agreement {agreement[-1]:.1f} %, distance to the digits of the class {distance[-1]:.3f}")

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    pictures, share, far = figure.subplots(1, 3, width_ratios=(7, 4, 4))
    pictures.imshow(plot.image_grid(torch.cat(shown), levels=17, columns=10, side=48))
    pictures.set_yticks([30 + 54 * k for k in range(len(weights))], [f"w = {w:g}" for w in weights])
    pictures.set_xticks([30 + 54 * k for k in range(10)], label[:10].tolist())
    pictures.set_title("samples for the classes below, a seed for each column")
    for axes, values, title in ((share, agreement, "agreement, %"), (far, distance, "distance to its digits")):
        axes.plot(weights, values, color="C3", marker="o")
        axes.set(xlabel="weight w", title=title, ylim=(0, None))
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
