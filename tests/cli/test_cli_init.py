"""Fine-tuning: a class keeps its meaning, whatever its number in the new data, and a number its unit."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.networks import NETWORKS, awake, inputs, make
from test_cli import scorefield, trained
from test_cli_memory import GENERATOR, fails, short, stirred, write_table  # noqa: F401

from scorefield import EDMPrecond, Energy, Preconditioned, ScoreModel
from scorefield._describe import build, describe
from scorefield.cli import main
from scorefield.cli.parts.tuning import extend
from scorefield.data import ArrayDataset, digits
from scorefield.model import stored
from scorefield.nn import MLP, Potential, UNet, seeded
from scorefield.processes import VP

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("default::UserWarning")]

KINDS = {"cat": 0.0, "dog": 3.0, "fox": 6.0}
LABEL = ["--reading.table.label", "kind"]


def animals(path, kinds, count=20, scale=1.0):
    rows = [
        (*(scale * (KINDS.get(kind, 9.0) + GENERATOR.normal(size=3))), kind) for kind in kinds for _ in range(count)
    ]
    return write_table(path, ("a", "b", "c", "kind"), rows)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run on cats, dogs and foxes."""
    folder = tmp_path_factory.mktemp("base")
    run = trained(folder / "run", animals(folder / "d.csv", KINDS), *LABEL, "--steps", 2)
    return run, stirred(run)


def tuned(init, data, out, *options):
    """Another run from a model, of one step of no size."""
    common = ["--init", init, "--device", "cpu", "--batch_size", 32, "--steps", 1, "--optimisation.lr", 1e-12]
    scorefield("train", "--data", data, "--out", out, *common, *options)
    return ScoreModel.load(out)


def drawn(model, name=None, names=None):
    label = None if name is None else (names or model.class_names).index(name)
    return model.sample(seeds=range(3), steps=3, label=label)


@pytest.mark.parametrize("kinds", [("dog", "fox"), ("fox",), ("fox", "cat", "dog"), ("cat", "dog", "fox")])
def test_a_class_keeps_its_meaning(base, kinds, tmp_path, capsys):
    """Mutants: classes by their numbers in the new data; the old numbers with the new names."""
    run, model = base
    new = tuned(run, animals(tmp_path / "d.csv", kinds), tmp_path / "run")
    for kind in kinds:
        torch.testing.assert_close(drawn(new, kind), drawn(model, kind), rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn(new), drawn(model), rtol=0, atol=1e-5)
    missing = [kind for kind in KINDS if kind not in kinds]
    said = capsys.readouterr().err
    assert (f"has the class {', '.join(missing)}, which stays as the model knows it" in said) == bool(missing)
    scorefield("sample", tmp_path / "run", "--label", "cat", "--seeds", 0, "--steps", 1, "--out", tmp_path / "x.npz")


def test_new_classes_begin_as_any_class_and_are_said(base, tmp_path, capsys):
    """Mutants: new classes in the alphabet's order, which moves the old ones; another class's vector for a new one."""
    run, model = base
    data = animals(tmp_path / "d.csv", ("ant", "dog", "yak"))
    new = tuned(run, data, tmp_path / "run")
    assert f"new to the model of {run}: ant, yak" in capsys.readouterr().out
    for kind in ("cat", "dog"):
        torch.testing.assert_close(drawn(new, kind), drawn(model, kind), rtol=0, atol=1e-5)
    for kind in ("ant", "yak"):
        torch.testing.assert_close(drawn(new, kind), drawn(model), rtol=0, atol=1e-5)
    again = tuned(tmp_path / "run", animals(tmp_path / "e.csv", ("yak", "bee")), tmp_path / "again")
    assert again.class_names == ("cat", "dog", "fox", "ant", "yak", "bee")
    words = ["evaluate", tmp_path / "run", "--data", data, "--extractor", "Pixels", "--out", tmp_path / "report"]
    scorefield(*words, "--effort.samples", 50, "--effort.steps", 2, "--effort.calls", "[]", "--effort.likelihoods", 0)
    scorefield(
        *("train-classifier", tmp_path / "run", "--data", data, "--steps", 1, "--batch_size", 32),
        *("--net", "MLPClassifier", "--net.features", 8, "--out", tmp_path / "classifier"),
    )
    scorefield(
        *("sample", tmp_path / "run", "--classifier", tmp_path / "classifier", "--label", "yak", "--seeds", 0),
        *("--steps", 1, "--out", tmp_path / "x.npz"),
    )
    fails("sample", tmp_path / "run", "--classifier", tmp_path / "classifier", "--label", "fox", "--seeds", 0)


@pytest.mark.parametrize("name", [name for name, (_, arguments, *_) in NETWORKS.items() if "classes" in arguments])
def test_networks_take_further_classes(name):
    """What they knew they answer as before, and they are saved as what they have become."""
    net = make(name, torch.float32)
    x, given = inputs(name, dtype=torch.float32)
    model = Preconditioned(net, VP(), EDMPrecond(1.0))
    before = net(x, **given)
    if name == "edm2":
        with pytest.raises(ValueError, match="EDM2UNet cannot take classes that it does not know"):
            extend(model, 5)
        return
    extend(model, 5)
    assert torch.equal(net(x, **given), before)
    known = {**given, "label": torch.full((len(x),), 4)}, {**given, "label": torch.full((len(x),), -1)}
    assert torch.equal(*(net(x, **some) for some in known))
    with seeded(1):
        twin = build(describe(net), {cls.__name__: cls for cls in (MLP, UNet, *stored._own_classes())})
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x, **known[0]), net(x, **known[0]))


def test_an_energy_takes_further_classes():
    with seeded(0):
        model = Energy(Potential(awake(MLP((2,), 3, features=8, blocks=1))), VP(), EDMPrecond(1.0))
    extend(model, 4)
    assert describe(model)["net"]["net"]["classes"] == model.net.classes == 4
    x, t = torch.ones(2, 2), torch.tensor(0.5).double()
    torch.testing.assert_close(model(x, t, label=torch.tensor([3, 3])), model(x, t, label=torch.tensor([-1, -1])))


def arrays(path, labels, **more):
    np.savez(path, x=GENERATOR.normal(size=(len(labels), 3)).astype("f4"), labels=labels, **more)
    return path


def test_classes_without_names_are_taken_by_their_numbers_if_they_are_as_many(base, tmp_path, capsys):
    run, model = base
    numbers = np.arange(30) % 3
    new = tuned(run, arrays(tmp_path / "n.npz", numbers), tmp_path / "a")
    assert "n.npz have no names: those of" in capsys.readouterr().out
    assert new.class_names == model.class_names
    torch.testing.assert_close(drawn(new, "dog"), drawn(model, "dog"), rtol=0, atol=1e-5)
    unnamed = trained(tmp_path / "unnamed", arrays(tmp_path / "u.npz", numbers), "--steps", 1)
    named = tuned(unnamed, animals(tmp_path / "d.csv", KINDS), tmp_path / "b", *LABEL)
    assert named.class_names == ("cat", "dog", "fox")
    assert f"{unnamed} have no names" in capsys.readouterr().out
    two = arrays(tmp_path / "two.npz", np.arange(30) % 2)
    for init in (run, unnamed):
        fails("train", "--init", init, "--data", two, "--out", tmp_path / "c")
        assert re.search(r"has 3 classes, .*two.npz has 2, and if one side has no names", capsys.readouterr().err)
    plain = trained(tmp_path / "plain", "two_moons", "--use_labels", "false", "--steps", 1)
    fails("train", "--init", plain, "--data", "two_moons", "--out", tmp_path / "c")
    assert "knows no classes, two_moons has 2" in capsys.readouterr().err
    assert not tuned(run, two, tmp_path / "d", "--use_labels", "false").classes


@pytest.mark.parametrize(("scale", "shift", "status"), [(99, 0, 2), (1, 99, 2), (0.01, 0, 0), (2, 1, None)])
def test_data_in_other_units_are_refused_or_said(base, scale, shift, status, tmp_path, capsys):
    """Millimetres for metres, degrees on another scale; all alike is said, and a little more or less is taken.

    Mutants: a check of the mean alone, or of the standard deviation alone.
    """
    run, model = base
    z = GENERATOR.normal(size=(60, 3))
    z = scale * (z - z.mean(0)) / z.std(0) + shift
    np.save(tmp_path / "x.npy", model.transform.inverse(torch.tensor(z)).numpy())
    words = ["train", "--init", run, "--data", tmp_path / "x.npy", "--out", tmp_path / "run", "--steps", 1]
    words += ["--use_labels", "false", "--batch_size", 32, "--device", "cpu"]
    assert main([str(word) for word in words]) == (status or 0)
    assert ("number 0 of the data is" in capsys.readouterr().err) == (status is not None)
    assert (tmp_path / "run").exists() == (status != 2)


def test_conditions_in_other_units_and_of_other_numbers_are_refused(tmp_path, capsys):
    """The model keeps its units, in which the new data's conditions are taken."""
    x, t = GENERATOR.normal(size=(60, 3)).astype("f4"), 8 * GENERATOR.normal(size=(60, 1))

    def data(name, **arrays):
        np.savez(tmp_path / name, x=x, **arrays)
        return tmp_path / name

    run = trained(tmp_path / "run", data("k.npz", cond=280 + t), "--net.cond_features", 1, "--steps", 1)
    model = stirred(run)
    new = tuned(run, data("warm.npz", cond=290 + t), tmp_path / "warm")
    assert new.cond_transform == model.cond_transform
    cond = torch.tensor([[285.0]])
    wanted = model.sample(seeds=range(2), steps=2, cond=cond)
    torch.testing.assert_close(new.sample(seeds=range(2), steps=2, cond=cond), wanted, rtol=0, atol=1e-5)
    for name, cond, message in (
        ("celsius", 7 + t, "number 0 of the conditions is -3[0-9.]+ "),
        ("two", np.concatenate((280 + t, t), 1), r"has 1 conditions, the data have those of shape \(2,\)"),
        ("none", None, "has 1 conditions, the data have none"),
    ):
        some = data(f"{name}.npz", **({} if cond is None else {"cond": cond}))
        fails("train", "--init", run, "--data", some, "--out", tmp_path / "x")
        assert re.search(message, capsys.readouterr().err), name


def test_events_and_values_of_another_kind_are_refused_by_name(base, tmp_path, capsys):
    run, _ = base
    np.save(tmp_path / "four.npy", GENERATOR.normal(size=(30, 4)))
    np.save(tmp_path / "bytes.npy", GENERATOR.integers(0, 256, (30, 3)).astype("u1"))
    np.save(tmp_path / "wide.npy", GENERATOR.integers(0, 256, (30, 1, 8, 8)).astype("u1"))
    small = trained(tmp_path / "digits", "digits", "--steps", 1)
    for init, name, message in (
        (run, "four.npy", r"of events of shape \(3,\), the data have \(4,\): train anew"),
        (run, "bytes.npy", "values that are real numbers, the data have integers from 0 to 255"),
        (small, "wide.npy", "integers from 0 to 16, the data have integers from 0 to 255"),
    ):
        fails("train", "--init", init, "--data", tmp_path / name, "--use_labels", "false", "--out", tmp_path / "x")
        assert re.search(message, capsys.readouterr().err)


def test_a_model_of_centres_is_trained_on_at_the_centres(tmp_path):
    np.savez(tmp_path / "d.npz", x=(digits().x[:60] // 8).numpy())
    common = ["--reading.levels", 3]
    run = trained(tmp_path / "run", tmp_path / "d.npz", *common, "--centred", "true", "--steps", 1)
    assert ScoreModel.load(run).about["centred"] is True
    assert tuned(run, tmp_path / "d.npz", tmp_path / "a").about["centred"] is True
    assert tuned(run, tmp_path / "d.npz", tmp_path / "b", "--centred", "false").about["centred"] is False
    assert ScoreModel.load(trained(tmp_path / "c", "digits", "--steps", 1)).about["centred"] is False


def test_a_label_of_the_data_set_is_what_the_model_is_asked_for(base):
    """The numbers of `renumbered` classes are those of the model's table."""
    source = ArrayDataset(torch.zeros(3, 3), torch.tensor([0, 1, 1]), class_names=("fox", "eel"))
    found = source.renumbered(("cat", "dog", "fox", "eel"))
    assert found.rows(torch.arange(3)).cond["label"].tolist() == [2, 3, 3] and found.classes == 4
