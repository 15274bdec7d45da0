"""Tables on the command line: what is said before training, what is refused, and samples with the data's columns."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from scorefield.cli import main
from scorefield.data import read
from scorefield.model import ScoreModel

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("default::UserWarning")]
TINY = ["--steps", "1", "--batch_size", "4", "--previews", "0", "--validation", "0", "--device", "cpu"]
ROWS = np.random.default_rng(0).normal(size=(60, 3)).round(4)


@pytest.fixture
def train(tmp_path, capsys):
    """Trains for a step on a table of these lines; gives the status and what was said on stderr."""

    def run(head, rows, *options):
        with (tmp_path / "d.csv").open("w", newline="") as file:
            csv.writer(file).writerows([*([head.split(",")] if head else []), *rows])
        words = ["train", "--data", tmp_path / "d.csv", "--out", tmp_path / "run", *TINY, *options]
        status = main([str(word) for word in words])
        return status, capsys.readouterr().err

    return run


def test_conditions_and_columns_by_one_name(train, tmp_path):
    status, said = train("x,y,z", ROWS, "--reading.table.cond", "z", "--reading.table.columns", "y,x")
    assert status == 0 and "60 rows of 2 columns (y, x), real numbers; conditions in column z\n" in said
    model = ScoreModel.load(tmp_path / "run")
    assert np.allclose(model.transform.shift, ROWS[:, [1, 0]].mean(0), atol=0.2)
    assert np.allclose(model.cond_transform.shift, ROWS[:, 2].mean(), atol=0.2)
    assert model.about["found"].endswith("conditions in column z")


def test_a_table_without_names_is_sampled_with_numbers(train, tmp_path):
    assert train("", ROWS)[0] == 0
    words = ["sample", tmp_path / "run", "--seeds", "0-4", "--steps", 2, "--out", tmp_path / "new.csv"]
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "new.csv").read_text().splitlines()[0] == "0,1,2"
    assert read(tmp_path / "new.csv").x.shape == (5, 3)


def test_samples_have_the_columns_of_the_data(train, tmp_path):
    pytest.importorskip("pyarrow")
    assert train("x,y,z", ROWS, "--reading.table.without", "y")[0] == 0
    words = ["sample", tmp_path / "run", "--seeds", "0-4", "--steps", 2, "--out", tmp_path / "new.parquet"]
    assert main([str(word) for word in words]) == 0
    made = read(tmp_path / "new.parquet")
    assert made.how.columns == ("x", "z")
    assert np.array_equal(made.x.numpy(), ScoreModel.load(tmp_path / "run").sample(seeds=range(5), steps=2).numpy())


@pytest.mark.parametrize("value", [5.0, 0.1, 273.15])
def test_a_constant_column_is_refused_by_its_name(value, train, tmp_path):
    rows = [(*row, value) for row in ROWS.tolist()]
    status, said = train("x,y,z,c", rows)
    assert status == 2 and f"constant in all samples: column c, which is {value:g}: nothing can be" in said
    assert said.endswith(": --reading.table.without c\n") and not (tmp_path / "run").exists()
    assert train("x,y,z,c", rows, "--reading.table.without", "c")[0] == 0


def test_values_that_stand_for_none_are_said_before_training(train):
    rows = ROWS.copy()
    rows[[7, 11], 1] = -9999
    status, said = train("x,y,z", rows, "--held_out", "0")
    assert status == 0 and "warning: column y is -9999 in 2 of 60 samples (from 0: " in said
    assert {int(word) for word in re.search(r"from 0: (\d+), (\d+)", said).groups()} == {7, 11}


OWN = {
    "real numbers": ROWS,
    "names": [(x, y, f"row {k}") for k, (x, y, _) in enumerate(ROWS.tolist())],
}


@pytest.mark.parametrize("kind", OWN)
def test_a_class_for_each_row_is_refused(kind, train):
    status, said = train("x,y,z", OWN[kind], "--reading.table.label", "z")
    assert status == 2 and "each of the 60 samples" in said and "has a class of its own" in said
    assert "--reading.table.cond NAME" in said
    assert train("x,y,z", OWN[kind], "--reading.table.label", "z", "--use_labels", "false")[0] == 0


def test_a_few_classes_among_few_rows_are_taken(train):
    rows = [(x, y, k % 2) for k, (x, y, _) in enumerate(ROWS.tolist())]
    assert (
        "60 rows of 2 columns (x, y), real numbers; 2 classes by column z: 0, 1"
        in train("x,y,z", rows, "--reading.table.label", "z")[1]
    )


def test_a_model_of_which_nothing_was_held_out_is_judged_by_other_data(train, tmp_path, capsys):
    assert train("x,y,z", ROWS, "--held_out", "0")[0] == 0
    words = ["evaluate", tmp_path / "run", "--data", tmp_path / "d.csv", "--out", tmp_path / "report"]
    assert main([str(word) for word in words]) == 2
    assert "no sample was held out of the training of this model: give data of --test" in capsys.readouterr().err
