"""Guidance at the command line: classifiers that are trained, and samples that are those of the API."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from test_cli import interrupted_at, scorefield, state_after, table, trained, words

from scorefield import ClassifierModel, ScoreModel
from scorefield.cli import main
from scorefield.cli.parts.building import usual_classifier
from scorefield.data import ArrayDataset, digits, split, transformed_std, two_moons
from scorefield.guidance import ClassifierFree
from scorefield.nn import MLPClassifier, UNetClassifier, seeded
from scorefield.objectives import judged
from scorefield.training import Batches

pytestmark = pytest.mark.usefixtures("unchecked")

TINY = words("--net MLPClassifier --net.features 16 --net.blocks 1 --batch_size 32 --device cpu --steps 20")
FILES = {"config.json", "model.safetensors", "checkpoints", "loss.csv", "loss.png", "noise_levels.csv"}


def classifier_of(run, out, data="two_moons", *options):
    scorefield("train-classifier", run, "--data", data, "--out", out, *TINY, *options)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("moons") / "run", "two_moons", "--sde", "SubVP", "--sde.beta_max", 15)


@pytest.fixture(scope="module")
def classifier(run, tmp_path_factory):
    return classifier_of(run, tmp_path_factory.mktemp("classifier") / "run")


def arrays(path):
    return torch.from_numpy(np.load(path)["x"])


def test_training_writes_a_classifier_of_the_runs_process_and_transform_and_its_worth(run, classifier):
    assert {path.name for path in classifier.iterdir()} == FILES
    model, base = ClassifierModel.load(classifier), ScoreModel.load(run)
    assert (model.event_shape, model.classes, model.transform) == ((2,), 2, base.transform)
    assert model.classifier.sde == base.denoiser.sde
    found = "10,000 samples of 2, real numbers; 2 classes"
    assert model.about == {"data": "two_moons", "found": found, "steps": 20, "batch_size": 32, "seed": 0, "step": 20}
    kept, held = split(two_moons(), 0.1, seed=0)
    assert model.classifier.sigma_data == pytest.approx(transformed_std(kept, base.transform), rel=1e-6)
    rows = table(classifier / "noise_levels.csv")
    sde, checks = base.denoiser.sde, Batches(held, base.transform, 32, seed=1)
    ratios = [float(row["sigma/alpha"]) for row in rows]
    assert len(rows) == 8 and ratios == sorted(ratios)
    for row in (rows[0], rows[5]):
        time = sde.knot_at(-2 * np.log(float(row["sigma/alpha"]))).time
        batches = [checks[k] for k in range(3)]
        found = [judged(model.classifier, b.x0, b.cond["label"], time, noise=b.noise) for b in batches]
        for column, name in {
            "accuracy": "correct",
            "confidence": "confidence",
            "cross_entropy": "cross_entropy",
        }.items():
            mean = float(torch.cat([getattr(part, name) for part in found]).double().mean())
            assert float(row[column]) == pytest.approx(mean, rel=1e-3)


@pytest.mark.slow
def test_an_interrupted_classifier_resumes_to_the_files_of_an_uninterrupted_one(run, tmp_path, monkeypatch, capsys):
    options = ["--save_every", 6, "--net.dropout", 0.2, "--seed", 3]
    whole = classifier_of(run, tmp_path / "whole", "two_moons", *options)
    with monkeypatch.context() as patch:
        interrupted_at(15, patch)
        arguments = ["train-classifier", run, "--data", "two_moons", "--out", tmp_path / "part", *TINY]
        assert main([str(argument) for argument in (*arguments, *options)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert ClassifierModel.load(tmp_path / "part").about["step"] == 12
    classifier_of(run, tmp_path / "part", "two_moons", *options, "--resume", "true")
    for name in ("config.json", "model.safetensors", state_after(20), "loss.csv", "noise_levels.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (whole / name).read_bytes(), name


def test_samples_by_a_classifier_are_those_of_the_api(run, classifier, tmp_path, capsys):
    common = ["sample", run, "--seeds", "0-4", "--steps", 3, "--out", tmp_path / "x.npz", "--label", 1]
    model, by = ScoreModel.load(run), ClassifierModel.load(classifier)
    plain = model.sample(seeds=range(5), steps=3, batch_size=64)
    for options, weight in (([], 1.0), (["--guidance", 2.5], 2.5)):
        scorefield(*common, "--classifier", classifier, *options)
        wanted = by.guide(model, 1, weight).sample(seeds=range(5), steps=3, batch_size=64)
        assert torch.equal(arrays(tmp_path / "x.npz"), wanted) and not torch.allclose(wanted, plain)
    scorefield("info", classifier)
    said = capsys.readouterr().out
    assert "MLPClassifier, event_shape=[2]" in said and "SubVP" in said and "classes      2" in said


def test_samples_by_classifier_free_guidance_are_those_of_the_api(run, tmp_path):
    common = ["sample", run, "--seeds", "0-4", "--steps", 6, "--out", tmp_path / "x.npz", "--label", 1]
    model = ScoreModel.load(run)
    for options, arguments in (
        (["--guidance", 2.5], (2.5,)),
        (["--guidance", 2.5, "--guidance_interval", "[0.1,1.5]"], (2.5, (0.1, 1.5))),
    ):
        scorefield(*common, *options)
        guided = model.guided(ClassifierFree(model.given(1), model.given(), *arguments))
        wanted = guided.sample(seeds=range(5), steps=6, batch_size=64)
        assert torch.equal(arrays(tmp_path / "x.npz"), wanted)
    scorefield(*common, "--guidance", 1)
    assert torch.equal(arrays(tmp_path / "x.npz"), model.sample(seeds=range(5), steps=6, label=1, batch_size=64))


@pytest.mark.slow
def test_classes_go_by_their_names_and_further_conditions_are_kept(tmp_path):
    generator = np.random.default_rng(0)
    kinds = ["cat", "ant", "dog"] * 20
    with (tmp_path / "data.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("x", "y", "size", "kind"))
        writer.writerows((*row, kind) for row, kind in zip(generator.normal(size=(60, 3)), kinds, strict=True))
    reading = ["--reading.table.label", "kind", "--reading.table.cond", "[size]"]
    run = trained(tmp_path / "run", tmp_path / "data.csv", *reading, "--net.cond_features", 1)
    classifier = classifier_of(run, tmp_path / "classifier", tmp_path / "data.csv", *reading)
    by, model = ClassifierModel.load(classifier), ScoreModel.load(run)
    assert by.class_names == model.class_names == ("ant", "cat", "dog")
    np.save(tmp_path / "sizes.npy", generator.normal(size=(3, 1)))
    sizes = torch.from_numpy(np.load(tmp_path / "sizes.npy"))
    common = ["sample", run, "--seeds", "0-2", "--steps", 3, "--out", tmp_path / "x.npz", "--label", "cat"]
    common += ["--cond", tmp_path / "sizes.npy", "--guidance", 3]
    scorefield(*common, "--classifier", classifier)
    wanted = by.guide(model, 1, 3.0, cond=sizes).sample(seeds=range(3), steps=3, batch_size=64)
    assert torch.equal(arrays(tmp_path / "x.npz"), wanted)
    scorefield(*common)
    guided = model.guided(ClassifierFree(model.given(1, cond=sizes), model.given(cond=sizes), 3.0))
    assert torch.equal(arrays(tmp_path / "x.npz"), guided.sample(seeds=range(3), steps=3, batch_size=64))


def test_the_usual_classifier_suits_the_shape():
    for shape, kind in (((2,), MLPClassifier), ((1, 8, 8), MLPClassifier), ((3, 16, 16), UNetClassifier)):
        with seeded(0):
            net = usual_classifier(ArrayDataset(torch.zeros(2, *shape), torch.arange(2)))
        assert type(net) is kind and net.classes == 2


@pytest.mark.slow
def test_digits_are_of_the_class_that_was_asked_for_by_either_guidance(tmp_path):
    """Judged by an SVC fitted on real digits. Without guidance a tenth of the samples are of the class by chance: fewer
    than 60 of 300, but at a rate of 1e-6."""
    common = ["--data", "digits", "--held_out", 0.2, "--device", "cpu", "--optimisation.lr", 3e-3]
    for name, labels in (("labelled", "true"), ("unlabelled", "false")):
        scorefield("train", *common, "--steps", 1500, "--use_labels", labels, "--out", tmp_path / name)
    scorefield("train-classifier", tmp_path / "unlabelled", *common, "--steps", 600, "--out", tmp_path / "classifier")
    rows = split(digits(), 0.2, 0)[0].rows(torch.arange(1400))
    judge = SVC(C=10.0).fit(rows.x.flatten(1).numpy(), rows.cond["label"].numpy())

    def agreement(run, *options):
        right = 0
        for label in range(10):
            given = [str(label) if word == "LABEL" else word for word in options]
            seeds = f"{30 * label}-{30 * label + 29}"
            scorefield("sample", tmp_path / run, "--seeds", seeds, "--out", tmp_path / "x.npz", *given)
            right += int((judge.predict(arrays(tmp_path / "x.npz").flatten(1).numpy()) == label).sum())
        return right / 300

    guided = ["--label", "LABEL", "--classifier", tmp_path / "classifier", "--guidance"]
    assert agreement("unlabelled") < 0.2
    assert agreement("unlabelled", *guided, 1) > 0.7
    assert agreement("unlabelled", *guided, 3) > 0.95
    free = agreement("labelled", "--label", "LABEL", "--guidance", 2)
    assert free > 0.98
