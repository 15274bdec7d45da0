"""The commands that choose, certify and warn of solvers."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from test_cli import scorefield, trained, words

from scorefield import EDM, VP, ScoreModel, default, grids
from scorefield.certify import natural_spectrum, output_law
from scorefield.cli import main
from scorefield.solvers import DDIM, AdaptiveSDE, EulerMaruyama, UniPC

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("moons") / "run")


def test_certify_prints_the_order_and_draws_the_errors(tmp_path, capsys):
    scorefield("certify", "UniPC", "--solver.order", 2, "--budgets", "[5,10]", "--out", tmp_path / "errors.png")
    printed = capsys.readouterr().out
    assert re.search(r"order of convergence (2\.9|3\.0)\d, claimed 3", printed)
    rows = [line.split() for line in printed.splitlines()[3:]]
    law = output_law(UniPC(2), grids.uniform_log_snr(VP(), 10), VP(), natural_spectrum())
    assert rows[1] == ["10", f"{law.error:.3g}", f"{law.spread:.3g}"]
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_certify_takes_the_process_and_the_spectrum_of_a_run(run, capsys):
    scorefield("certify", "--solver", "EulerMaruyama", "--run", run, "--grid", "uniform", "--budgets", "[4]")
    printed = capsys.readouterr().out
    spectrum = torch.tensor(ScoreModel.load(run).about["spectrum"])
    law = output_law(EulerMaruyama(), grids.uniform(VP(), 4), VP(), spectrum)
    assert f"{law.error:.3g}" in printed and "unstable" in printed


def test_an_optimised_grid_is_kept_in_the_run(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    common = ["--steps", 4, "--seeds", "0-3", "--batch_size", 4]
    scorefield("sample", copy, "--grid", "optimised", *common, "--out", tmp_path / "a.npz")
    (times,) = json.loads((copy / "grids.json").read_text()).values()
    model = ScoreModel.load(copy)
    wanted = model.sample(seeds=range(4), steps=4, times=times, batch_size=4)
    assert np.array_equal(np.load(tmp_path / "a.npz")["x"], wanted.numpy())
    before = (copy / "grids.json").stat().st_mtime_ns
    scorefield("sample", copy, "--grid", "optimised", *common, "--out", tmp_path / "b.npz")
    assert (copy / "grids.json").stat().st_mtime_ns == before
    scorefield("sample", copy, "--grid", "karras", "--solver", "DDIM", *common, "--out", tmp_path / "c.npz")
    wanted = model.sample(seeds=range(4), solver=DDIM(), times=grids.karras(VP(), 4), batch_size=4)
    assert np.array_equal(np.load(tmp_path / "c.npz")["x"], wanted.numpy())


def test_a_tolerance_picks_the_adaptive_solver(run, tmp_path):
    scorefield("sample", run, "--tolerance", 0.01, "--seeds", "0-3", "--batch_size", 4, "--out", tmp_path / "a.npz")
    model = ScoreModel.load(run)
    x = np.load(tmp_path / "a.npz")["x"]
    assert np.array_equal(x, model.sample(seeds=range(4), tolerance=0.01, batch_size=4).numpy())
    exact = model.sample(seeds=range(4), tolerance=1e-4, batch_size=4)
    assert 0 < np.abs(x - exact.numpy()).max() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--tolerance 0.01 --grid karras", "leave --solver and --grid out"),
        ("--tolerance 2", "tolerance must lie in"),
    ],
)
def test_sampling_options_that_do_not_fit_are_refused(options, message, run, tmp_path, capsys):
    assert main(["sample", str(run), *words(options), "--out", str(tmp_path / "a.npz")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("default:EulerMaruyama")
def test_a_solver_below_its_stability_bound_is_named(run, tmp_path, capsys):
    common = ["sample", run, "--solver", "EulerMaruyama", "--seeds", "0", "--out", tmp_path / "a.npz"]
    scorefield(*common, "--steps", 4)
    assert "warning: EulerMaruyama is unstable with 4 steps" in capsys.readouterr().err
    scorefield(*common, "--steps", 100)
    assert "unstable" not in capsys.readouterr().err


def test_a_grid_that_makes_the_default_unstable_is_named(run, tmp_path, capsys):
    instable = ScoreModel.load(run)
    instable.denoiser.sde = EDM()  # whose equal steps of time leave nearly all noise to one step
    instable.save(tmp_path / "run")
    common = ["--steps", 10, "--seeds", 0, "--out", tmp_path / "a.npz"]
    scorefield("sample", tmp_path / "run", "--grid", "uniform", *common)
    assert "unstable with 10 steps" in capsys.readouterr().err


def test_an_adaptive_solver_makes_its_own_steps(run, tmp_path):
    common = ["--seeds", "0-3", "--batch_size", 4, "--out", tmp_path / "a.npz"]
    scorefield("sample", run, "--solver", "AdaptiveSDE", *common)
    sde = VP()
    wanted = ScoreModel.load(run).sample(
        seeds=range(4), solver=AdaptiveSDE(), times=[sde.T, sde.t_end, 0.0], batch_size=4
    )
    assert np.array_equal(np.load(tmp_path / "a.npz")["x"], wanted.numpy())


def test_damaged_grids_are_named(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    arguments = ["sample", str(copy), "--grid", "optimised", "--steps", "4", "--out", str(tmp_path / "a.npz")]
    assert main(arguments) == 0
    ((name, times),) = json.loads((copy / "grids.json").read_text()).items()
    rising, short, words = times[::-1], times[:-1], [*times[:-1], "0"]
    for known in ("{]", *(json.dumps({name: value}) for value in (3, None, rising, short, words, [times]))):
        (copy / "grids.json").write_text(known)
        assert main(arguments) == 2
        assert re.search(r"grids.json: damaged .*: delete it", capsys.readouterr().err)


def test_times_alone_take_the_default_solver_for_their_number(run):
    model, times = ScoreModel.load(run), grids.uniform_log_snr(VP(), 5)
    wanted = model.sample(seeds=range(4), solver=default(VP(), 5)[0], times=times)
    assert torch.equal(model.sample(seeds=range(4), times=times), wanted)
    with pytest.raises(ValueError, match="leave these two out"):
        model.sample(seeds=range(4), tolerance=0.01, times=times)
