"""Two builds of scorefield side by side: how much longer than the other one takes for the same work.

    git worktree add ../older <commit>
    python benchmarks/paired.py ../older/src [runs, 15] [tasks: import training sampling likelihood tiny]

Each run starts a process of one build and then of the other, in turns; each process does a task a few times on one
thread and reports the shortest time. Of the logarithms of the pairs' ratios: mean and 95 % interval by Student's t.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scipy.stats import t as student

HERE = Path(__file__).parent.parent / "src"
REPEATS = 3


def shortest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def task(name: str) -> float:
    """The seconds of a task by the build that is on the path."""
    import torch

    import scorefield as sf

    torch.set_num_threads(1)
    tiny = name.startswith("tiny")
    with sf.nn.seeded(0):
        data = sf.data.two_moons(1000).unlabelled() if tiny else sf.data.digits()
        net = sf.nn.MLP((2,), features=32) if tiny else sf.nn.MLP(data.event_shape, data.classes)
    if name == "training":
        return shortest(lambda: sf.fit(net, data, steps=60, seed=0, optimisation=sf.Optimisation(lr=3e-3)))
    model = sf.fit(net, data, steps=2, seed=0)
    label = None if tiny else torch.arange(32) % 10
    if name.endswith("sampling"):
        return shortest(lambda: model.sample(seeds=range(32), steps=20, label=label), 40)
    x = data.rows(torch.arange(32)).x
    if tiny:
        return shortest(lambda: model.log_prob(x), 5)
    return shortest(lambda: model.log_prob(x[:8], label=label[:8] if label is not None else None), REPEATS)


def seconds(source: Path, name: str) -> float:
    """Those of a process."""
    env = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    if name == "import":
        command = [sys.executable, "-c", "import scorefield"]
        return shortest(lambda: subprocess.run(command, env=env, check=True))
    found = subprocess.run([sys.executable, __file__, "--task", name], env=env, check=True, capture_output=True)
    return float(found.stdout.split()[-1])


def main(other: Path, runs: int, tasks: Sequence[str]) -> None:
    print(f"this build over the other, {runs} alternating runs; the seconds are this build's median")
    for name in tasks:
        seconds(HERE, name), seconds(other, name)  # caches are filled
        mine, theirs = list[float](), list[float]()
        for run in range(runs):
            for source, found in [(HERE, mine), (other, theirs)][:: 1 if run % 2 else -1]:
                found.append(seconds(source, name))
        logs = [math.log(a / b) for a, b in zip(mine, theirs, strict=True)]
        centre, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(runs)
        reach = float(student.ppf(0.975, runs - 1)) * error
        low, high = math.exp(centre - reach), math.exp(centre + reach)
        print(f"{name:>16} {math.exp(centre):.3f} [{low:.3f}, {high:.3f}]  {statistics.median(mine):.3g} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--task":
        print(task(sys.argv[2]))
    else:
        usual = ("import", "training", "sampling", "likelihood", "tiny sampling", "tiny likelihood")
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15, sys.argv[3:] or usual)
