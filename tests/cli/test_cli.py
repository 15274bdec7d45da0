"""The command line: what it writes is what the API gives, and bad input ends in one line that names it."""

from __future__ import annotations

import csv
import errno
import re
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers.networks import awake
from PIL import Image

from scorefield import (
    VE,
    Hutchinson,
    HutchPlusPlus,
    NoisePrecond,
    ScoreModel,
    TruncatedNormal,
    __version__,
    decode,
    encode,
    plot,
    solvers,
)
from scorefield._files import read_tensors
from scorefield.cli import main
from scorefield.cli.parts.building import usual_network
from scorefield.cli.parts.losses import LossLog
from scorefield.cli.parts.signals import Signals
from scorefield.data import Affine, ArrayDataset, Table, digits, read, split, two_moons
from scorefield.nn import MLP, UNet, seeded
from scorefield.solvers import EulerMaruyama, Heun
from scorefield.training import StepInfo

pytestmark = pytest.mark.usefixtures("unchecked")

RUN_FILES = {"config.json", "model.safetensors", "checkpoints", "loss.csv", "loss.png", "samples.png"}


def words(text):
    return text.split()


TINY = words("--net MLP --net.features 16 --net.blocks 1 --batch_size 32 --device cpu")


def scorefield(*arguments):
    """Runs a command that must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def trained(out, data="two_moons", *options):
    scorefield("train", "--data", data, "--out", out, *TINY, "--steps", 20, *options)
    return out


def state_after(step):
    return f"checkpoints/{step:09d}/state.safetensors"


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("moons") / "run")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("digits") / "run", "digits", "--sde", "VE", "--sde.sigma_max", 20)


# training


def test_training_writes_a_model_its_losses_and_pictures(run):
    assert {path.name for path in run.iterdir()} == RUN_FILES
    rows = table(run / "loss.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert [bool(row["validation_loss"]) for row in rows] == [False] * 19 + [True]
    assert all(0 < float(row["loss"]) < 10 and float(row["gradient_norm"]) > 0 for row in rows)
    model = ScoreModel.load(run)
    assert (model.event_shape, model.classes, model.transform.levels) == ((2,), 2, None)
    spectrum = model.about.pop("spectrum")
    assert len(spectrum) == 2 and sum(spectrum) == pytest.approx(2, rel=0.1)  # standardised, of 1000 samples
    assert model.about == {
        "data": "two_moons",
        "found": "10,000 samples of 2, real numbers; 2 classes",
        "steps": 20,
        "step": 20,
        "batch_size": 32,
        "seed": 0,
        "held_out": 0.1,
        "average": "half-life 50000 samples",
        "centred": False,
        "data_digest": two_moons().digest()[:16],
    }
    assert float(model.denoiser.net.out.weight.detach().abs().max()) > 0


def test_training_repeats_to_the_bit_and_follows_its_seed(run, tmp_path):
    trained(tmp_path / "again")
    trained(tmp_path / "other", "two_moons", "--seed", 1)
    for name in ("config.json", "model.safetensors", state_after(20), "loss.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name
        assert (tmp_path / "other" / name).read_bytes() != (run / name).read_bytes(), name


def test_the_seed_makes_the_split_the_weights_and_the_denoiser(tmp_path):
    trained(tmp_path / "run", "two_moons", "--seed", 3, "--steps", 1, "--optimisation.lr", 1e-12)
    model, (kept, _) = ScoreModel.load(tmp_path / "run"), split(two_moons(), 0.1, seed=3)
    assert model.transform == Affine.fitted(kept)
    spread = float(model.transform.forward(kept.rows(torch.arange(len(kept))).x).double().std(correction=0))
    assert model.denoiser.precond.sigma_data == pytest.approx(spread, rel=1e-6)
    with seeded(3):
        fresh = MLP((2,), 2, features=16, blocks=1)
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(model.denoiser.net.state_dict()[name], value, rtol=0, atol=1e-9)


def test_the_record_of_losses_is_read_back_up_to_a_step(tmp_path):
    log = LossLog(tmp_path / "loss.csv")
    for step in range(1, 6):
        log.add(StepInfo(step, torch.tensor(step / 4), torch.tensor(float(step)), 0.1 * step))
    log.validation += [(2, 0.5), (4, 0.375)]
    log.save()
    whole = (tmp_path / "loss.csv").read_bytes()
    again = LossLog(tmp_path / "loss.csv")
    again.load(up_to=3)
    assert (again.steps, again.losses, again.validation) == ([1, 2, 3], [0.25, 0.5, 0.75], [(2, 0.5)])
    assert again.recent() == 0.5
    complete = LossLog(tmp_path / "loss.csv")
    complete.load(up_to=5)
    complete.save()
    assert (tmp_path / "loss.csv").read_bytes() == whole
    assert (complete.rate(5), complete.rate(6), LossLog(tmp_path / "none.csv").rate(0)) == (0.5, None, None)


NEXT = StepInfo(6, torch.tensor(6.0), torch.tensor(7.0), 0.1)


@pytest.mark.parametrize(
    ("damage", "left", "why"),
    [
        (lambda lines: None, 0, "No such file"),
        (lambda lines: [b"step,loss", b"x,y"], 0, "invalid literal"),
        (lambda lines: lines[:4], 3, "ends before step 5"),
        (lambda lines: [*lines[:4], lines[4][:9]], 3, "could not convert|float"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], 2, "step 2 follows step 2"),
        (lambda lines: [*lines[:3], b"\xff\xfe", *lines[3:]], 0, "decode"),
    ],
)
def test_a_record_of_losses_that_is_lost_in_part_stops_no_training(damage, left, why, tmp_path):
    """Mutant: rows of half a line, or of steps that are there already, are taken."""
    file = tmp_path / "loss.csv"
    log = LossLog(file)
    for step in range(1, 6):
        log.add(StepInfo(step, torch.tensor(step / 4), torch.tensor(float(step)), 0.1))
    log.save()
    lines = damage(file.read_bytes().splitlines())
    file.unlink() if lines is None else file.write_bytes(b"\n".join(lines))
    again = LossLog(file)
    with pytest.warns(UserWarning, match=rf"loss.csv: lost or damaged .*({why}).*losses of steps {left + 1} to 5 are"):
        again.load(up_to=5)
    assert again.steps == [*range(1, left + 1)] and len(again.losses) == left
    again.add(NEXT)
    again.save()
    assert [int(row["step"]) for row in table(file)] == [*range(1, left + 1), 6]
    LossLog(file).load(up_to=6)  # the gap is said once


@pytest.mark.parametrize(
    "happens",
    [
        lambda file: file.unlink(),
        lambda file: file.write_text("short"),
        lambda file: file.write_bytes(file.read_bytes() + b"5"),
        lambda file: file.rename(file.with_name("kept")) and file.symlink_to(file.with_name("kept")),
    ],
)
def test_a_record_of_losses_that_somebody_touches_is_written_again(happens, tmp_path):
    """Mutant: rows are appended to whatever is there."""
    log = LossLog(tmp_path / "loss.csv")
    for step in range(1, 6):
        log.add(StepInfo(step, torch.tensor(step / 4), torch.tensor(float(step)), 0.1))
        log.save()
    whole = (tmp_path / "loss.csv").read_bytes()
    happens(tmp_path / "loss.csv")
    log.add(NEXT)
    log.save()
    assert (tmp_path / "loss.csv").read_bytes().startswith(whole) and not (tmp_path / "loss.csv").is_symlink()
    assert [int(row["step"]) for row in table(tmp_path / "loss.csv")] == [1, 2, 3, 4, 5, 6]
    kept = tmp_path / "kept"
    assert not kept.exists() or kept.read_bytes() == whole


def test_a_full_disk_leaves_no_half_row_of_losses(tmp_path, monkeypatch):
    log = LossLog(tmp_path / "loss.csv")
    log.add(StepInfo(1, torch.tensor(1.0), torch.tensor(1.0), 0.1))
    log.save()
    whole = (tmp_path / "loss.csv").read_bytes()
    log.add(StepInfo(2, torch.tensor(1.0), torch.tensor(1.0), 0.1))

    def full(handle):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space left"):
            log.save()
    assert (tmp_path / "loss.csv").read_bytes() == whole
    log.save()
    assert len(table(tmp_path / "loss.csv")) == 2


def interrupted_at(step, monkeypatch):
    """Ctrl-C arrives after a training step."""
    module = sys.modules["scorefield.cli.parts.running"]
    real = module.train

    def stopping(*arguments, **options):
        for info in real(*arguments, **options):
            yield info
            if info.step == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", stopping)


def test_an_interrupted_run_resumes_to_the_files_of_an_uninterrupted_one(tmp_path, monkeypatch, capsys):
    options = ["--save_every", 6, "--net.dropout", 0.2]
    whole = trained(tmp_path / "whole", "two_moons", *options)
    with monkeypatch.context() as patch:
        interrupted_at(15, patch)
        arguments = ["train", "--data", "two_moons", "--out", tmp_path / "part", *TINY, "--steps", 20, *options]
        assert main([str(argument) for argument in arguments]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert ScoreModel.load(tmp_path / "part").about["step"] == 12
    trained(tmp_path / "part", "two_moons", *options, "--resume", "true")
    for name in ("config.json", "model.safetensors", state_after(20), "loss.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_finished_run_goes_on_to_more_steps(run, tmp_path):
    constant = ["--optimisation.decay", "false"]  # a rate that does not depend on the number of steps
    whole = trained(tmp_path / "whole", "two_moons", *constant, "--steps", 30)
    part = trained(tmp_path / "part", "two_moons", *constant)
    trained(part, "two_moons", *constant, "--steps", 30, "--resume", "true")
    for name in ("model.safetensors", state_after(30)):
        assert (part / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same(tmp_path, capsys):
    options = ["--save_every", 5]
    whole = trained(tmp_path / "whole", "two_moons", *options)
    part = trained(tmp_path / "part", "two_moons", *options)
    (part / state_after(20)).write_bytes((part / state_after(20)).read_bytes()[:-1])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        trained(part, "two_moons", *options, "--resume", "true")
    assert "000000020: passed over" in capsys.readouterr().err
    for name in ("model.safetensors", state_after(20), "loss.csv"):
        assert (part / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_cut_into_parts_is_the_whole_one_up_to_rounding(tmp_path):
    losses = [
        [float(row["loss"]) for row in table(trained(tmp_path / str(k), "two_moons", "--accumulate", k) / "loss.csv")]
        for k in (1, 3)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_several_averages_are_saved_as_models_each(tmp_path):
    trained(tmp_path / "run", "two_moons", "--optimisation.half_lives", "[5000,5,1]")
    models = [ScoreModel.load(tmp_path / "run" / name) for name in ("", "half_life_5", "half_life_1")]
    weights = [model.denoiser.net.inp.weight.detach() for model in models]
    assert len({tuple(w.flatten().tolist()) for w in weights}) == 3


@pytest.mark.slow
def test_a_model_of_another_width_is_made_from_a_run(tmp_path, capsys):
    """Mutant: no snapshot at the last step, which 49 is no multiple for."""
    options = ["--optimisation.widths", "[0.05,0.1]", "--save_every", 15, "--steps", 49]
    run = trained(tmp_path / "run", "two_moons", *options)
    tracked = trained(tmp_path / "tracked", "two_moons", *options, "--optimisation.widths", "[0.07]")
    scorefield("average", run, "--width", 0.07, "--out", tmp_path / "new")
    assert "wrote the average of width 0.07 at step 49" in capsys.readouterr().out
    state, _ = read_tensors(tracked / state_after(49))
    model = ScoreModel.load(tmp_path / "new")
    assert model.about == {**ScoreModel.load(run).about, "step": 49, "average": "width 0.07 of the training"}
    for name, value in model.denoiser.state_dict().items():
        moved = (state[f"model.{name}"] - state[f"average.1.{name}"]).abs().max()
        assert float((value - state[f"average.1.{name}"]).abs().max()) <= 0.01 * float(moved), name
    scorefield("average", run, "--width", 0.1, "--step", 44, "--out", tmp_path / "earlier")
    assert ScoreModel.load(tmp_path / "earlier").about["step"] == 44
    for arguments, message in (
        (["--width", 0.1, "--out", run], "holds a model already"),
        (["--width", 0.001, "--out", tmp_path / "x"], "out of reach"),
    ):
        assert main([str(word) for word in ("average", run, *arguments)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_run_can_start_from_a_model(run, tmp_path):
    base = ScoreModel.load(run)
    arguments = [
        "train",
        "--data",
        "two_moons",
        "--init",
        run,
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
        "--steps",
        1,
    ]
    scorefield(*arguments, "--optimisation.lr", 1e-12, "--batch_size", 8, "--seed", 5)
    model = ScoreModel.load(tmp_path / "run")
    assert model.transform == base.transform and model.denoiser.precond == base.denoiser.precond
    for name, value in base.denoiser.state_dict().items():
        torch.testing.assert_close(model.denoiser.state_dict()[name], value, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_losses_go_to_tensorboard_and_samples_to_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path / "run", "two_moons", "--tensorboard", "true", "--sample_every", 10)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = table(tmp_path / "run" / "loss.csv")
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([float(row["loss"]) for row in rows], rel=1e-6)
    checked = [row for row in rows if row["validation_loss"]]
    assert [(e.step, e.value) for e in events.Scalars("held-out loss")] == [
        (int(row["step"]), pytest.approx(float(row["validation_loss"]), rel=1e-6)) for row in checked
    ]
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"000000010.png", "000000020.png"}
    trained(tmp_path / "run", "two_moons", "--tensorboard", "true", "--steps", 25, "--resume", "true")
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == list(range(1, 26))  # those before are not written again


def losses(folder):
    return [float(row["loss"]) for row in table(folder / "loss.csv")]


def test_a_run_whose_end_was_prevented_is_completed_by_resuming(tmp_path):
    run = trained(tmp_path / "run")
    wanted = (run / "model.safetensors").read_bytes()
    for name in ("config.json", "model.safetensors", "loss.png"):
        (run / name).unlink()
    with (run / "loss.csv").open("a") as file:
        file.write("2")  # a torn line
    trained(run, "two_moons", "--resume", "true")
    assert (run / "model.safetensors").read_bytes() == wanted
    assert {path.name for path in run.iterdir()} == RUN_FILES


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    (tmp_path / "run" / "checkpoints" / ".000000010.0123456789abcdef.part").mkdir(parents=True)
    trained(tmp_path / "run", "two_moons", "--resume", "true")
    assert ScoreModel.load(tmp_path / "run").about["step"] == 20


def test_weights_that_have_exploded_are_not_saved(tmp_path, capsys):
    options = ["--optimisation.lr", 1e30, "--optimisation.warmup", 0, "--save_every", 1]
    arguments = ["train", "--data", "two_moons", "--out", tmp_path / "run", *TINY, "--steps", 20, *options]
    assert main([str(argument) for argument in arguments]) == 2
    assert "there is no checkpoint: lower --optimisation.lr" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_wants_its_data_and_says_what_differs(tmp_path, capsys):
    generator = np.random.default_rng(0)
    x, labels = generator.normal(size=(60, 2)), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, labels=labels)
    trained(tmp_path / "run", tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", x=x, labels=(labels + 1) % 3)
    arguments = ["train", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", *TINY, "--resume", "true"]
    assert main([str(argument) for argument in arguments]) == 2
    assert "is of another run: its data was" in capsys.readouterr().err


def test_integers_are_refused_by_a_model_of_real_numbers(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.arange(20, dtype="u1").reshape(10, 2))
    assert main(["likelihood", str(run), "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "l.csv")]) == 2
    assert "holds integers, the model is of real numbers" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:the values of")
def test_the_levels_of_integers_can_be_said(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", digits().x[:200].numpy())
    trained(tmp_path / "bytes", tmp_path / "x.npz")
    assert "x.npz end at 16: if no others can occur, say --reading.levels 17" in capsys.readouterr().err
    run = trained(tmp_path / "run", tmp_path / "x.npz", "--reading.levels", 17)
    assert "end at" not in capsys.readouterr().err
    assert [ScoreModel.load(path).transform.levels for path in (tmp_path / "bytes", run)] == [256, 17]


def test_what_cannot_be_drawn_is_sampled_into_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    trained(tmp_path / "run", tmp_path / "x.npy", "--sample_every", 10)
    assert np.load(tmp_path / "run" / "samples" / "000000010.npz")["x"].shape == (16, 3)
    assert (tmp_path / "run" / "samples.npz").exists()


def test_label_dropout_and_precision_reach_the_training(tmp_path):
    plain, *others = (
        losses(trained(tmp_path / f"{k}", "two_moons", "--steps", 3, *options))
        for k, options in enumerate(
            (["--label_dropout", 0], ["--label_dropout", 0.9], ["--label_dropout", 0, "--precision", "bfloat16"])
        )
    )
    for other in others:
        assert other != plain and other == pytest.approx(plain, rel=0.5)


def test_the_first_signal_is_noted_and_the_second_ends_the_process():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
    with Signals() as signals:
        assert not signals.arrived()
        signal.raise_signal(signal.SIGINT)
        assert signals.arrived()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_classes_go_by_their_names(tmp_path, capsys):
    generator = np.random.default_rng(0)

    def points(name, kinds):
        text = "".join(f"{x},{y},{kind}\n" for kind in kinds for x, y in generator.normal(size=(20, 2)))
        (tmp_path / name).write_text("x,y,kind\n" + text)
        return tmp_path / name

    table_of = ["--reading.table.label", "kind"]
    run = trained(tmp_path / "run", points("train.csv", ("cat", "ant", "dog")), *table_of)
    model = ScoreModel.load(run)
    assert model.class_names == ("ant", "cat", "dog")
    scorefield("sample", run, "--seeds", "0-3", "--label", "cat", "--out", tmp_path / "x.npz")
    x = model.sample(seeds=range(4), label=1, batch_size=64)
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], x.numpy())
    data = points("test.csv", ("dog", "cat"))  # numbered 1 and 0 by themselves
    options = ["--data", data, *table_of, "--use_labels", "true", "--steps", 3, "--out", tmp_path / "l.csv"]
    scorefield("likelihood", run, *options)
    rows = read(data, table=Table(label="kind")).rows(torch.arange(40))
    nats = model.log_prob(rows.x, label=torch.tensor([2] * 20 + [1] * 20), steps=3, batch_size=64).nats
    assert [float(row["nats"]) for row in table(tmp_path / "l.csv")] == pytest.approx(nats.tolist(), rel=1e-5)
    for arguments, message in (
        (["likelihood", run, *options[:1], points("other.csv", ("cat", "eel")), *options[2:]], "has the classes eel"),
        (["sample", run, "--label", "eel"], "wanted one of ant, cat, dog"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert message in capsys.readouterr().err
    scorefield("info", run)
    assert "ant, cat, dog" in capsys.readouterr().out


def test_conditions_of_the_data_reach_the_usual_network(tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=generator.normal(size=(50, 3)), cond=generator.normal(size=(50, 2)))
    scorefield("train", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", "--steps", 2, "--device", "cpu")
    assert ScoreModel.load(tmp_path / "run").denoiser.net.cond_features == 2


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2,), MLP), ((1, 8, 8), MLP), ((3, 218, 178), UNet), ((1, 11025), UNet), ((1, 16, 20, 24), UNet)],
)
def test_the_usual_network_takes_any_shape(shape, kind):
    with seeded(0):
        assert type(usual_network(ArrayDataset(torch.zeros(1, *shape)))) is kind


def test_a_folder_of_pictures_is_trained_on_as_it_is(tmp_path):
    generator = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / "data" / ("cat" if k % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 12, 3)).astype("u1")).save(folder / f"{k}.png")
    options = ["--reading.images.size", "[8,12]", "--reading.images.fit", "stretch", "--steps", 2]
    trained(tmp_path / "run", tmp_path / "data", *options)
    model = ScoreModel.load(tmp_path / "run")
    assert (model.event_shape, model.classes, model.transform.levels) == ((3, 8, 12), 2, 256)
    more = [*options[:4], "--limit", 2, "--steps", 1, "--probes", 2, "--out", tmp_path / "l.csv"]
    scorefield("likelihood", tmp_path / "run", "--data", tmp_path / "data", *more)
    assert len(table(tmp_path / "l.csv")) == 2


def test_options_can_come_from_a_yaml_file(tmp_path):
    (tmp_path / "run.yaml").write_text(
        """
        data: two_moons
        steps: 4
        batch_size: 16
        device: cpu
        label_dropout: 0
        sde: {class_path: VE, init_args: {sigma_max: 12.5}}
        net: {class_path: MLP, init_args: {features: 8, blocks: 2}}
        precond: NoisePrecond
        objective: {class_path: DenoisingScoreMatching, init_args: {density: UniformLogSNR}}
        optimisation: {lr: 0.002, warmup: 2, decay: false}
        """
    )
    scorefield("train", "--config", tmp_path / "run.yaml", "--out", tmp_path / "a", "--steps", 3)
    model = ScoreModel.load(tmp_path / "a")
    assert model.denoiser.sde == VE(sigma_max=12.5) and model.denoiser.precond == NoisePrecond()
    assert (model.denoiser.net.features, model.denoiser.net.blocks) == (8, 2)
    assert [float(row["lr"]) for row in table(tmp_path / "a" / "loss.csv")] == [0.001, 0.002, 0.002]
    options = words(
        "--sde VE --sde.sigma_max 12.5 --net MLP --net.features 8 --net.blocks 2 --precond NoisePrecond "
        "--objective DenoisingScoreMatching --objective.density UniformLogSNR --label_dropout 0 "
        "--optimisation.lr 0.002 --optimisation.warmup 2 --optimisation.decay false "
        "--steps 3 --batch_size 16 --device cpu"
    )
    scorefield("train", "--data", "two_moons", "--out", tmp_path / "b", *options)
    name = state_after(3)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


MINE = '''
import math
import torch
from dataclasses import dataclass
from scorefield import GaussianSDE
from scorefield.nn import Network
from scorefield.solvers import EulerMaruyama, Solver


@dataclass(frozen=True)
class Decay(GaussianSDE):
    """An Ornstein-Uhlenbeck process.

    Args:
        rate: of decay.
    """

    rate: float = 3.0

    def alpha(self, t):
        return (-self.rate * t).exp()

    def sigma(self, t):
        return (-torch.expm1(-2 * self.rate * t)).sqrt()


class Half(Solver):
    """Euler-Maruyama by another name.

    Args:
        eta: noise.
    """

    convergence_order = 1

    def __init__(self, eta: float = 0.0):
        self.inner = EulerMaruyama(eta)

    def step(self, model, x, now, next, state, *, noise):
        return self.inner.step(model, x, now, next, state, noise=noise)


class Line(Network):
    """A linear network.

    Args:
        event_shape: of one sample.
        classes: number of them.
        bias: whether it has one.
    """

    def __init__(self, event_shape, classes: int = 0, bias: bool = True):
        super().__init__()
        self.event_shape, self.classes, self.bias = tuple(event_shape), classes, bias
        self.map = torch.nn.Linear(math.prod(event_shape), math.prod(event_shape), bias)

    def forward(self, x, noise, label=None, cond=None):
        return self.map(x.flatten(1)).reshape(x.shape)


class Forgetful(Line):
    def __init__(self, event_shape, classes: int = 0, depth: int = 3):
        super().__init__(event_shape, classes)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The user's own module."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("mine")
    del sys.modules["mine"]


def test_your_own_process_and_network_are_used_by_their_import_path(mine, tmp_path):
    options = words("--sde mine.Decay --sde.rate 4 --net mine.Line --net.bias false --steps 3 --device cpu")
    scorefield("train", "--data", "two_moons", "--out", tmp_path / "run", *options)
    model = ScoreModel.load(tmp_path / "run", types=[mine.Decay, mine.Line])
    assert model.denoiser.sde == mine.Decay(rate=4.0)
    assert set(model.denoiser.state_dict()) == {"net.map.weight"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == RUN_FILES
    own = ["--types", "[mine.Decay,mine.Line]"]
    scorefield("sample", tmp_path / "run", "--seeds", "0-2", "--steps", 3, "--out", tmp_path / "x.npz", *own)
    wanted = model.sample(seeds=range(3), steps=3, batch_size=64)
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], wanted.numpy())
    scorefield("info", tmp_path / "run", *own)
    assert main(["info", str(tmp_path / "run")]) == 2


def test_your_own_solver_is_used_by_its_import_path(mine, run, tmp_path):
    common = ["--seeds", "0-3", "--steps", 5, "--batch_size", 4]
    scorefield("sample", run, *common, "--solver", "mine.Half", "--solver.eta", 0.5, "--out", tmp_path / "mine.npz")
    wanted = ScoreModel.load(run).sample(seeds=range(4), steps=5, solver=EulerMaruyama(0.5), batch_size=4)
    assert np.array_equal(np.load(tmp_path / "mine.npz")["x"], wanted.numpy())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.random.default_rng(0).normal(size=(40, 3)), "real numbers"),
        (np.random.default_rng(0).normal(size=40).astype("f4"), "real numbers"),
        (np.random.default_rng(0).normal(size=(40, 1, 8)).astype("f4"), "real numbers"),
        (np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4)).astype("u1"), "0 to 255"),
        (np.random.default_rng(0).random((40, 5)) > 0.5, "0 to 1"),
    ],
)
def test_any_array_can_be_trained_sampled_encoded_and_has_likelihoods(values, message, tmp_path, capsys):
    data, out = tmp_path / "data.npy", tmp_path / "run"
    np.save(data, values)
    trained(out, data, "--steps", 2)
    scorefield("info", out)
    assert message in capsys.readouterr().out
    scorefield("sample", out, "--seeds", "0-2", "--steps", 2, "--out", tmp_path / "x.npz")
    x = np.load(tmp_path / "x.npz")["x"]
    assert x.shape == (3, *values.shape[1:]) and x.dtype.kind == ("f" if values.dtype.kind == "f" else "u")
    scorefield("likelihood", out, "--data", data, "--limit", 2, "--steps", 2, "--out", tmp_path / "l.csv")
    assert ("bits_per_dim" in table(tmp_path / "l.csv")[0]) == (values.dtype.kind != "f")
    scorefield("encode", out, "--data", data, "--steps", 2, "--out", tmp_path / "z.npz")
    assert np.load(tmp_path / "z.npz")["latents"].shape == values.shape


def test_conditions_in_the_data_reach_the_network(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("f4")
    np.savez(tmp_path / "data.npz", x=x, cond=x[:, :1])
    trained(tmp_path / "run", tmp_path / "data.npz", "--net.cond_features", 1)
    model = ScoreModel.load(tmp_path / "run")
    awake(model.denoiser.net)
    model.save(tmp_path / "run")
    np.save(tmp_path / "cond.npy", x[:3, :1])
    cond, files = torch.tensor(x[:3, :1]), {name: tmp_path / name for name in ("x.npz", "l.csv", "z.npz")}
    given = ["--cond", tmp_path / "cond.npy"]
    scorefield("sample", tmp_path / "run", "--seeds", "0-2", "--steps", 3, "--out", files["x.npz"], *given)
    wanted = model.sample(seeds=range(3), steps=3, batch_size=64, cond=cond)
    assert np.array_equal(np.load(files["x.npz"])["x"], wanted.numpy())
    common = ["--data", tmp_path / "data.npz", "--limit", 3, "--steps", 3]
    scorefield("likelihood", tmp_path / "run", *common, "--out", files["l.csv"])
    nats = model.log_prob(torch.tensor(x[:3]), steps=3, batch_size=64, cond=cond).nats
    assert [float(row["nats"]) for row in table(files["l.csv"])] == nats.tolist()
    scorefield("encode", tmp_path / "run", *common, "--out", files["z.npz"])
    latents = model.encode(torch.tensor(x[:3]), steps=3, cond=cond)
    assert np.allclose(np.load(files["z.npz"])["latents"], latents.numpy(), rtol=0, atol=1e-5)


# samples


def test_samples_in_an_archive_are_those_of_the_api(run, tmp_path, capsys):
    out = tmp_path / "new" / "x.npz"
    scorefield("sample", run, "--seeds", "5,0-2,7", "--steps", 4, "--label", 1, "--out", out)
    assert "wrote 5 samples" in capsys.readouterr().out
    wanted = ScoreModel.load(run).sample(seeds=[5, 0, 1, 2, 7], steps=4, label=1, batch_size=64)
    assert np.array_equal(np.load(out)["x"], wanted.numpy())
    scorefield("sample", run, "--seeds", "7", "--steps", 4, "--label", 1, "--out", out)
    assert np.array_equal(np.load(out)["x"], wanted[4:].numpy())
    assert [path.name for path in out.parent.iterdir()] == ["x.npz"]


def test_a_solver_with_its_arguments_can_be_chosen(run, tmp_path):
    scorefield("sample", run, "--seeds", "0-3", "--steps", 4, "--solver", "Heun", "--out", tmp_path / "x.npz")
    wanted = ScoreModel.load(run).sample(seeds=range(4), steps=4, solver=Heun(), batch_size=64)
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], wanted.numpy())


@pytest.mark.parametrize(
    "name", ["DDIM", "Ancestral", "DPMSolverPP", "UniPC", "ExponentialAdams", "RK4", "EulerMaruyama"]
)
def test_every_solver_is_known_by_its_name(name, run, tmp_path):
    scorefield("sample", run, "--seeds", "0-3", "--steps", 4, "--solver", name, "--out", tmp_path / "x.npz")
    wanted = ScoreModel.load(run).sample(seeds=range(4), steps=4, solver=getattr(solvers, name)(), batch_size=64)
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], wanted.numpy())


def test_a_model_of_labels_alone_is_trained_without_label_dropout(tmp_path):
    trained(tmp_path / "run", "two_moons", "--label_dropout", 0)
    assert ScoreModel.load(tmp_path / "run").needs_label
    assert main(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "x.npz")]) == 2
    scorefield("sample", tmp_path / "run", "--seeds", "0", "--label", 1, "--out", tmp_path / "x.npz")


def test_samples_in_a_folder_have_a_file_each(run, digits_run, tmp_path):
    scorefield("sample", run, "--seeds", "3-5", "--steps", 2, "--out", tmp_path / "moons")
    wanted = ScoreModel.load(run).sample(seeds=range(3, 6), steps=2, batch_size=64)
    assert sorted(p.name for p in (tmp_path / "moons").iterdir()) == ["000000.npy", "000001.npy", "000002.npy"]
    assert np.array_equal(np.load(tmp_path / "moons" / "000001.npy"), wanted[1].numpy())
    scorefield("sample", digits_run, "--seeds", "0-1", "--steps", 2, "--out", tmp_path / "digits")
    wanted = ScoreModel.load(digits_run).sample(seeds=range(2), steps=2, batch_size=64)
    picture = np.asarray(Image.open(tmp_path / "digits" / "000001.png"))
    assert np.array_equal(picture[..., 0], (wanted[1, 0] * (255 / 16)).round().numpy())


def test_samples_in_a_picture_are_those_of_the_api(digits_run, run, tmp_path):
    scorefield("sample", digits_run, "--seeds", "0-8", "--steps", 2, "--out", tmp_path / "x.png")
    wanted = ScoreModel.load(digits_run).sample(seeds=range(9), steps=2, batch_size=64)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), np.asarray(plot.image_grid(wanted, 17)))
    scorefield("sample", run, "--seeds", "0-8", "--steps", 2, "--out", tmp_path / "points.png")
    assert np.asarray(Image.open(tmp_path / "points.png").convert("L")).std() > 0


# likelihoods, latents, and what a model is


def test_likelihoods_are_those_of_the_api(run, digits_run, tmp_path, capsys):
    out = tmp_path / "l.csv"
    scorefield(
        "likelihood", run, "--data", "two_moons", "--limit", 5, "--steps", 3, "--use_labels", "true", "--out", out
    )
    rows, source = table(out), two_moons().rows(torch.arange(5))
    wanted = ScoreModel.load(run).log_prob(source.x, label=source.cond["label"], steps=3, batch_size=64)
    names = ["index", "nats", "stderr", "truncation", "solver_error", "prior", "divergence", "transform", "nfe"]
    assert list(rows[0]) == names and [row["index"] for row in rows] == list("01234")
    assert [float(row["nats"]) for row in rows] == wanted.nats.tolist()
    assert f"nats {float(wanted.nats.mean()):.4f}" in capsys.readouterr().out

    scorefield("likelihood", digits_run, "--data", "digits", "--limit", 3, "--steps", 2, "--probes", 3, "--out", out)
    rows, x = table(out), digits().x[:3]
    wanted = ScoreModel.load(digits_run).log_prob(x, steps=2, divergence=Hutchinson(3), batch_size=64)
    for column in ("nats", "stderr", "bits_per_dim", "solver_error"):
        np.testing.assert_array_equal([float(row[column]) for row in rows], getattr(wanted, column).numpy())
    assert f"bits/dim {float(wanted.bits_per_dim.mean()):.4f}" in capsys.readouterr().out


def test_each_way_to_a_likelihood_is_that_of_the_api(digits_run, tmp_path, capsys):
    model, x, out = ScoreModel.load(digits_run), digits().x[:4], tmp_path / "l.csv"
    profiles = [model.noise_profile(x, centred=centred, batch_size=64) for centred in (False, True)]
    ways = {
        "--tolerance 0.01": model.log_prob(x, tolerance=0.01, batch_size=64),
        "--steps 2 --draws 3 --centred true": model.log_prob(
            x, steps=2, draws=3, dequantisation=TruncatedNormal(), batch_size=64
        ),
        "--steps 2 --probes 2 --sketch 3": model.log_prob(x, steps=2, divergence=HutchPlusPlus(2, 3), batch_size=64),
        "--method bound --draws 8": model.elbo(x, draws=8, profile=profiles[0], batch_size=64),
        "--method bound --centred true": model.elbo(x, profile=profiles[1], centred=True, batch_size=64),
    }
    for options, wanted in ways.items():
        scorefield("likelihood", digits_run, "--data", "digits", "--limit", 4, *options.split(), "--out", out)
        rows = table(out)
        for name, column in {"nats": wanted.nats, "stderr": wanted.stderr, "nfe": wanted.nfe, **wanted.terms}.items():
            np.testing.assert_array_equal([float(row[name]) for row in rows], column.numpy(), (options, name))
        printed = capsys.readouterr().out
        assert ("prior mismatch at most" in printed) == ("bound" in options) == ("truncation" not in rows[0])


def test_latents_are_those_of_the_api_for_any_batch_size(run, tmp_path):
    data = tmp_path / "data.npy"
    np.save(data, two_moons().x[:10].numpy())
    wanted = ScoreModel.load(run).encode(two_moons().x[:10], steps=4).numpy()
    for size in (3, 64):
        scorefield("encode", run, "--data", data, "--steps", 4, "--batch_size", size, "--out", tmp_path / "z.npz")
        assert np.allclose(np.load(tmp_path / "z.npz")["latents"], wanted, rtol=0, atol=1e-5)


def test_latents_of_integers_are_dequantised_by_their_place_in_the_data(digits_run, tmp_path):
    data, x = tmp_path / "data.npz", digits().x[:5]
    for k in (0, 1):
        np.savez(data, x=x[k:].numpy())  # as 256 levels, of which the model knows 17
        scorefield("encode", digits_run, "--data", data, "--steps", 1, "--batch_size", 2, "--out", tmp_path / "z.npz")
        wanted = ScoreModel.load(digits_run).encode(x[k:], steps=1).numpy()
        assert np.allclose(np.load(tmp_path / "z.npz")["latents"], wanted, rtol=0, atol=1e-4)


def test_info_says_what_a_model_is(digits_run, capsys):
    scorefield("info", digits_run)
    out = capsys.readouterr().out
    model = ScoreModel.load(digits_run)
    weights = sum(p.numel() for p in model.denoiser.parameters())
    for part in ("(1, 8, 8)", "integers from 0 to 16", "10", str(model.denoiser.sde), f"{weights:,}", "digits", "MLP"):
        assert part in out


def test_help_and_version(capsys):
    for arguments, words in (
        (["--help"], ["train", "sample", "likelihood", "encode", "info", "demo"]),
        (["train", "--help"], ["--data", "--steps", "--resume", "go on from the newest"]),
        (["--version"], [__version__]),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert all(word in out for word in words)


@pytest.mark.slow
def test_the_installed_command_reports_its_status(run):
    for arguments, status in (["info", str(run)], 0), (["info", "none"], 2), (["nope"], 2):
        done = subprocess.run([sys.executable, "-m", "scorefield", *arguments], capture_output=True, text=True)
        assert done.returncode == status and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_keeps_its_promises(tmp_path, capsys):
    scorefield("demo", "--out", tmp_path)
    out = capsys.readouterr().out
    agreement, judge = (float(re.search(pattern, out)[1]) for pattern in (r"agreement (\S+) %", r"right on (\S+) %"))
    assert agreement >= 98 and judge >= 98
    bits, error = (float(value) for value in re.search(r"held-out bits/dim (\S+) \+- (\S+)", out).groups())
    assert error < 0.03 and 2.0 < bits < 2.35  # 4.09 is uniform; a Gaussian of the pixels' means and variances has 3.2
    assert {path.name for path in tmp_path.iterdir()} == RUN_FILES | {"generation.png", "trajectories.png"}
    model = ScoreModel.load(tmp_path)
    _, held = split(digits(), 0.2, seed=0)
    rows = held.rows(torch.arange(64))
    label, z = rows.cond["label"], model.encode(rows.x, label=rows.cond["label"])
    assert torch.equal(model.decode(z, label=label), rows.x)
    given = model.denoiser.given(label=label)
    x = decode(given, z)
    torch.testing.assert_close(encode(given, x), z, rtol=0, atol=1e-4)
    torch.testing.assert_close(decode(given, encode(given, x)), x, rtol=0, atol=1e-4)
