"""Kills training at random moments, restarts it, and compares what is left to the bit with an uninterrupted run.

python benchmarks/resume.py [processes] [trials]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 120
OPTIONS = (
    "-m scorefield train --data two_moons --net MLP --net.features 16 --net.blocks 1 --net.dropout 0.1 --batch_size 32 "
    f"--device cpu --optimisation.half_lives [5000,500] --steps {STEPS} --save_every 10 --keep 3 --resume true --out"
)
NAMES = ("config.json", "model.safetensors", "half_life_500/model.safetensors", "loss.csv")
STATE = f"checkpoints/{STEPS:09d}/state.safetensors"


def main() -> None:
    processes, trials = (int(v) for v in (*sys.argv[1:], *("1", "20")[len(sys.argv) - 1 :]))
    generator = random.Random(processes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if begin(processes, Path(folder) / "whole").wait():
            sys.exit(Path(folder, "stderr").read_text())
        duration = time.perf_counter() - start
        same = kills = 0
        for trial in range(trials):
            out = Path(folder) / str(trial)
            while True:
                run = begin(processes, out)
                try:
                    # from before the first step to after the last, most often while it trains and saves
                    if run.wait(timeout=generator.uniform(0.5, 1.3) * duration):
                        sys.exit(f"a run failed after {kills} kills:\n{Path(folder, 'stderr').read_text()}")
                    break
                except subprocess.TimeoutExpired:
                    kill(run)
                    kills += 1
            same += all((out / n).read_bytes() == (Path(folder) / "whole" / n).read_bytes() for n in (*NAMES, STATE))
        print(f"{processes} process(es): {same} of {trials} runs identical after {kills} kills")


def begin(processes: int, out: Path) -> subprocess.Popen[bytes]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *torchrun, *OPTIONS.split(), str(out)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=quiet, stderr=quiet)


def kill(run: subprocess.Popen[bytes]) -> None:
    """SIGKILL to torchrun and to the processes it has started."""
    run.send_signal(signal.SIGSTOP)
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    run.kill()
    run.wait()


if __name__ == "__main__":
    main()
