"""A model in one call: the same weights as by the loop, and as by the command."""

from __future__ import annotations

import pytest
import torch

import scorefield as sf
from scorefield.cli import main


def network(data, classes=0):
    with sf.nn.seeded(0):
        return sf.nn.MLP(data.event_shape, classes, features=16, blocks=1)


def test_fit_is_the_loop_with_the_choices_of_the_command(tmp_path):
    data = sf.data.two_moons(400)
    model = sf.fit(network(data, 2), data, steps=5, seed=3)

    transform = sf.data.Affine.fitted(data)
    std = sf.data.transformed_std(data, transform)
    state = sf.TrainState(sf.Preconditioned(network(data, 2), sf.VP(), sf.EDMPrecond(std)), seed=3)
    objective = sf.objectives.LabelDropout(sf.objectives.DenoisingScoreMatching.edm(std), 0.1)
    for _ in sf.train(state, sf.Batches(data, transform, 128, seed=3), objective, steps=5):
        pass
    for ours, theirs in zip(model.denoiser.parameters(), state.averaged().parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (model.transform, model.classes, model.needs_label) == (transform, 2, False)

    out = tmp_path / "run"  # the command's network, rows and choices
    assert main(["train", "--data", "two_moons", "--steps", "3", "--out", str(out)]) == 0
    kept, _ = sf.data.split(sf.data.two_moons(), 0.1, seed=0)
    with sf.nn.seeded(0):
        net = sf.nn.MLP(kept.event_shape, kept.classes)
    ours, theirs = sf.fit(net, kept, steps=3, seed=0), sf.ScoreModel.load(out)
    for one, two in zip(ours.denoiser.parameters(), theirs.denoiser.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_fit_takes_its_parts():
    data = sf.data.two_moons(400)
    weight = sf.objectives.DenoisingScoreMatching(sf.objectives.Levels(10), sf.objectives.SimpleWeight())
    model = sf.fit(
        network(data, 2),
        data,
        sf.VE(0.01, 5.0),
        steps=2,
        seed=0,
        batch_size=16,
        precond=sf.ScorePrecond(),
        objective=weight,
        label_dropout=0,
    )
    assert isinstance(model.denoiser, sf.Preconditioned) and isinstance(model.denoiser.precond, sf.ScorePrecond)
    assert model.needs_label and model.denoiser.sde == sf.VE(0.01, 5.0)


def test_fit_refuses_what_does_not_fit_together():
    data = sf.data.two_moons(100)
    with pytest.raises(ValueError, match=r"takes 0 classes, the data have 2.*data\.unlabelled\(\)"):
        sf.fit(network(data), data, steps=1, seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        sf.fit(network(data, 2), data, steps=0, seed=0)
    with pytest.raises(ValueError, match="label_dropout"):
        sf.fit(network(data, 2), data, steps=1, seed=0, objective=sf.objectives.LabelDropout())
    with pytest.raises(ValueError, match="diverged"):
        sf.fit(network(data, 2), data, steps=3, seed=0, optimisation=sf.Optimisation(lr=1e38, warmup=0))
    with pytest.raises(ValueError, match=r"events of shape \(2,\), the data have \(1, 8, 8\)"):
        sf.fit(network(data), sf.data.digits(), steps=1, seed=0)


def test_fit_names_the_classes_that_no_row_has():
    points = sf.data.two_moons(40)
    x, label = points.x, 3 * (points.rows(torch.arange(40)).cond["label"])
    names = ("ant", "bee", "cat", "dog", "eel")
    for some, wanted in (((), "1, 2, 4"), (names, "bee, cat, eel")):
        data = sf.data.ArrayDataset(x, label, classes=5, class_names=some)
        with pytest.warns(UserWarning, match=f"no row has the class {wanted}, of which nothing is learnt"):
            assert sf.fit(network(data, 5), data, steps=1, seed=0).about == {"unseen": [1, 2, 4]}
