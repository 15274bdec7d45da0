"""`scorefield info` on data: what would be trained on, before anything is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorefield.cli import main
from scorefield.model import ScoreModel

GENERATOR = np.random.default_rng(0)


def folder_of(path, alpha=False):
    for kind, count in (("cat", 12), ("dog", 8)):
        (path / kind).mkdir(parents=True)
        for k in range(count):
            values = GENERATOR.integers(0, 256, (9, 8, 3 + alpha)).astype("u1")
            Image.fromarray(values).save(path / kind / f"{k}.png")
    (path / "notes.txt").write_text("x")
    return path


def drawn(path):
    with Image.open(path) as picture:
        return picture.copy()


def said_by(capsys, *words):
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr()


def test_a_folder_of_pictures_is_described_and_drawn(tmp_path, capsys):
    data = folder_of(tmp_path / "data")
    out, err = said_by(capsys, "info", data, "--out", tmp_path / "seen.png")
    line, *rest = out.splitlines()
    assert line == (
        f"found in {data}: 20 pictures of 9 x 8, in colour, 8 bits; 2 classes by folder: cat, dog; left: 1 file (.txt)"
    )
    facts = {row[:13].strip(): row[13:] for row in rest}
    assert facts["event shape"] == "(3, 9, 8)" and facts["classes"] == "cat (12), dog (8)" and err == ""
    assert facts["to train on"] == "18 of 20 samples, by default"
    assert facts["samples"] == f"16 at random are drawn in {tmp_path / 'seen.png'}"
    assert drawn(tmp_path / "seen.png").size > (8 * 16, 9)
    assert sorted(path.name for path in data.iterdir()) == ["cat", "dog", "notes.txt"]  # and nothing beside them


def test_the_statistics_are_those_that_training_uses(tmp_path, capsys):
    """Mutant: of all rows instead of those to train on."""
    x = GENERATOR.normal(size=(40, 2, 30)) * [[[3.0], [0.5]]] + [[[1.0], [-2.0]]]
    np.save(tmp_path / "x.npy", x)
    out, _ = said_by(capsys, "info", tmp_path / "x.npy")
    facts = {row[:13].strip(): row[13:] for row in out.splitlines()}
    said_by(capsys, "train", "--data", tmp_path / "x.npy", "--net", "MLP", "--steps", 1, "--out", tmp_path / "run")
    transform = ScoreModel.load(tmp_path / "run").transform
    for name, values in (("mean", transform.shift), ("std", transform.scale)):
        assert facts[name] == ", ".join(f"{np.ravel(value)[0]:.4g}" for value in values)
    picture = Path(re.search(r"drawn in (.*)", facts["samples"])[1])
    assert picture.suffix == ".png" and picture.is_file() and not picture.is_relative_to(Path.cwd())


@pytest.mark.parametrize("shape", [(20, 5), (20, 2), (20, 1, 6, 16, 16), (20, 3, 1, 8), (20,)])
def test_data_of_any_shape_are_drawn(shape, tmp_path, capsys):
    np.save(tmp_path / "x.npy", GENERATOR.normal(size=shape))
    said_by(capsys, "info", tmp_path / "x.npy", "--out", tmp_path / "seen.png")
    assert drawn(tmp_path / "seen.png").size > (50, 5)


def test_what_cannot_be_described_is_refused_in_a_line(tmp_path, capsys):
    np.save(tmp_path / "x.npy", GENERATOR.normal(size=(5, 12, 12)))
    for words, said in (
        ((tmp_path / "x.npy",), "--reading.axes nhw"),
        ((tmp_path / "none",), "neither a file nor a folder nor one of digits"),
        (("digits", "--out", tmp_path / "a.npz"), "wanted the name of a .png file"),
    ):
        assert main(["info", *map(str, words)]) == 2
        assert said in capsys.readouterr().err.strip().splitlines()[-1]
    said_by(capsys, "info", tmp_path / "x.npy", "--reading.axes", "nhw", "--out", tmp_path / "seen.png")


def test_transparency_is_trained_and_sampled(tmp_path, capsys):
    data = folder_of(tmp_path / "data", alpha=True)
    alpha = ["--reading.images.alpha", "channel"]
    said_by(capsys, "train", "--data", data, *alpha, "--steps", 1, "--previews", 2, "--out", tmp_path / "run")
    said_by(capsys, "sample", tmp_path / "run", "--label", "cat", "--steps", 1, "--out", tmp_path / "samples.png")
    for name in ("run/samples.png", "samples.png"):
        assert drawn(tmp_path / name).mode == "RGBA"


def test_what_a_folder_is_called_does_not_reach_the_terminal(tmp_path, capsys):
    (tmp_path / "data" / "cat\x1b[31m").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), "u1")).save(tmp_path / "data" / "cat\x1b[31m" / "a.png")
    (tmp_path / "data" / "dog").mkdir()
    Image.fromarray(np.zeros((4, 4), "u1")).save(tmp_path / "data" / "dog" / "a.png")
    out, err = said_by(capsys, "info", tmp_path / "data", "--out", tmp_path / "seen.png")
    assert "\x1b" not in out + err and r"cat\x1b[31m" in out


def test_the_axes_of_the_training_are_remembered(tmp_path, capsys):
    x = GENERATOR.normal(size=(20, 12, 12))
    np.save(tmp_path / "x.npy", x)
    words = ("--data", tmp_path / "x.npy", "--steps", 1, "--out")
    said_by(capsys, "train", "--reading.axes", "nhw", *words, tmp_path / "run")
    said_by(capsys, "encode", tmp_path / "run", *words, tmp_path / "z.npz")
    assert ScoreModel.load(tmp_path / "run").event_shape == (1, 12, 12)
