"""Commands and files: links of others, folders in the way, runs that vanish, signals, several commands at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from test_cli import TINY, scorefield, state_after, table, trained

from scorefield import ScoreModel
from scorefield._files import read_json
from scorefield.cli import main
from scorefield.cli.parts import grids, running
from scorefield.cli.parts.signals import Signals, say
from scorefield.cli.parts.sources import directory, locked

pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.filterwarnings("default:.*(not written|lost or damaged|was removed|cannot be kept)"),
]

WIDTHS = ["--optimisation.widths", "[0.1,0.2]", "--optimisation.half_lives", "[5000,500]", "--save_every", 10]
EFFORT = ["--effort.samples", 50, "--effort.steps", 2, "--effort.calls", "[]", "--effort.likelihoods", 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("moons") / "run", "two_moons", *WIDTHS)


@pytest.fixture
def own(run, tmp_path):
    """A run to spoil."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def refused(capsys, *arguments):
    """The line of a command that must fail."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    return line


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# links of a run that came from elsewhere


@pytest.mark.parametrize("name", ["checkpoints", "averages", "samples", "tensorboard", "half_life_500"])
def test_a_run_whose_folders_are_links_is_not_gone_on_with(name, own, tmp_path, capsys):
    """Mutant: what training writes and removes is that of someone else."""
    shutil.copytree(own / "checkpoints", tmp_path / "mine")
    (tmp_path / "mine" / "000000007.safetensors").write_text("mine")
    (tmp_path / "mine" / "000000099").mkdir()
    before = tree(tmp_path / "mine")
    if (own / name).exists():
        shutil.rmtree(own / name)
    (own / name).symlink_to(tmp_path / "mine")
    command = ["train", "--data", "two_moons", "--out", own, *TINY, "--steps", 30, *WIDTHS, "--resume", "true"]
    assert f"{own / name}: is a link, and files elsewhere would be changed" in refused(capsys, *command)
    assert tree(tmp_path / "mine") == before and (tmp_path / "mine" / "000000099").is_dir()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "loss.csv", "loss.png", "samples.png"])
def test_links_of_a_runs_files_are_replaced_and_not_followed(name, own, tmp_path):
    (own / name).unlink() if name != "config.json" else (own / name).rename(tmp_path / "mine")
    (tmp_path / "mine").exists() or (tmp_path / "mine").write_text("step,loss,gradient_norm,lr,validation_loss\n")
    before = (tmp_path / "mine").read_bytes()
    (own / name).symlink_to(tmp_path / "mine")
    trained(own, "two_moons", *WIDTHS, "--resume", "true", "--steps", 21)
    assert (tmp_path / "mine").read_bytes() == before and not (own / name).is_symlink()


def test_grids_are_not_written_through_a_link(own, tmp_path):
    (tmp_path / "mine").write_text("{}")
    (own / "grids.json").symlink_to(tmp_path / "mine")
    scorefield("sample", own, "--grid", "optimised", "--steps", 3, "--seeds", "0-1", "--out", tmp_path / "a.npz")
    assert (tmp_path / "mine").read_text() == "{}" and len(read_json((own / "grids.json").read_text())) == 1


# what cannot be written is said before the work


def in_the_way(name):
    return lambda out: (out / name).mkdir(parents=True)


def file_for(name):
    return lambda out: out.mkdir() or (out / name).write_text("mine")


def link_for(name):
    return lambda out: out.mkdir() or (out.parent / "mine").mkdir() or (out / name).symlink_to(out.parent / "mine")


EVALUATE = ["evaluate", "RUN", "--data", "two_moons", "--extractor", "Pixels", *EFFORT, "--out", "out"]
MORE = ["train", "--data", "two_moons", *TINY, "--steps", 5, "--out", "out"]
INVERT = ["invert", "RUN", "--operator", "Identity", "--y", "y.npy", "--sigma", 0.1, "--steps", 2, "--out", "out"]
AVERAGE = ["average", "RUN", "--width", 0.1, "--out", "out"]
EARLY = [
    *(
        (EVALUATE, in_the_way(name), name)
        for name in ("report.json", "report.md", "report.html", "extractor.safetensors")
    ),
    *((EVALUATE, how(name), name) for name in ("figures", "unfinished") for how in (file_for, link_for)),
    *((MORE, in_the_way(name), name) for name in ("model.safetensors", "loss.csv", "loss.png", "samples.png")),
    *((MORE, file_for(name), name) for name in ("checkpoints", "averages", "samples")),
    *((INVERT, in_the_way(name), name) for name in ("samples.npz", "report.json")),
    (AVERAGE, in_the_way("model.safetensors"), "model.safetensors"),
]


@pytest.mark.parametrize(
    ("command", "prepare", "name"), EARLY, ids=[f"{c[0]} {n} {k}" for k, (c, _, n) in enumerate(EARLY)]
)
def test_what_cannot_be_written_is_said_before_the_work(command, prepare, name, run, tmp_path, monkeypatch, capsys):
    """Mutant: it is found out when all has been computed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(run)
    np.save("y.npy", np.zeros(2, "f4"))
    prepare(tmp_path / "out")
    before = tree(tmp_path)

    def work(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(sys.modules["scorefield.cli.evaluate"], "measured", work)
    monkeypatch.setattr(running, "train", work)
    monkeypatch.setattr(ScoreModel, "measured", work) if command is AVERAGE else None
    assert f"out/{name}" in refused(capsys, *command)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "command", ["certify Heun --budgets [4,8] --out file/x.png", "stats --data two_moons --out file/x.npz"]
)
def test_a_place_that_is_none_is_said_before_the_work(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")

    def work(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(sys.modules["scorefield.certify"], "certify", work)
    monkeypatch.setattr(sys.modules["scorefield.cli.stats"], "extract", work)
    assert "file" in refused(capsys, *command.split())


# runs whose files vanish while they train


@pytest.fixture
def meanwhile(monkeypatch):
    """Lets something happen before the save of a step."""

    def plan(step, what):
        real = running.Run._save

        def save(self):
            if self.state.step == step:
                what()
            real(self)

        monkeypatch.setattr(running.Run, "_save", save)

    return plan


@pytest.mark.parametrize("name", ["loss.csv", "averages", "checkpoints", "half_life_500", "config.json"])
def test_what_is_removed_from_a_run_while_it_trains_does_no_harm(name, run, tmp_path, meanwhile):
    """It goes on, ends with the files of a run that was left alone, and can be lengthened."""
    out = tmp_path / "run"

    def remove():
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()

    meanwhile(20, remove)
    trained(out, "two_moons", *WIDTHS)
    whole, found = tree(run), tree(out)
    assert found.items() <= whole.items() and (found == whole or name in ("averages", "checkpoints"))
    trained(out, "two_moons", *WIDTHS, "--resume", "true", "--steps", 22)
    assert [int(row["step"]) for row in table(out / "loss.csv")] == [*range(1, 23)]


def test_losses_that_cannot_be_written_cost_nothing_else(run, tmp_path, meanwhile, capsys):
    """Somebody has made a folder of their name: the checkpoint and the model are those of a run without it."""
    out = tmp_path / "run"

    def replace():
        (out / "loss.csv").unlink()
        (out / "loss.csv").mkdir()

    meanwhile(20, replace)
    trained(out, "two_moons", *WIDTHS)
    assert f"warning: {out / 'loss.csv'}: the losses are not written (Is a directory)" in capsys.readouterr().err
    for name in ("model.safetensors", state_after(20)):
        assert (out / name).read_bytes() == (run / name).read_bytes()


def test_a_run_whose_folder_is_removed_makes_it_again(run, tmp_path, meanwhile, capsys):
    out = tmp_path / "far" / "run"
    meanwhile(20, lambda: shutil.rmtree(tmp_path / "far"))
    trained(out, "two_moons", *WIDTHS[:2], "--save_every", 10)
    assert f"warning: {out} was removed: it is made again" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    trained(out, "two_moons", *WIDTHS[:2], "--resume", "true", "--steps", 22)
    assert [int(row["step"]) for row in table(out / "loss.csv")] == [*range(1, 23)]


@pytest.mark.parametrize("lost", [True, False])
def test_a_run_without_its_losses_is_resumed_to_the_same_weights(lost, own, run, tmp_path, capsys):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    (own / "loss.csv").unlink() if lost else (own / "loss.csv").write_bytes(b"step,loss\nx,y\n")
    for out in (own, whole):
        trained(out, "two_moons", *WIDTHS, "--resume", "true", "--steps", 25)
    assert "losses of steps 1 to 20 are missing; the weights are not concerned" in capsys.readouterr().err
    for name in ("model.safetensors", state_after(25)):
        assert (own / name).read_bytes() == (whole / name).read_bytes()
    assert [int(row["step"]) for row in table(own / "loss.csv")] == [21, 22, 23, 24, 25]


# signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["train", "train-classifier"])
def test_any_signal_that_ends_programs_saves_first(command, number, run, tmp_path, monkeypatch, capsys):
    """Mutant: SIGHUP, of a terminal that is closed, ends the process as it stands."""
    real = running.train

    def signalled(*arguments, **options):
        for info in real(*arguments, **options):
            if info.step == 7:
                signal.raise_signal(number)
            yield info

    monkeypatch.setattr(running, "train", signalled)
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    net = ["--net", "MLPClassifier", *TINY[2:]] if command == "train-classifier" else TINY
    base = [run] if command == "train-classifier" else []
    out = tmp_path / "out"
    words = [command, *base, "--data", "two_moons", "--out", out, *net, "--steps", 20]
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert ended.value.code == 128 + number
    assert f"stopped by {number.name}; saved at step 7: go on by --resume true" in capsys.readouterr().err
    monkeypatch.setattr(running, "train", real)
    scorefield(*words, "--resume", "true")
    assert len(table(out / "loss.csv")) == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_are_ignored_stay_so(number):
    """As under nohup. Mutant: its run ends with the terminal all the same."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(number)
            assert not signals.noted and signal.getsignal(number) == signal.SIG_IGN
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_is_gone_stops_no_training(stream, tmp_path):
    """Mutants: a line that cannot be printed ends the run, or makes its status that of a failure."""
    program = f"""
import sys
from scorefield.cli.parts.signals import say
say("first", sys.{stream})
sys.stdin.readline()
for _ in range(3):
    say("lost", sys.{stream})
print("lost", file=sys.{stream})
open("end", "w").close()
"""
    done = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        text=True,
        stdin=subprocess.PIPE,
        **{stream: subprocess.PIPE},
    )
    pipe = getattr(done, stream)
    assert pipe.readline() == "first\n"
    pipe.close()
    done.stdin.write("\n")
    done.stdin.close()
    assert done.wait(60) == 0 and (tmp_path / "end").exists()


def test_what_is_said_goes_to_the_stream_that_is_meant(capsys):
    say("a line")
    say("another", sys.stderr)
    assert capsys.readouterr() == ("a line\n", "another\n")


# several commands at once


@pytest.mark.parametrize("name", ["average", "sample", "invert", "train", "train-classifier", "evaluate"])
def test_a_directory_that_is_being_written_is_left_alone(name, run, tmp_path, monkeypatch, capsys):
    """Mutant: files of both are mixed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(run)
    np.save("y.npy", np.zeros(2, "f4"))
    commands = {
        "average": AVERAGE,
        "sample": ["sample", "RUN", "--seeds", "0-1", "--steps", 2, "--out", "out"],
        "invert": INVERT,
        "train": MORE,
        "train-classifier": ["train-classifier", "RUN", "--data", "two_moons", "--steps", 1, "--out", "out"],
        "evaluate": EVALUATE,
    }
    out = tmp_path / "out"
    with directory(out), locked(out):
        line = refused(capsys, *commands[name])
        assert "out: another command is writing there: wait for its end, or end it" in line
        assert [*out.iterdir()] == []
        scorefield("sample", "RUN", "--seeds", "0-1", "--steps", 2, "--out", out / "a.npz")  # a file goes well with it


def test_of_jobs_that_optimise_grids_at_once_each_keeps_its_own(own, tmp_path, monkeypatch):
    """Mutant: a job writes what it has read before the others wrote."""
    jobs, steps = [], (2, 3, 4, 5)
    ready = threading.Barrier(len(steps), timeout=60)
    real = grids.Grid.times

    def times(self, *given):
        ready.wait()
        return [1.0, float(given[1])] if self is grids.Grid.optimised else real(self, *given)

    monkeypatch.setattr(grids.Grid, "times", times)
    model = ScoreModel.load(own)

    def job(count):
        found = grids.times_of_run(own, model, solver="solver", steps=count, grid=grids.Grid.optimised)
        jobs.append((count, found))

    threads = [threading.Thread(target=job, args=(count,)) for count in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(jobs) == [(count, [1.0, float(count)]) for count in steps]
    assert len(json.loads((own / "grids.json").read_text())) == len(steps)
    assert not [path for path in own.iterdir() if path.name.startswith(".")]


def test_a_grid_that_cannot_be_kept_is_used_all_the_same(own, tmp_path, monkeypatch, capsys):
    """A run that others share is often read-only."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "grids.json")

    monkeypatch.setattr(grids, "write_text", refuse)
    words = ["sample", own, "--grid", "optimised", "--steps", 3, "--seeds", "0-1", "--out", tmp_path / "a.npz"]
    scorefield(*words)
    assert "warning: the grid cannot be kept, and is made again the next time" in capsys.readouterr().err
    assert np.load(tmp_path / "a.npz")["x"].shape == (2, 2) and not (own / "grids.json").exists()


def test_two_commands_with_one_output_leave_that_of_one(run, tmp_path):
    """Whole files of one of the two, whichever was last; nothing else beside them."""
    program = "import sys; from scorefield.cli import main; sys.exit(main(sys.argv[1:]))"
    made = {}
    for seeds in ("0-3", "4-7"):
        scorefield("sample", run, "--seeds", seeds, "--steps", 2, "--out", tmp_path / "a.npz")
        made[seeds] = (tmp_path / "a.npz").read_bytes()
    command = [sys.executable, "-c", program, "sample", run, "--steps", "2", "--out", tmp_path / "a.npz", "--seeds"]
    both = [subprocess.Popen([*command, seeds], stdout=subprocess.DEVNULL) for seeds in made]
    assert [one.wait(120) for one in both] == [0, 0]
    assert (tmp_path / "a.npz").read_bytes() in made.values()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
