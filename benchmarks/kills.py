"""Ends commands at every operation on a file, and looks at what is left and what the same command makes of it.

    python benchmarks/kills.py [most] [commands, separated by commas]

At the k-th operation of a command on a file (open for writing, write, fsync, mkdir, rename, remove, rmdir) the process
ends, in the middle of a write; or the disk is full from there on, or read-only; or the folder of its output is removed.
Or two of one command run at once. Then nothing under a final name may be torn, what is said is a line, and the same
command completes to the bytes of one that was left alone. Each trial is a fork of a process that has imported
everything. Kills are at every operation, the rest at `most` of each command, 15 by default, spread over its operations.
"""

from __future__ import annotations

import builtins
import contextlib
import csv
import errno
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from scorefield import VP, Preconditioned, ScoreModel, plot
from scorefield._files import UNFINISHED, read_json, read_tensors
from scorefield.cli import main as scorefield
from scorefield.data import Affine
from scorefield.interop import save_diffusers
from scorefield.nn import NCSNpp, Pyramid, seeded
from scorefield.score import VPPrecond
from scorefield.training.checkpoint import _faults

TINY = "--net.features 8 --net.blocks 1 --batch_size 16 --device cpu --validation 16 --resume true"
SAVING = "--steps 8 --save_every 1"
FEW = "--device cpu --steps 2"
TRAIN = f"train --data points.npz --net MLP {TINY} --previews 0 --optimisation.half_lives [500,50]"
EFFORT = "--effort.samples 50 --effort.steps 2 --effort.calls [2] --effort.likelihoods 4 --effort.batch_size 25"
COMMANDS = {
    "train": f"{TRAIN} {SAVING} --optimisation.widths [0.1,0.2] --keep 2 --out out",
    "train-classifier": f"train-classifier run --data points.npz --net MLPClassifier {TINY} {SAVING} --out out",
    "evaluate": f"evaluate run --data points.npz --extractor Pixels {EFFORT} --device cpu --out out",
    "sample": f"sample run --seeds 0-15 --grid optimised {FEW} --out out",
    "import": "import pipeline --format diffusers --out out/model",
    "export": "export diffuser --format diffusers --out out/pipeline",
    "average": "average run --width 0.15 --out out",
    "likelihood": f"likelihood run --data points.npz --limit 4 {FEW} --out out/l.csv",
    "encode": f"encode run --data points.npz --limit 4 {FEW} --out out/l.npz",
    "stats": "stats --data points.npz --device cpu --keep true --out out/s.npz",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PLACE = {"os.rename": 0, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}
DESCRIPTOR = {"os.rename": 2, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1}
GROWING = ("open", "write", "os.mkdir")  # what a full disk refuses
QUIET = "*.lock"  # an empty file, which the next command that needs the lock removes


PICTURE = io.BytesIO()
Image.new("L", (64, 64)).save(PICTURE, "PNG")
PICTURE = PICTURE.getvalue()


class Watch:
    """Counts this process's operations on files of a folder, and lets something happen at one of them."""

    def __init__(self, root: Path, at: int, happens: Callable[[str, Callable[[], object]], None]) -> None:
        self.root, self.at, self.happens, self.count, self.busy = root, at, happens, 0, False

    def begin(self) -> None:
        """For good: the process is given to it."""
        real, fsync = io.open, os.fsync

        def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if self.busy or not set(mode) & set("wax+") or not self.has(file):
                return real(file, mode, *rest, **more)
            made = Writing(self, real(file, mode.replace("t", "").replace("b", "") + "b", 0))
            return made if "b" in mode else io.TextIOWrapper(made, "utf-8", write_through=True)

        def flushed(handle: int) -> None:
            self.note("fsync", handle)
            fsync(handle)

        io.open = builtins.open = opened
        os.fsync = flushed
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int) and arguments[2] & WRITING:
            self.note(event, arguments[0])
        elif event in PLACE:
            folder = arguments[DESCRIPTOR[event]] if event in DESCRIPTOR else -1
            base = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path()
            self.note(event, base / os.fsdecode(arguments[PLACE[event]]))

    def note(self, event: str, place: Any, half: Callable[[], object] = lambda: None) -> None:
        """One operation, before it takes place."""
        if not self.busy and self.has(place):
            self.count += 1
            if self.count >= self.at:
                self.busy = True
                try:
                    self.happens(event, half)
                finally:
                    self.busy = False

    def has(self, place: Any) -> bool:
        """Whether a path, or an open file, is in the folder."""
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(os.fsdecode(place))
        return path.absolute().is_relative_to(self.root)


class Writing(io.RawIOBase):
    """A file each write of which is an operation."""

    def __init__(self, watch: Watch, file: Any) -> None:
        self.watch, self.file = watch, file

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")

        def half() -> None:
            self.file.write(view[: len(view) // 2])
            self.file.flush()

        self.watch.note("write", self.file.fileno(), half)
        self.file.write(view)
        self.file.flush()
        return len(view)

    def readinto(self, buffer: Any) -> int | None:
        return self.file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self.file.truncate(size)

    def fileno(self) -> int:
        return self.file.fileno()

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return self.file.readable()

    def close(self) -> None:
        if not self.closed:
            self.file.close()
            super().close()


def killed(event: str, half: Callable[[], object]) -> None:
    half()
    os._exit(137)


def full(event: str, half: Callable[[], object]) -> None:
    if event in GROWING:
        half()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(event: str, half: Callable[[], object]) -> None:
    if event != "fsync":
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class Removed:
    """Somebody removes the output's folder, once."""

    done = False

    def __call__(self, event: str, half: Callable[[], object]) -> None:
        if not self.done:
            self.done = True
            shutil.rmtree("out", ignore_errors=True)


def begin(words: str, folder: Path, at: int = sys.maxsize, happens: Any = killed, name: str = "said") -> int:
    """Starts a command in a folder as a process of its own."""
    if pid := os.fork():
        return pid
    try:
        os.chdir(folder)
        said = os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        time.perf_counter = lambda: 0.0  # reports hold seconds
        Figure.savefig = lambda self, file, **_: file.write(PICTURE)  # most of the time otherwise
        plot.loss_curve = lambda *_: Figure()
        watch = Watch(folder, at, happens)
        watch.begin()
        status = 1
        try:
            status = scorefield(words.split())
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        Path(f"{folder}.count").write_text(str(watch.count))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(words: str, folder: Path, *how: Any) -> tuple[int, str]:
    """A command's status and what it said."""
    status = ended(begin(words, folder, *how))
    return status, Path(f"{folder}.said").read_text()


def tree(folder: Path) -> dict[str, bytes | None]:
    """All files and empty folders of a command's folder, but for what it reads alone."""
    found = (path for path in folder.rglob("*") if not path.match(QUIET))
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in found
        if path.is_file() or not any(path.iterdir())
    }


def faults(folder: Path) -> list[str]:
    """What is torn under a final name. A row of loss.csv that is being written may be: it is not read again."""
    found: list[str] = []
    for path in folder.rglob("*"):
        if any(UNFINISHED.fullmatch(part) for part in path.relative_to(folder).parts) or path.match(QUIET):
            continue
        try:
            if path.is_dir() and path.parent.name == "checkpoints":
                found += [f"{path}: {fault}" for fault in _faults(path)]
            elif path.suffix == ".json":
                read_json(path.read_text())
            elif path.suffix == ".safetensors":
                read_tensors(path)
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix in (".npy", ".npz"):
                loaded = np.load(path)
                _ = [loaded[name] for name in loaded] if path.suffix == ".npz" else loaded
            elif path.suffix == ".csv":
                rows = list(csv.reader(path.open(newline="")))
                whole = rows[:-1] if path.name == "loss.csv" else rows
                if not rows or {len(row) for row in whole} - {len(rows[0])}:
                    raise ValueError(f"rows of lengths {sorted({len(row) for row in rows})}")
            elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
                raise ValueError("it is cut short")
        except Exception as error:
            found.append(f"{path}: {error}")
    return found


class Trials:
    """The trials of one command."""

    def __init__(self, name: str, folder: Path, source: Path, most: int) -> None:
        self.name, self.words, self.folder, self.source, self.most = name, COMMANDS[name], folder, source, most
        whole = self.fresh()
        status, said = run(self.words, whole)
        assert status == 0, said
        self.wanted, self.operations = tree(whole), int(Path(f"{whole}.count").read_text())
        self.bad: list[str] = []

    def fresh(self) -> Path:
        """A folder with what the command reads."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.source, folder, dirs_exist_ok=True)
        (folder / "out").mkdir()
        return folder

    def points(self, kind: str) -> list[int]:
        """Operations at which something happens, from the first to the last."""
        most = self.operations if kind == "killed" else min(self.most, self.operations)
        return [1 + k * self.operations // most for k in range(most)]

    def check(self, kind: str, folder: Path, said: str, same: Callable[[dict[str, Any]], bool]) -> None:
        """What is left, and what the command makes of it."""
        problems = faults(folder)
        if "Traceback" in said or (
            said and "error:" in said and len([s for s in said.splitlines() if "error:" in s]) > 1
        ):
            problems.append(said[-600:])
        status, again = run(self.words, folder)
        found = tree(folder)
        left = kind.startswith("removed") and "no checkpoint to go on from" in again  # a model whose checkpoints went
        refused = status == 2 and (left or "is not empty" in again or "holds a model already" in again)
        if not (status == 0 or refused):
            problems.append(f"the same command ended with {status}: {again[-600:]}")
        elif not same(found):
            different = [name for name in {*found, *self.wanted} if found.get(name, 0) != self.wanted.get(name, 0)]
            problems.append(f"other bytes: {sorted(different)[:8]}")
        self.bad += [f"{self.name}, {kind}: {problem}" for problem in problems]
        shutil.rmtree(folder)
        for file in self.folder.glob(f"{folder.name}.*"):
            file.unlink()

    def interrupted(self, kind: str, happens: Callable[[], Any], statuses: tuple[int, ...]) -> int:
        """Something happens at every operation; the number of trials."""
        for at in self.points(kind):
            folder = self.fresh()
            status, said = run(self.words, folder, at, happens())
            if status not in statuses:
                self.bad.append(f"{self.name}, {kind} at {at}: ended with {status}: {said[-600:]}")
            self.check(
                f"{kind} at {at}",
                folder,
                said if kind != "killed" else "",
                self.partly if kind == "removed" else self.all,
            )
        return len(self.points(kind))

    def at_once(self) -> int:
        """Two of the same command; the number of pairs."""
        for k in range(self.most):
            folder = self.fresh()
            both = [begin(self.words, folder, name=f"said{j}") for j in range(2)]
            statuses = {ended(pid) for pid in both}
            said = [Path(f"{folder}.said{j}").read_text() for j in range(2)]
            if not statuses <= {0, 2} or 0 not in statuses:
                self.bad.append(f"{self.name}, pair {k}: ended with {statuses}: {said}"[:1200])
            self.check(f"pair {k}", folder, "".join(s for s in said if "Traceback" in s), self.all)
        return self.most

    def all(self, found: dict[str, Any]) -> bool:
        return found == self.wanted

    def partly(self, found: dict[str, Any]) -> bool:
        """As `all`, but for older checkpoints and averages, which went with the folder, and losses before them."""
        lost = {name for name in self.wanted if "checkpoints/" in name or "averages/" in name}
        lost |= {name for name in self.wanted if name.endswith(("loss.csv", "loss.png"))} if lost else set()
        return all(found.get(name) == value for name, value in self.wanted.items() if name not in lost)


def prepare(folder: Path) -> None:
    """What the commands read: a run of points, and pictures' models of ours and of diffusers."""
    points = np.random.default_rng(0).normal(size=(400, 2))
    np.savez(folder / "points.npz", x=points, labels=(points[:, 0] > 0).astype(int))
    words = f"{TRAIN} --steps 4 --save_every 2 --optimisation.widths [0.1,0.2] --out run"
    status, said = run(words, folder)
    assert status == 0, said
    if not (pid := os.fork()):
        with seeded(0):
            plain = {
                "fourier_scale": None,
                "resample_blocks": False,
                "fir": False,
                "rescale": False,
                "attention_each": True,
            }
            net = NCSNpp((3, 8, 8), 0, 32, (32,), 1, (False,), pyramid_in=Pyramid.NONE, group_width=1, **plain)
        model = ScoreModel(Preconditioned(net, VP(), VPPrecond()), (3, 8, 8), Affine.of_levels(256))
        model.save(folder / "diffuser")
        save_diffusers(model, folder / "pipeline")
        os._exit(0)
    assert ended(pid) == 0
    shutil.rmtree(folder / "run" / "checkpoints")


KINDS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "killed": (lambda: killed, (137,)),
    "full": (lambda: full, (0, 2)),
    "read-only": (lambda: read_only, (0, 2)),
    "removed": (Removed, (0, 2)),
}


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    chosen = sys.argv[2].split(",") if len(sys.argv) > 2 else list(COMMANDS)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:  # all that is imported and built but once
        warm = Path(place) / "warm"
        (warm / "out").mkdir(parents=True)
        prepare(warm)
        os.chdir(warm)
        for name in chosen:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                scorefield(COMMANDS[name].split())
            shutil.rmtree("out")
        os.chdir("/")
    start, counts, bad = time.perf_counter(), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        source.mkdir()
        prepare(source)
        print(
            f"{'command':17} {'operations':>10}" + "".join(f"{kind:>10}" for kind in (*KINDS, "pairs")) + "   seconds",
            flush=True,
        )
        for name in chosen:
            began = time.perf_counter()
            trials = Trials(name, Path(place), source, most)
            numbers = {kind: trials.interrupted(kind, *how) for kind, how in KINDS.items()}
            numbers["pairs"] = trials.at_once()
            counts.update(numbers)
            bad += trials.bad
            seconds = time.perf_counter() - began
            print(
                f"{name:17} {trials.operations:10}" + "".join(f"{n:10}" for n in numbers.values()) + f"{seconds:10.0f}",
                flush=True,
            )
            for problem in trials.bad[:5]:
                print(f"  {problem}", flush=True)
    print(f"{'all':28}" + "".join(f"{n:10}" for n in counts.values()) + f"{time.perf_counter() - start:10.0f}")
    print(f"{counts.total()} trials, {len(bad)} problems")
    print(json.dumps(bad[:50], indent=1) if bad else "nothing is torn, and every command completes to the same bytes")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
