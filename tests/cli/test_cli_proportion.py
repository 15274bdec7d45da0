"""What training does beside its steps, validation and samples, is in proportion to them, and a signal ends it."""

from __future__ import annotations

import csv
import signal

import numpy as np
import pytest

from scorefield.cli import main
from scorefield.model import ScoreModel
from scorefield.nn import MLP, MLPClassifier

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("default:.*too few samples")]

TINY = ["--net", "MLP", "--net.features", "8", "--net.blocks", "1", "--device", "cpu"]


class Watched:
    """Rows that networks have been given outside of training, by call, and what happens at one of these calls."""

    def __init__(self):
        self.rows, self.at, self.happens = [], -1, lambda: None

    def __call__(self, x):
        self.rows.append(len(x))
        if len(self.rows) == self.at:
            self.happens()


@pytest.fixture
def watched(monkeypatch):
    seen = Watched()
    for kind in (MLP, MLPClassifier):
        whole = kind.forward

        def forward(self, x, *rest, whole=whole, **more):
            if not self.training:
                seen(x)
            return whole(self, x, *rest, **more)

        monkeypatch.setattr(kind, "forward", forward)
    return seen


def train(out, *options, data="digits", status=0):
    arguments = ["train", "--data", data, "--out", out, *TINY, *options]
    assert main([str(argument) for argument in arguments]) == status
    return out


def held_out(out):
    with (out / "loss.csv").open(newline="") as file:
        return [bool(row["validation_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("options", "validated", "drawn"),
    [
        (("--steps", 2, "--batch_size", 1), 1, 0),  # 2 samples trained on are not worth one with its 20 calls
        (("--steps", 2, "--batch_size", 10), 2, 1),
        (("--steps", 2, "--batch_size", 80), 20, 8),
        (("--steps", 4, "--save_every", 2, "--batch_size", 80), 2 * 20, 16),
        (("--steps", 30, "--batch_size", 500), 1500, 64),  # 1024 in full batches
        (("--steps", 2, "--batch_size", 80, "--validation", 5, "--previews", 3), 5, 3),
        (("--steps", 2, "--batch_size", 8, "--validation", 0, "--previews", 0), 0, 0),
        (("--steps", 2, "--batch_size", 8, "--validation", 9, "--previews", 9), 16, 9),
    ],
)
def test_validation_and_samples_are_sized_by_the_work(options, validated, drawn, watched, tmp_path, capsys):
    out = train(tmp_path / "run", *options)
    assert sum(watched.rows) == validated + 20 * drawn
    assert max(watched.rows, default=0) <= options[options.index("--batch_size") + 1]
    assert (out / "samples.png").exists() == (drawn > 0)
    assert ("its samples are" in capsys.readouterr().out) == (drawn > 0)
    assert any(held_out(out)) == (validated > 0)


def test_micro_batches_hold_for_validation_and_samples_too(watched, tmp_path):
    train(tmp_path / "run", "--steps", 4, "--batch_size", 64, "--accumulate", 4)
    assert set(watched.rows) <= {16, 8, 12} and sum(watched.rows) == 32 + 20 * 12


def test_points_of_a_plane_are_more(watched, tmp_path):
    train(tmp_path / "run", "--steps", 10, "--batch_size", 400, data="two_moons")
    assert sum(watched.rows) == 800 + 20 * 200


def test_a_classifier_is_checked_in_proportion(watched, tmp_path, capsys):
    run = train(tmp_path / "run", "--steps", 2, "--batch_size", 8, "--previews", 0)
    watched.rows.clear()
    words = f"train-classifier {run} --data digits --steps 2 --batch_size 40 --device cpu --out {tmp_path / 'guide'}"
    assert main(words.split()) == 0
    assert sum(watched.rows) == 10 + 8 * 10 and "on 10 noisy samples" in capsys.readouterr().out


@pytest.fixture
def heard():
    """Ctrl-C is not ignored, as it is by what a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("at", "words"),
    [
        (2, "saved at step 6: go on by --resume true"),  # in the middle of the validation
        (5, "the model is saved, its samples are not drawn"),
    ],
)
def test_a_signal_ends_what_follows_the_steps(at, words, number, watched, tmp_path, capsys):
    """The one of four calls and the one of twenty in which it arrives are the last."""
    watched.at, watched.happens = at, lambda: signal.raise_signal(number)
    options = ("--steps", 6, "--batch_size", 16, "--validation", 64, "--previews", 64)
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / "run", *options)
    assert ended.value.code == 128 + number and words in capsys.readouterr().err
    assert len(watched.rows) == (2 if at == 2 else 4 + 20)
    assert (tmp_path / "run" / "model.safetensors").exists() and not (tmp_path / "run" / "samples.png").exists()
    assert held_out(tmp_path / "run") == [False] * 5 + [at != 2]
    watched.at = -1
    train(tmp_path / "run", *options, "--resume", "true")
    assert (tmp_path / "run" / "samples.png").exists()


@pytest.mark.usefixtures("heard")
def test_a_signal_while_samples_are_drawn_between_two_steps(watched, tmp_path, capsys):
    watched.at, watched.happens = 1, lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit):
        train(tmp_path / "run", "--steps", 6, "--batch_size", 16, "--sample_every", 2, "--previews", 64)
    assert len(watched.rows) == 20 and not (tmp_path / "run" / "samples").exists()
    assert "saved at step 3" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--validation -1", "--previews -1"])
def test_counts_below_none_are_refused(words, tmp_path, capsys):
    train(tmp_path / "run", *words.split(), status=2)
    assert f"{words.split()[0]} must be at least 0; got -1" in capsys.readouterr().err


def test_few_pictures_take_few_calls(watched, tmp_path, capsys):
    """Of many pixels, for two steps: one network call beside them, with a sample held out, or none."""
    x = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    for count, rows, batch in ((3, [4], 16), (2, [], 16), (1, [], 8)):
        np.save(tmp_path / "x.npy", x[:count])
        watched.rows.clear()
        out = train(tmp_path / f"run{count}", "--steps", 2, "--previews", 0, data=tmp_path / "x.npy")
        assert watched.rows == rows and ScoreModel.load(out).about["batch_size"] == batch
        assert ("too few samples to hold any out" in capsys.readouterr().err) == (count < 3)


def test_nothing_need_be_held_out(watched, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 3)))
    out = train(tmp_path / "run", "--steps", 1, "--held_out", 0, "--previews", 0, data=tmp_path / "x.npy")
    assert watched.rows == [] and held_out(out) == [False] and "too few" not in capsys.readouterr().err
    shift = np.array(ScoreModel.load(out).transform.shift)
    np.testing.assert_allclose(shift, np.load(tmp_path / "x.npy").mean(0))
