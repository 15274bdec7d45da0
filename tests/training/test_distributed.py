"""Several processes are as one: gradients, data, files; and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

TRAIN = [
    "-m",
    "scorefield",
    "train",
    "--data",
    "two_moons",
    "--net",
    "MLP",
    "--net.features",
    "16",
    "--net.blocks",
    "1",
    "--batch_size",
    "32",
    "--device",
    "cpu",
    "--optimisation.half_lives",
    "[5000,500]",
    "--optimisation.widths",
    "[0.05,0.1]",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(processes, arguments, **options):
    head = [sys.executable]
    if processes > 1:
        head = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        head += options.pop("more", [])
    command = [*head, *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(processes, arguments, **options):
    process = start(processes, arguments, **options)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        kill(process)
    return process.returncode, out, err


def kill(process):
    """SIGKILL to a command and to the processes that torchrun has started for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)  # from now on it starts no other
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number in (process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    process.communicate(timeout=60)


def files(folder):
    """What a resumed run must agree on."""
    names = ["config.json", "model.safetensors", "loss.csv", "half_life_500/model.safetensors"]
    (last,) = sorted((folder / "checkpoints").iterdir())[-1:]
    return {
        **{name: (folder / name).read_bytes() for name in names},
        **{file.name: file.read_bytes() for file in (folder / "averages").iterdir()},
        "state": (last / "state.safetensors").read_bytes(),
    }


GRADIENTS = """
import json, os, sys, torch
from pathlib import Path
from scorefield import EDMPrecond, Preconditioned, VP
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, seeded
from scorefield.objectives import AdaptiveLogSNR, DenoisingScoreMatching, LabelDropout
from scorefield.objectives import LikelihoodWeight, SlicedScoreMatching
from scorefield.training import Batches, Optimisation, TrainState, distributed, train

accumulate = int(sys.argv[1])
with distributed.joined():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = ArrayDataset(x, torch.arange(50) % 2)
    with seeded(0):
        model = Preconditioned(MLP((3,), 2, features=16, blocks=1), VP(), EDMPrecond(1.0)).double()
    state = TrainState(model, Optimisation(warmup=2), seed=3)
    batches = Batches(data, Affine(), 12, seed=3, dtype=torch.float64)
    kind = {
        "denoising": DenoisingScoreMatching.edm(1.0),
        "sliced": SlicedScoreMatching(projections=2),
        "adaptive": DenoisingScoreMatching(AdaptiveLogSNR(10), LikelihoodWeight()),
    }
    objective = LabelDropout(kind[sys.argv[2]], 0.3)
    losses = [float(i.loss) for i in train(state, batches, objective, steps=5, accumulate=accumulate)]
    gradients = [p.grad.flatten().tolist() for p in model.parameters()]
    if distributed.rank() == 0:
        print(json.dumps([losses, sum(gradients, [])]))
threads = [Path(f"/proc/self/task/{t}/comm").read_text() for t in os.listdir("/proc/self/task")]
assert not any("gloo" in name for name in threads), threads
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "accumulate", "objective"),
    [
        (2, 1, "denoising"),
        (3, 1, "denoising"),
        (1, 4, "denoising"),
        (2, 3, "denoising"),
        (2, 3, "adaptive"),
        (2, 2, "sliced"),
    ],
)
def test_losses_and_gradients_do_not_depend_on_how_a_batch_is_cut(processes, accumulate, objective, tmp_path):
    (tmp_path / "gradients.py").write_text(GRADIENTS)
    results = []
    for n, a in ((1, 1), (processes, accumulate)):
        status, out, err = run(n, [tmp_path / "gradients.py", a, objective])
        assert status == 0, err[-2000:]
        results.append([torch.tensor(part, dtype=torch.float64) for part in json.loads(out)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(processes, tmp_path):
    arguments = [*TRAIN, "--steps", 240, "--save_every", 20]
    status, _, err = run(processes, [*arguments, "--out", tmp_path / "whole"])
    assert status == 0, err[-2000:]
    generator, kills = random.Random(processes), 0
    while True:
        process = start(processes, [*arguments, "--out", tmp_path / "part", "--resume", "true"])
        try:
            process.communicate(timeout=generator.uniform(2.5, 5 if processes == 1 else 9))
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
        else:
            break
        if kills == 10:
            status, _, err = run(processes, [*arguments, "--out", tmp_path / "part", "--resume", "true"])
            assert status == 0, err[-2000:]
            break
    assert kills >= 1
    assert files(tmp_path / "part") == files(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_share_samples_and_likelihoods(tmp_path):
    results = {}
    for n in (1, 2):
        out = tmp_path / str(n)
        status, _, err = run(n, [*TRAIN, "--steps", 30, "--out", out])
        assert status == 0, err[-2000:]
        common = ["-m", "scorefield"]
        run(n, [*common, "sample", tmp_path / "1", "--seeds", "0-9", "--batch_size", 4, "--out", out / "x.npz"])
        more = ["--data", "two_moons", "--limit", 9, "--steps", 5, "--batch_size", 4]
        run(n, [*common, "likelihood", tmp_path / "1", *more, "--out", out / "l.csv"])
        run(n, [*common, "encode", tmp_path / "1", *more, "--out", out / "z.npz"])
        losses = np.genfromtxt(out / "loss.csv", delimiter=",", skip_header=1)[:, 1]
        table = np.genfromtxt(out / "l.csv", delimiter=",", skip_header=1)
        results[n] = losses, np.load(out / "x.npz")["x"], table, np.load(out / "z.npz")["latents"]
    for one, two in zip(*results.values(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
    assert np.array_equal(results[1][1], results[2][1])  # equal batches: to the bit
    status, _, err = run(2, [*common, "sample", tmp_path / "1", "--seeds", "0", "--out", tmp_path / "one.npz"])
    assert status != 0 and "1 samples cannot be shared among 2 processes: start fewer" in err
    assert not (tmp_path / "one.npz").exists()


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_and_torchrun_can_restart_them(tmp_path):
    status, _, err = run(2, [*TRAIN, "--steps", 30, "--batch_size", 1, "--out", tmp_path / "run"])
    assert status != 0 and "a batch of 1 samples cannot be cut into 2 processes" in err
    assert not (tmp_path / "run").exists()
    # the first process dies once, after the checkpoint of step 10
    (tmp_path / "dying.py").write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from scorefield.cli import main\n"
        "from scorefield.training import Checkpoints\n"
        "real, flag = Checkpoints.save, Path(sys.argv.pop(1))\n"
        "def save(self, step, write):\n"
        "    path = real(self, step, write)\n"
        "    if not flag.exists():\n"
        "        flag.touch()\n"
        "        os._exit(1)\n"
        "    return path\n"
        "Checkpoints.save = save\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [tmp_path / "dying.py", tmp_path / "flag", *TRAIN[2:], "--steps", 30, "--save_every", 10]
    status, _, err = run(2, [*command, "--resume", "true", "--out", tmp_path / "died"], more=["--max-restarts=1"])
    assert status == 0, err[-2000:]
    assert (tmp_path / "flag").exists()
    status, _, err = run(2, [*TRAIN, "--steps", 30, "--save_every", 10, "--out", tmp_path / "whole"])
    assert files(tmp_path / "died") == files(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(number, tmp_path):
    process = start(1, [*TRAIN, "--steps", 100_000, "--save_every", 10, "--out", tmp_path / "run"])
    for _ in range(600):
        time.sleep(0.1)
        if any((tmp_path / "run" / "checkpoints").glob("?????????")) or process.poll() is not None:
            break
    _, _, err = run(1, [*TRAIN, "--steps", 100_000, "--out", tmp_path / "run", "--resume", "true"])
    assert "another command is writing there" in err
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err[-2000:]
    newest = max((tmp_path / "run" / "checkpoints").iterdir()).name
    assert f"stopped by {number.name}; saved at step {int(newest)}: go on by --resume true" in err
    assert len((tmp_path / "run" / "loss.csv").read_text().splitlines()) == 1 + int(newest)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A model of digits, trained a little, and options of a small evaluation of it."""
    path = tmp_path_factory.mktemp("digits") / "run"
    train = ["train", "--data", "digits", "--net", "MLP", "--net.features", "16", "--net.blocks", "1", "--steps", 5]
    status, _, err = run(1, ["-m", "scorefield", *train, "--device", "cpu", "--out", path])
    assert status == 0, err[-2000:]
    effort = {"samples": 60, "steps": 3, "calls": "[2]", "likelihoods": 3, "batch_size": 16}
    words = [word for name, value in effort.items() for word in (f"--effort.{name}", value)]
    return ["-m", "scorefield", "evaluate", path, "--data", "digits", "--extractor", "Pixels", *words]


def report(folder):
    found = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in found.items() if name not in ("seconds", "command", "made with")}


@pytest.mark.slow
def test_two_processes_make_the_report_of_one(digits_run, tmp_path):
    for processes in (1, 2):
        status, _, err = run(processes, [*digits_run, "--device", "cpu", "--out", tmp_path / str(processes)])
        assert status == 0, err[-2000:]
    assert report(tmp_path / "1") == report(tmp_path / "2")


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(digits_run, tmp_path):
    status, _, err = run(1, [*digits_run, "--out", tmp_path / "whole"])
    assert status == 0, err[-2000:]
    for parts in (2, 5, 8):
        process = start(1, [*digits_run, "--out", tmp_path / "killed"])
        while process.poll() is None and len(list(tmp_path.glob("killed/unfinished/*.safetensors"))) < parts:
            time.sleep(0.01)
        kill(process)
    assert not (tmp_path / "killed" / "report.json").exists()
    status, _, err = run(1, [*digits_run, "--out", tmp_path / "killed"])
    assert status == 0, err[-2000:]
    assert report(tmp_path / "whole") == report(tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_find_the_statistics_of_one(tmp_path):
    """To 1e-12, though each has half of the rows."""
    from scorefield.metrics import FeatureStats

    for processes in (1, 2):
        out = tmp_path / f"{processes}.npz"
        status, _, err = run(
            processes, ["-m", "scorefield", "stats", "--data", "[digits]", "--device", "cpu", "--out", out]
        )
        assert status == 0, err[-2000:]
    one, two = (FeatureStats.read(tmp_path / f"{processes}.npz") for processes in (1, 2))
    assert one.n == two.n == 1797
    torch.testing.assert_close(two.mean, one.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(two.covariance, one.covariance, rtol=1e-12, atol=1e-12 * float(one.covariance.max()))


def test_batches_give_each_sample_equally_often_however_they_are_cut():
    from scorefield.data import Affine, ArrayDataset
    from scorefield.training import Batches, distributed

    n, size = 37, 12
    batches = Batches(ArrayDataset(torch.arange(n).float()), Affine(), size, seed=1)
    for world in (1, 2, 3, 5):
        counts = torch.zeros(n, dtype=torch.int64)
        for step in range(20):
            parts = [distributed.share(size, k, world) for k in range(world)]
            x0 = torch.cat([batches.part(step, part.start, part.stop).x0 for part in parts])
            assert torch.equal(x0, batches[step].x0)
            counts += torch.bincount(x0.long(), minlength=n)
        assert int(counts.max() - counts.min()) <= 1


def test_shares_are_consecutive_and_nearly_equal():
    from scorefield.training import distributed

    for count in (1, 5, 12, 100):
        for parts in (1, 2, 3, 7):
            shares = [distributed.share(count, k, parts) for k in range(parts)]
            assert [k for share in shares for k in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
