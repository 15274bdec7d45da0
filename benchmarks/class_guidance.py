"""Guidance to a class on digits: how many samples are of the class, how far from its digits, and how various.

    OPTIONS="--data digits --held_out 0.2 --steps 4000 --optimisation.lr 3e-3"
    scorefield train $OPTIONS --out labelled
    scorefield train $OPTIONS --use_labels false --out unlabelled
    scorefield train-classifier unlabelled --data digits --held_out 0.2 --optimisation.lr 2e-3 --out classifier
    python benchmarks/class_guidance.py labelled unlabelled classifier

One sample of 20 steps for each of the 1797 digits, of its class. Agreement: the share that an SVC, fitted on the digits
that the models were trained on, takes for the class. Distance: sliced Wasserstein-2 between the samples and the digits
of a class, mean over the classes. Spread: standard deviation of the samples of a class about their mean, over that of
its digits, mean over the classes.
"""

from __future__ import annotations

import sys

import torch
from sklearn.svm import SVC
from torch import Tensor

import scorefield as sf
from scorefield.guidance import ClassifierFree
from scorefield.metrics import sliced_wasserstein


def main(labelled: str, unlabelled: str, classifier: str) -> None:
    torch.set_num_threads(1)
    data = sf.data.digits()
    everything = data.rows(torch.arange(len(data)))
    real, label = everything.x.flatten(1).double(), everything.cond["label"]
    known = sf.data.split(data, 0.2, 0)[0]
    rows = known.rows(torch.arange(len(known)))
    judge = SVC(C=10.0).fit(rows.x.flatten(1).numpy(), rows.cond["label"].numpy())

    def show(name: str, model: sf.ScoreModel, given: Tensor | None = None) -> None:
        x = model.sample(seeds=range(len(label)), steps=20, label=given).flatten(1)
        agreement = judge.score(x.numpy(), label.numpy())
        pairs = [(x[label == k].double(), real[label == k]) for k in range(10)]
        distance = sum(sliced_wasserstein(a, b) for a, b in pairs) / 10
        spread = sum(float((a.var(0).sum() / b.var(0).sum()).sqrt()) for a, b in pairs) / 10
        print(f"{name:38}{100 * agreement:>9.1f} %{distance:>10.3f}{spread:>8.3f}", flush=True)

    print(f"{'':38}{'agreement':>11}{'distance':>10}{'spread':>8}")
    plain, whole = sf.ScoreModel.load(unlabelled), sf.ScoreModel.load(labelled)
    by = sf.ClassifierModel.load(classifier)
    show("unlabelled model", plain)
    for w in (1.0, 2.0, 4.0):
        show(f"the same by a classifier, w = {w:g}", by.guide(plain, label, w))
    show("labelled model, w = 1", whole, label)
    conditional, unconditional = whole.given(label), whole.given()
    for w in (1.5, 2.0, 4.0):
        show(f"classifier-free, w = {w:g}", whole.guided(ClassifierFree(conditional, unconditional, w)))
    limited = ClassifierFree(conditional, unconditional, 4.0, (0.2, 1.0))
    show("classifier-free, w = 4 in (0.2, 1]", whole.guided(limited))


if __name__ == "__main__":
    main(*sys.argv[1:])
