"""What a model is stays with it: units of conditions, how its data were read, names of its classes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from helpers.formats import hdf5
from helpers.networks import awake
from PIL import Image
from scipy.io import wavfile
from test_cli import TINY, scorefield, table, trained

from scorefield import Optimisation, ScoreModel
from scorefield.cli import main
from scorefield.data import Affine, digits, load_arrays
from scorefield.model.stored import read_about

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("default::UserWarning")]

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def short():
    """Without pictures of losses, which take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefield.cli.parts.running.save_figure", lambda figure, out: None)
        patch.setattr("scorefield.plot.loss_curve", lambda *values: None)
        yield


def fails(*arguments):
    """Runs a command that must end with a message."""
    assert main([str(argument) for argument in arguments]) == 2


def write_table(path, names, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
    return path


def stirred(run):
    """The model of a run with weights that let everything have an effect, written back."""
    model = ScoreModel.load(run)
    awake(model.denoiser.net)
    model.save(run)
    return model


def nats(run, data, out, *options):
    scorefield("likelihood", run, "--data", data, "--steps", 2, "--limit", 6, "--out", out / "l.csv", *options)
    return [float(row["nats"]) for row in table(out / "l.csv")]


# conditions in their own units


@pytest.fixture(scope="module")
def kelvin(tmp_path_factory):
    """A run on data of three numbers with a temperature and a year."""
    folder = tmp_path_factory.mktemp("kelvin")
    cond = np.stack((280 + 8 * GENERATOR.normal(size=60), GENERATOR.integers(1990, 2030, 60)), 1)
    np.savez(folder / "d.npz", x=GENERATOR.normal(size=(60, 3)).astype("f4"), cond=cond)
    run = trained(folder / "run", folder / "d.npz", "--net.cond_features", 2, "--steps", 2)
    return run, folder / "d.npz", stirred(run)


def test_a_run_standardises_its_conditions_by_the_rows_that_it_is_trained_on(kelvin):
    run, data, model = kelvin
    from scorefield.data import split

    kept, _ = split(load_arrays(data), 0.1, 0)
    assert model.cond_transform == Affine.of_conditions(kept)
    checkpoint = next((run / "checkpoints").iterdir()) / "state.safetensors"
    assert b"cond_transform" in checkpoint.read_bytes()[:4096]  # a resumed run must have the same


def test_a_run_of_other_units_has_the_same_losses(tmp_path):
    """Mutants: batches, or held-out batches, of conditions as they are."""
    x, c = GENERATOR.normal(size=(60, 3)).astype("f4"), GENERATOR.normal(size=(60, 2))
    found = []
    for name, cond in (("plain", c), ("kelvin", np.array([280, 101325]) + np.array([8, 0.5]) * c)):
        np.savez(tmp_path / f"{name}.npz", x=x, cond=cond)
        options = ["--net.cond_features", 2, "--steps", 6, "--optimisation.warmup", 0, "--optimisation.lr", 0.02]
        rows = table(trained(tmp_path / name, tmp_path / f"{name}.npz", *options) / "loss.csv")
        found.append([float(row[key]) for row in rows for key in ("loss", "validation_loss") if row[key]])
    assert len(found[0]) == 7 and found[1] == pytest.approx(found[0], rel=1e-3)


def test_commands_take_conditions_in_their_units(kelvin, tmp_path, capsys):
    """Whole numbers, one row for all, and the data's own."""
    run, data, model = kelvin
    np.save(tmp_path / "one.npy", np.array([[290, 2015]]))
    scorefield(
        "sample", run, "--seeds", "0-4", "--steps", 3, "--cond", tmp_path / "one.npy", "--out", tmp_path / "x.npz"
    )
    wanted = model.sample(seeds=range(5), steps=3, batch_size=64, cond=torch.tensor([[290.0, 2015.0]]))
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], wanted.numpy())
    rows = load_arrays(data).rows(torch.arange(6))
    wanted = model.log_prob(rows.x, steps=2, batch_size=64, cond=rows.cond["cond"]).nats
    assert nats(run, data, tmp_path) == pytest.approx(wanted.tolist(), rel=1e-6)
    assert "warning" not in capsys.readouterr().err
    np.save(tmp_path / "y.npy", np.zeros((1, 3)))
    common = ["--operator", "Identity", "--y", tmp_path / "y.npy", "--sigma", 0.5, "--samples", 3, "--steps", 2]
    scorefield("invert", run, *common, "--cond", tmp_path / "one.npy", "--out", tmp_path / "a")
    np.save(tmp_path / "three.npy", np.array([[290.0, 2015.0]] * 3))
    scorefield("invert", run, *common, "--cond", tmp_path / "three.npy", "--out", tmp_path / "b")
    found = [np.load(tmp_path / name / "samples.npz")["x"] for name in "ab"]
    assert np.array_equal(*found)
    np.save(tmp_path / "other.npy", np.array([[260.0, 1995.0]]))
    scorefield("invert", run, *common, "--cond", tmp_path / "other.npy", "--out", tmp_path / "c")
    assert not np.allclose(np.load(tmp_path / "c" / "samples.npz")["x"], found[0], atol=1e-3)


@pytest.mark.parametrize(
    ("values", "status", "message"),
    [
        ([[17.0, 2015.0]], 0, "warning: number 0 of cond is 17 where the training data have 2[78]"),
        ([[290.0, 2015.0]] * 2, 2, "one row for each of 3 samples, or one row for all; got shape"),
        ([[290.0]], 2, r"cond of shape \(n, 2\); got \(1, 1\)"),
        ([[np.nan, 2015.0]], 2, "1 values that are NaN"),
    ],
)
def test_conditions_that_cannot_be_meant_are_said(kelvin, values, status, message, tmp_path, capsys):
    import re

    np.save(tmp_path / "c.npy", np.array(values))
    arguments = [
        "sample",
        kelvin[0],
        "--seeds",
        "0-2",
        "--steps",
        1,
        "--cond",
        tmp_path / "c.npy",
        "--out",
        tmp_path / "x.npz",
    ]
    assert main([str(word) for word in arguments]) == status
    assert re.search(message, capsys.readouterr().err)


# how data were read


def pictures(folder, count=12, size=(12, 24), mode="L", kinds=("",)):
    for k in range(count):
        place = folder / kinds[k % len(kinds)]
        place.mkdir(parents=True, exist_ok=True)
        values = GENERATOR.integers(0, 256, (*size, *([] if mode == "L" else [3])), dtype=np.uint8)
        Image.fromarray(values).save(place / f"{k}.png")
    return folder


PADDED = ["--reading.images.size", 6, "--reading.images.fit", "pad"]


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("padded")
    pictures(folder / "data", mode="RGB", kinds=("a", "b"))
    run = trained(folder / "run", folder / "data", *PADDED, "--reading.images.colour", "grey", "--steps", 2)
    stirred(run)
    return run, folder / "data"


def test_pictures_are_read_as_in_training(padded, tmp_path, capsys):
    """Size, fit and colour without a word; what is told again as it was is no news, in whichever form.

    Mutants: a reading that forgets the fit, or takes what was not told for told.
    """
    run, data = padded
    wanted = nats(run, data, tmp_path, *PADDED, "--reading.images.colour", "grey")
    for options in ([], PADDED[:2], ["--reading.images.size", "[6,6]"], ["--reading.images.fit", "pad"]):
        assert nats(run, data, tmp_path, *options) == wanted
    scorefield("encode", run, "--data", data, "--steps", 1, "--limit", 2, "--out", tmp_path / "z.npz")
    assert np.load(tmp_path / "z.npz")["latents"].shape == (2, 1, 6, 6)
    scorefield("info", run)
    said = capsys.readouterr()
    assert "size [6, 6], fit pad, colour grey" in said.out and "warning" not in said.err


@pytest.mark.parametrize("from_file", [False, True])
def test_what_is_told_otherwise_is_said(padded, from_file, tmp_path, capsys):
    """Also where it is the default of all data, and from a file of options."""
    run, data = padded
    if from_file:
        (tmp_path / "o.yaml").write_text("reading: {images: {fit: crop}}\n")
    options = ["--config", tmp_path / "o.yaml"] if from_file else ["--reading.images.fit", "crop"]
    other = nats(run, data, tmp_path, *options)
    assert "warning: --reading.images.fit crop: the model's own data were read with pad" in capsys.readouterr().err
    assert other != nats(run, data, tmp_path)


def test_a_report_takes_the_data_of_the_training_for_these(padded, tmp_path, capsys):
    run, data = padded
    words = ["--out", tmp_path / "report", "--extractor", "Pixels", "--effort.samples", 50]
    fails("evaluate", run, "--data", data, *words)
    assert "sets to compare have at least 6 rows; got 11 and 1" in capsys.readouterr().err  # it is the data
    fails("evaluate", run, "--data", data, "--reading.images.fit", "stretch", *words)
    said = capsys.readouterr().err
    assert "warning: --reading.images.fit stretch" in said and "is not what the model was trained on" in said


def test_a_run_goes_on_and_another_begins_with_data_read_alike(padded, tmp_path, capsys):
    run, data = padded
    common = ["train", "--data", data, "--device", "cpu", "--batch_size", 32, "--optimisation.lr", 1e-12]
    scorefield(*common, "--init", run, "--steps", 1, "--out", tmp_path / "tuned")
    scorefield(*common, "--init", run, "--steps", 2, "--resume", "true", "--out", tmp_path / "tuned")
    assert read_about(tmp_path / "tuned")["reading"] == read_about(run)["reading"]
    assert ScoreModel.load(tmp_path / "tuned").event_shape == (1, 6, 6)
    plain = [*common[:-2], "--net", "MLP", "--net.features", 8, "--out", tmp_path / "plain"]
    scorefield(*plain, *PADDED, "--reading.images.colour", "grey", "--steps", 1)
    scorefield(*plain, "--steps", 2, "--resume", "true")
    assert read_about(tmp_path / "plain")["step"] == 2
    words = [
        "train-classifier",
        run,
        "--data",
        data,
        "--steps",
        1,
        "--batch_size",
        32,
        "--out",
        tmp_path / "classifier",
    ]
    scorefield(*words, "--net", "MLPClassifier", "--net.features", 8)
    assert "warning" not in capsys.readouterr().err


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path, capsys):
    """In another order, with further columns, and without the classes where these are not asked for."""
    values = GENERATOR.normal(size=(30, 3))
    kinds = ["x", "y", "z"] * 10
    rows = [(*row, kind) for row, kind in zip(values.tolist(), kinds, strict=True)]
    first = write_table(tmp_path / "first.csv", ("a", "b", "t", "kind"), rows)
    reading = ["--reading.table.label", "kind", "--reading.table.cond", "[t]"]
    run = trained(tmp_path / "run", first, *reading, "--net.cond_features", 1, "--steps", 1)
    stirred(run)
    order = [("t", "more", "b", "a"), ("more", "b", "a", "t")]
    columns = {"a": values[:, 0], "b": values[:, 1], "t": values[:, 2], "more": np.full(30, 9.0)}
    wanted = nats(run, first, tmp_path)
    for names in order:
        other = write_table(
            tmp_path / "other.csv", names, zip(*(columns[name].tolist() for name in names), strict=True)
        )
        assert nats(run, other, tmp_path) == wanted
    fails("likelihood", run, "--data", other, "--use_labels", "true", "--out", tmp_path / "l.csv")
    assert "has no column kind" in capsys.readouterr().err
    swapped = nats(run, first, tmp_path, "--reading.table.columns", "[b,a]")
    assert swapped != wanted
    assert "--reading.table.columns [b,a]: the model's own data were read with [a,b]" in capsys.readouterr().err


def test_recordings_of_another_rate_are_refused_by_a_model(tmp_path, capsys):
    for name, rate in (("data", 8000), ("other", 16000)):
        (tmp_path / name).mkdir()
        wavfile.write(tmp_path / name / "x.wav", rate, GENERATOR.integers(-999, 999, 400).astype(np.int16))
    run = trained(tmp_path / "run", tmp_path / "data", "--reading.audio.length", 20, "--steps", 1)
    assert len(nats(run, tmp_path / "data", tmp_path)) == 6
    fails("likelihood", run, "--data", tmp_path / "other", "--out", tmp_path / "l.csv")
    assert "has 16000 Hz" in capsys.readouterr().err


def test_levels_are_remembered_for_arrays_and_left_out_elsewhere(tmp_path, capsys):
    values = digits().x[:60].numpy()
    np.save(tmp_path / "x.npy", values.astype(np.int64))
    run = trained(tmp_path / "run", tmp_path / "x.npy", "--reading.levels", 17, "--steps", 1)
    wanted = nats(run, tmp_path / "x.npy", tmp_path)
    for k, picture in enumerate(values[:6, 0]):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{k}.png")
    assert nats(run, tmp_path / "pictures", tmp_path) == wanted
    np.save(tmp_path / "x.npy", values.astype(np.int64) + 1)
    fails("likelihood", run, "--data", tmp_path / "x.npy", "--out", tmp_path / "l.csv")
    assert "wanted integers from 0 to 16; got 1 to 17" in capsys.readouterr().err


def test_the_array_and_its_levels_are_remembered(tmp_path, capsys):
    """Mutants: either is forgotten; the name of the array is asked of a file that has none."""
    values = digits().x[:60].numpy()
    for name in ("first", "second"):
        hdf5(tmp_path / f"{name}.h5", pictures=values.astype("i8"), mean=values.mean(0))
    fails("train", "--data", tmp_path / "first.h5", "--out", tmp_path / "run")
    assert "choose one: --reading.array" in capsys.readouterr().err
    options = ("--reading.array", "pictures", "--reading.levels", 17, "--steps", 1)
    run = trained(tmp_path / "run", tmp_path / "first.h5", *options)
    assert "pictures of HDF5, int64; left: the arrays mean 1 x 8 x 8 float64" in capsys.readouterr().err
    wanted = nats(run, tmp_path / "first.h5", tmp_path)
    assert nats(run, tmp_path / "second.h5", tmp_path) == wanted
    np.save(tmp_path / "x.npy", values.astype("i8"))
    assert nats(run, tmp_path / "x.npy", tmp_path) == wanted


def test_a_model_that_needs_labels_takes_those_of_the_data(tmp_path, capsys):
    run = trained(tmp_path / "run", "two_moons", "--label_dropout", 0, "--steps", 1)
    stirred(run)
    assert nats(run, "two_moons", tmp_path) == nats(run, "two_moons", tmp_path, "--use_labels", "true")
    fails("likelihood", run, "--data", "checkerboard", "--out", tmp_path / "l.csv")
    assert "trained with labels alone: the data checkerboard have no labels" in capsys.readouterr().err


def test_what_is_said_of_reading_in_a_damaged_file_is_not_believed(padded, tmp_path, capsys):
    run, data = padded
    for damage in ({"class": "os.system"}, {"class": "Images"}, {"class": "Reading", "images": 3}, 7):
        model = ScoreModel.load(run)
        model.about["reading"] = damage
        model.save(tmp_path / "run")
        fails("likelihood", tmp_path / "run", "--data", data, "--out", tmp_path / "l.csv")
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_measured_picture_is_read_as_those_of_the_training(padded, tmp_path, capsys):
    """Its fit and colour; one that is so already stays, and a small one of another operator too."""
    run, data = padded
    photo = min((data / "a").iterdir())
    common = ["invert", run, "--samples", 2, "--steps", 2, "--sigma", 0.2, "--operator"]
    scorefield(*common, "Identity", "--y", photo, "--out", tmp_path / "a")
    assert "brought to the shape (1, 6, 6)" in capsys.readouterr().out
    from scorefield.data import Colour, Fit, Images, read

    seen = read(photo.parent, images=Images(size=6, fit=Fit.pad, colour=Colour.grey), limit=1).rows(torch.arange(1)).x
    Image.fromarray(seen[0, 0].numpy()).save(tmp_path / "seen.png")
    scorefield(*common, "Identity", "--y", tmp_path / "seen.png", "--out", tmp_path / "b")
    assert "brought" not in capsys.readouterr().out
    found = [np.load(tmp_path / name / "samples.npz")["x"] for name in "ab"]
    assert np.array_equal(*found)
    Image.fromarray(seen[0, 0, ::2, ::2].numpy()).save(tmp_path / "small.png")
    scorefield(
        *common, "SuperResolution", "--operator.factor", 2, "--y", tmp_path / "small.png", "--out", tmp_path / "c"
    )
    fails(*common, "SuperResolution", "--operator.factor", 2, "--y", photo, "--out", tmp_path / "d")


# classes that no sample has


def test_classes_without_a_sample_are_named_and_not_drawn(tmp_path, capsys):
    """Numbers that are skipped. Mutant: those of the whole data instead of those that were trained on."""
    labels = np.array([0, 2] * 20 + [5])
    np.savez(tmp_path / "d.npz", x=GENERATOR.normal(size=(41, 3)).astype("f4"), labels=labels)
    out = [set(torch.randperm(41, generator=torch.Generator().manual_seed(seed))[:4].tolist()) for seed in range(40)]
    kept, held = (next(seed for seed in range(40) if (40 in out[seed]) == gone) for gone in (False, True))
    run = trained(tmp_path / "run", tmp_path / "d.npz", "--steps", 1, "--seed", kept)
    assert "no sample to train on has the class 1, 3, 4, which cannot be asked for" in capsys.readouterr().err
    for label in ("1", "4"):
        fails("sample", run, "--label", label, "--seeds", 0, "--out", tmp_path / "x.npz")
        assert f"--label {label}: the training had no sample of this class" in capsys.readouterr().err
    scorefield("sample", run, "--label", 5, "--seeds", 0, "--steps", 1, "--out", tmp_path / "x.npz")
    trained(tmp_path / "other", tmp_path / "d.npz", "--steps", 1, "--seed", held)
    assert "the class 1, 3, 4, 5, which" in capsys.readouterr().err


def test_names_without_a_sample_are_named(tmp_path, capsys):
    """A folder of recordings that cannot be read, and an empty one."""
    for kind in ("long", "lost"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for k in range(3):
            wavfile.write(tmp_path / "data" / kind / f"{k}.wav", 8000, GENERATOR.integers(-999, 999, 200).astype("i2"))
    for file in (tmp_path / "data" / "lost").iterdir():
        file.write_bytes(b"nothing")
    (tmp_path / "data" / "empty").mkdir()
    options = ["--reading.audio.length", 20, "--reading.broken", "skip", "--steps", 1]
    run = trained(tmp_path / "run", tmp_path / "data", *options)
    said = capsys.readouterr().err
    assert "lies in empty: no class" in said and "has the class lost, which" in said
    fails("sample", run, "--label", "lost", "--seeds", 0, "--out", tmp_path / "x.npz")
    fails("sample", run, "--label", "empty", "--seeds", 0, "--out", tmp_path / "x.npz")
    assert "wanted one of long, lost" in capsys.readouterr().err


# a longer run


def test_a_longer_run_says_what_its_learning_rate_does(tmp_path, capsys):
    """Mutants: a word at each resumption; the rate of another step."""
    np.save(tmp_path / "x.npy", GENERATOR.normal(size=(40, 3)))
    run = trained(tmp_path / "run", tmp_path / "x.npy", "--optimisation.warmup", 2, "--steps", 10)
    again = ["train", "--data", tmp_path / "x.npy", "--out", run, *TINY, "--resume", "true"]
    again += ["--optimisation.warmup", 2]
    capsys.readouterr()
    scorefield(*again, "--steps", 10)
    assert "learning rate" not in capsys.readouterr().out
    scorefield(*again, "--steps", 20)
    rate = Optimisation(warmup=2).rate
    out = capsys.readouterr().out
    assert (
        f"the learning rate was {rate(9, 10):.3g} in step 10" in out
        and f"goes on with {rate(10, 20):.3g} and falls" in out
    )
    assert float(table(run / "loss.csv")[10]["lr"]) == rate(10, 20)
    constant = trained(tmp_path / "constant", tmp_path / "x.npy", "--optimisation.decay", "false", "--steps", 2)
    trained(constant, tmp_path / "x.npy", "--optimisation.decay", "false", "--steps", 4, "--resume", "true")
    assert "learning rate" not in capsys.readouterr().out


# names that look like something else

WORDS = ["001", "0x10", "1_0", "12:30:00", "yes", "1e3", "null", "~", "-1", "1.0", "[a]", "{a: 1}", "#1", "a, b", "&x"]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    rows = [(*row, kind) for kind in WORDS for row in GENERATOR.normal(size=(4, 3)).tolist()]
    data = write_table(folder / "d.csv", ("a", "b", "c", "kind"), rows)
    run = trained(folder / "run", data, "--reading.table.label", "kind", "--steps", 1)
    scorefield(
        *("train-classifier", run, "--data", data, "--steps", 1, "--batch_size", 32, "--out", folder / "classifier"),
        *("--net", "MLPClassifier", "--net.features", 8),
    )
    return run, folder / "classifier", stirred(run)


@pytest.mark.parametrize("word", WORDS)
def test_classes_are_asked_for_as_they_are_written(named, word, tmp_path):
    """Mutant: `int | str` for a label, of which the parser of options makes numbers."""
    run, _, model = named
    scorefield("sample", run, "--label", word, "--seeds", "0-1", "--steps", 2, "--out", tmp_path / "x.npz")
    wanted = model.sample(seeds=range(2), steps=2, batch_size=64, label=model.class_names.index(word))
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], wanted.numpy())


@pytest.mark.parametrize("word", ["001", "null", "12:30:00"])
def test_every_command_takes_a_class_as_it_is_written(named, word, tmp_path):
    run, classifier, _ = named
    common = ["sample", run, "--label", word, "--seeds", 0, "--steps", 1, "--out", tmp_path / "x.npz", "--guidance", 2]
    scorefield(*common)
    scorefield(*common, "--classifier", classifier)
    np.save(tmp_path / "y.npy", np.zeros((1, 3)))
    scorefield(
        *("invert", run, "--label", word, "--operator", "Identity", "--y", tmp_path / "y.npy", "--sigma", 1),
        *("--samples", 1, "--steps", 1, "--out", tmp_path / "inverted"),
    )
    (tmp_path / "o.yaml").write_text(json.dumps({"label": word, "steps": 1, "seeds": "0"}))
    scorefield("sample", run, "--config", tmp_path / "o.yaml", "--out", tmp_path / "x.npz")


def test_a_name_without_quotes_in_a_file_is_explained(named, tmp_path, capsys):
    (tmp_path / "o.yaml").write_text("label: 001\n")
    with pytest.raises(SystemExit):
        main(["sample", str(named[0]), "--config", str(tmp_path / "o.yaml")])
    assert "stands in quotes" in capsys.readouterr().err
