"""Bad input at the command line: exit status 2, one line that names it, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.described import undigested
from test_cli import MINE, scorefield, state_after, trained

TINY_YAML = """
data: two_moons
steps: 5
batch_size: 32
device: cpu
net: {class_path: MLP, init_args: {features: 16, blocks: 1}}
"""

T = "train --config tiny.yaml --out new "
S = "sample RUN --steps 2 --seeds 0-3 "
L = "likelihood RUN --steps 2 --limit 2 "
E = "encode RUN --steps 2 "
C = "train-classifier RUN --config tiny_classifier.yaml --out new "
G = S + "--out x.png --classifier CLASSIFIER "

# (command, what the message names); one line at most, unless the parser of options speaks
BAD = [
    (T + "--data nope", "--data nope: .*two_moons"),
    (T + "--sde vp", "there is no class vp: did you mean VP"),
    (T + "--objective denoising", "did you mean DenoisingScoreMatching"),
    ("invert RUN --operator blurr --y x.png --sigma 1 --out x", "there is no class blurr: did you mean Blur"),
    ("certify Nothing", "there is no class Nothing: one of your own needs its import path"),
    (T + "--data none.npy", "none.npy"),
    (T + "--data notes.txt", "notes.txt.*npy"),
    (T + "--data nan.npy", "nan.npy.*NaN"),
    (T + "--data constant.npy", "constant"),
    (T + "--data one.npy", "held_out"),
    (T + "--data conditions.npz", "cond_features"),
    (T + "--data classes.npz", "label.*classes.npz"),
    (T + "--steps -3", "--steps.*-3"),
    (T + "--steps 0", "--steps.*0"),
    (T + "--steps many", "steps.*whole number.*many"),
    (T + "--save_every 0", "--save_every"),
    (T + "--batch_size 0", "batch.size.*0"),
    (T + "--batch_size -1", "batch.size.*-1"),
    (T + "--held_out 0", "held_out.*0"),
    (T + "--held_out 1.5", "held_out.*1.5"),
    (T + "--label_dropout 2", "label_dropout.*2"),
    (T + "--label_dropout -0.5", "label_dropout.*-0.5"),
    (T + f"--seed {2**64}", f"seed.*{2**64}"),
    (T + "--seed x", "seed.*whole number"),
    (T + "--device nope", "--device nope"),
    (T + "--device cuda:77", "--device cuda:77"),
    (T + "--device meta", "--device meta"),
    (T + "--precision float16", "precision.*float32, bfloat16"),
    (T + "--nope 1", "--nope"),
    (T + "--out RUN", "--out .*--resume true"),
    (T + "--out notes.txt", "notes.txt"),
    (T + "--out notes.txt/run", "notes.txt"),
    (T + "--out /proc/nowhere/run", "/proc/nowhere"),
    (T + "--optimisation.lr -1", "lr"),
    (T + "--optimisation.lr 1e30 --optimisation.warmup 0 --steps 20", "loss.*(NaN|nan|inf|finite)"),
    (T + "--optimisation.warmup -3", "warmup"),
    (T + "--accumulate 0", "cut into 1 processes x 0 micro-batches"),
    (T + "--accumulate 33", "32 samples cannot be cut"),
    (T + "--keep 0", "keep.*0"),
    (T + "--sample_every 0", "--sample_every.*0"),
    ("train --data two_moons --init none --out new", "none.*config.json"),
    (T + "--init RUN", "--init.*leave --net"),
    ("train --data digits --init RUN --out new", "--init RUN.*train anew"),
    (T + "--data bad_pictures", "bad_pictures: a.png: cannot be read"),
    (T + "--data broken.csv", "broken.csv: line 2"),
    (T + "--optimisation.decay -3", "decay"),
    (T + "--optimisation.half_life 0", "half_life"),
    (T + "--optimisation.widths [0.1,0.5]", "widths.*0.5"),
    (T + "--optimisation.betas [0.9,1.5]", "beta"),
    (T + "--sde Nope", "sde.*Nope"),
    (T + "--sde os.system", "sde.*os.system"),
    (T + "--sde VE --sde.sigma_min -1", "sigma_min"),
    (T + "--sde VE --sde.nope 1", "nope"),
    (T + "--precond EDMPrecond --precond.sigma_data 0", "sigma_data"),
    (T + "--net UNet", "UNet.*use MLP"),
    (T + "--net.features 3", "features|even"),
    (T + "--net.blocks -1", "blocks"),
    (T + "--net.dropout 2", "dropout.*2"),
    (T + "--net mine.Forgetful", "Forgetful.*'depth'"),
    (T + "--net mine.Nope", "mine.Nope"),
    (T + "--config none.yaml", "none.yaml"),
    (T + "--config broken.yaml", "config"),
    (T + "--config unknown.yaml", "stepps"),
    (T + "--config list.yaml", "config"),
    (T + "--config python.yaml", "config"),
    (T + "--out RUN --resume true --steps 30 --seed 1", "state.safetensors.*seed 1"),
    (T + "--out RUN --resume true --steps 30 --net.features 32", "state.safetensors"),
    (T + "--out RUN --resume true --steps 30 --data checkerboard", "state.safetensors"),
    (T + "--out RUN --resume true --steps 20 --optimisation.lr 0.5", "state.safetensors.*optimisation"),
    (T + "--out LOST_STATE --resume true", "LOST_STATE.*no checkpoint to go on from"),
    (T + "--out DAMAGED_STATE --resume true", "state.safetensors is not what was written.*all checkpoints are damaged"),
    ("train --data two_moons", "out"),
    ("train --out new", "data"),
    (S + "--out x.png --seeds abc", "--seeds abc.*0-63"),
    (S + "--out x.png --seeds 3-1", "--seeds 3-1"),
    (S + "--out x.png --seeds -1", "--seeds -1"),
    (S + "--out x.png --seeds 1,,2", "--seeds 1,,2"),
    (S + "--out x.png --seeds 1.5", "--seeds 1.5"),
    (S + "--out x.png --seeds 0-99999999", "--seeds 0-99999999"),
    (S + f"--out x.png --seeds {2**64}", f"seed.*{2**64}"),
    (S + "--out x.png --steps 0", "steps.*0"),
    (S + "--out x.png --steps -5", "steps.*-5"),
    (S + "--out x.png --label 2", "label.*0 to 1.*2"),
    (S + "--out x.png --label -1", "label.*0 to 1.*-1"),
    (S + "--out x.png --label one", "label.*one"),
    (S + "--out new/x.png --label 2", "label"),
    (S + "--out x.png --batch_size 0", "batch_size.*0"),
    (S + "--out x.png --solver Nope", "solver.*Nope"),
    (S + "--out x.png --solver EulerMaruyama --solver.eta -1", "eta.*-1"),
    (S + "--out x.png --device nope", "--device nope"),
    (S + "--out x.jpg", "--out x.jpg.*png"),
    (S + "--out folder.png", "--out folder.png"),
    (S + "--out notes.txt", "--out notes.txt"),
    (S + "--out notes.txt/x.png", "notes.txt"),
    (S + "--out /proc/nowhere/x.png", "/proc/nowhere"),
    (S + "--out /proc/x.npz", "/proc/x.npz"),
    ("sample UNLABELLED --out x.png --label 0", "label.*no classes"),
    ("sample SIGNALS --out x.png", r"--out x.png.*\(1, 8\).*npz"),
    ("sample none --out x.png", "none.*config.json"),
    ("sample notes.txt --out x.png", "notes.txt.*config.json"),
    ("sample DAMAGED_CONFIG --out x.png", "config.json.*damaged"),
    ("sample DAMAGED_WEIGHTS --out x.png", "model.safetensors.*damaged"),
    ("sample OTHER_WEIGHTS --out x.png", "model.safetensors.*fit"),
    ("sample UNKNOWN_CLASS --out x.png", "config.json.*os.system"),
    ("sample", "run"),
    (L + "--data nope --out x.csv", "--data nope"),
    (L + "--data digits --out x.csv", r"data.*\(2,\).*\(1, 8, 8\)"),
    (L + "--data checkerboard --use_labels true --out x.csv", "--use_labels.*no labels"),
    (L + "--data rings --limit 8 --use_labels true --out x.csv", "label.*0 to 1"),
    (L + "--data two_moons --out x.txt", "--out x.txt.*csv"),
    (L + "--data two_moons --out folder.csv", "--out folder.csv"),
    (L + "--data two_moons --out notes.txt/x.csv", "notes.txt"),
    (L + "--data two_moons --out x.csv --limit 0", "--limit.*0"),
    (L + "--data two_moons --out x.csv --tolerance 0", "tolerance must lie in"),
    (L + "--data two_moons --out x.csv --sketch 2", "--sketch.*--probes"),
    (L + "--data two_moons --out x.csv --draws 2", "--draws 2.*integers alone"),
    ("likelihood RUN --limit 2 --data two_moons --out x.csv --method bound --draws 5", "multiple of 4"),
    ("likelihood RUN --limit 2 --data two_moons --out x.csv --method bound --draws 0", "--draws 0"),
    (L + "--data two_moons --out x.csv --method bound --steps 5", "--steps: goes with --method ode"),
    (
        "likelihood RUN --data two_moons --out x.csv --method bound --probes 2 --sketch 1",
        "--probes: goes with --method",
    ),
    (L + "--data two_moons --out x.csv --probes 2 --sketch 3", "--sketch 3: the data have 2 dimensions"),
    (L + "--data two_moons --out x.csv --centred true", "--centred true: is for integers"),
    (L + "--data two_moons --out x.csv --steps 0", "steps.*0"),
    (L + "--data two_moons --out x.csv --probes 0", "probes.*0"),
    (L + "--data two_moons --out x.csv --batch_size 0", "batch_size.*0"),
    (L + "--data two_moons --out x.csv --batch_size -1", "batch_size.*-1"),
    ("likelihood none --data two_moons", "none.*config.json"),
    ("likelihood INTEGERS --data triples.npy --out x.csv", "holds real numbers, the model is of integers"),
    (E + "--data digits --out x.npz", r"data.*\(2,\).*\(1, 8, 8\)"),
    (E + "--data two_moons --out x.csv", "--out x.csv.*npz"),
    (E + "--data two_moons --out x.npz --steps 0", "steps.*0"),
    (E + "--data two_moons --out x.npz --batch_size 0", "batch_size.*0"),
    ("encode none --data two_moons", "none.*config.json"),
    (C.replace("RUN", "none"), "none.*config.json"),
    (C.replace("RUN", "CLASSIFIER"), "CLASSIFIER.*describes a classifier; wanted a score model"),
    (C + "--data checkerboard", "--data checkerboard: .*labels of 2 classes or more; got 0"),
    (C + "--data digits --net MLPClassifier", r"RUN: .*\(2,\).*digits has \(\(1, 8, 8\)"),
    (C + "--data rings", r"RUN: .*classes.*\(2, .*rings are"),
    (C + "--steps 0", "--steps.*0"),
    (C + "--seed -1", "seed.*-1"),
    (C + "--net MLP", "net.*MLP"),
    (C + "--net UNetClassifier", "UNetClassifier.*use MLPClassifier"),
    (C + "--out CLASSIFIER", "--out .*--resume true"),
    (C + "--out CLASSIFIER --resume true --steps 30 --seed 1", "state.safetensors.*seed 1"),
    (C + "--out CLASSIFIER --resume true --steps 30 --net.features 32", "state.safetensors"),
    ("train-classifier --data two_moons --out new", "run"),
    ("train-classifier RUN --out new", "data"),
    (T + "--objective CrossEntropy", "CrossEntropy trains a NoisyClassifier; got Preconditioned"),
    (G, "--label"),
    (G + "--label 2", "label.*0 to 1; got .2"),
    (G + "--label 1 --guidance .nan", "weight.*nan"),
    (G + "--label 1 --guidance 2 --guidance_interval [0,1]", "--guidance_interval.*--classifier"),
    (G + "--label 1 --classifier RUN", "RUN.*describes a score model; wanted a classifier"),
    (G + "--label 1 --classifier none", "none.*config.json"),
    ("sample CLASSIFIER --out x.png", "describes a classifier; wanted a score model"),
    ("sample SIGNALS --classifier CLASSIFIER --label 1 --out x.npz", r"event shape .*\(2,\) and \(1, 8\)"),
    ("sample UNLABELLED --classifier CLASSIFIER --label 1 --out x.png", "transform .*differ"),
    ("sample OTHER_PROCESS --classifier CLASSIFIER --label 1 --out x.png", "process .*differ"),
    ("sample ONLY_LABELS --classifier CLASSIFIER --label 1 --out x.png", "only with labels"),
    ("sample ONLY_LABELS --guidance 2 --label 1 --out x.png", "with and without labels.*--label_dropout"),
    ("sample UNLABELLED --guidance 2 --label 1 --out x.png", "with and without labels.*--classifier"),
    (S + "--out x.png --guidance 2", "--label"),
    (S + "--out x.png --guidance 2 --label 2", "label.*0 to 1.*2"),
    (S + "--out x.png --guidance .inf --label 1", "weight.*inf"),
    (S + "--out x.png --guidance_interval [0,1] --label 1", "--guidance_interval.*--guidance"),
    (S + "--out x.png --guidance 2 --guidance_interval [2,1] --label 1", r"interval.*\(2.0, 1.0\)"),
    ("average CLASSIFIER --width 0.1 --out new", "describes a classifier"),
    ("average none --width 0.1 --out new", "none.*config.json"),
    ("average RUN --width 0.1 --out new", "RUN.averages: holds no snapshots: train with --optimisation.widths"),
    ("average RUN --width 0.1 --out RUN", "--out RUN: holds a model already"),
    ("info none", "none: neither a file nor a folder nor one of digits"),
    ("info RUN --nope", "--nope"),
    ("demo --out new --steps 0", "--steps.*0"),
    ("demo --out new --steps 1 --samples 0", "samples.*0"),
    ("demo --out notes.txt", "notes.txt"),
    ("nope", "nope.*train"),
    ("", "subcommand|command"),
]

RUN_ALL = """
import contextlib, io, json, os, sys
from pathlib import Path
from scorefield.cli import main

def tree():
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}

sys.path.insert(0, os.getcwd())
sys.dont_write_bytecode = True
outcomes = []
for command in json.load(sys.stdin):
    before, out, err = tree(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command.split())
        except SystemExit as stop:
            status = f"exit {stop.code}"
        except BaseException as error:
            status = f"traceback {error!r}"
    after = tree()
    changed = sorted(path for path in {**before, **after} if before.get(path, 0) != after.get(path, 0))
    for path in reversed(changed):  # the next command starts from the same files
        if path not in before:
            Path(path).rmdir() if Path(path).is_dir() else Path(path).unlink()
        elif before[path] is not None:
            Path(path).write_bytes(before[path])
    outcomes.append((status, err.getvalue(), changed))
print(json.dumps(outcomes))
"""


def spoil(folder):
    """The files that the bad commands meet."""

    def copy(name, **contents):
        shutil.copytree(folder / "RUN", folder / name)
        places = {"state": state_after(20), "model": "model.safetensors", "config": "config.json"}
        for part, content in contents.items():
            file = folder / name / places[part]
            if content is not None:
                file.write_bytes(content)
            elif part == "state":
                shutil.rmtree(folder / name / "checkpoints")
            else:
                file.unlink()

    trained(folder / "RUN")
    config = undigested(folder / "RUN").encode()
    copy("LOST_STATE", state=None)
    copy("DAMAGED_STATE", state=(folder / "RUN" / state_after(20)).read_bytes()[:-9])
    copy("DAMAGED_CONFIG", config=config[:100])
    copy("DAMAGED_WEIGHTS", model=(folder / "RUN" / "model.safetensors").read_bytes()[:-9])
    copy("OTHER_WEIGHTS", config=config.replace(b'"features": 16', b'"features": 32'))
    copy("UNKNOWN_CLASS", config=config.replace(b'"MLP"', b'"os.system"'))
    generator = np.random.default_rng(0)
    np.save(folder / "signals.npy", generator.normal(size=(20, 1, 8)).astype("f4"))
    np.save(folder / "bits.npy", generator.random((20, 3)) > 0.5)
    copy("OTHER_PROCESS", config=config.replace(b'"beta_max": 20.0', b'"beta_max": 10.0'))
    copy("ONLY_LABELS", config=config.replace(b'"needs_label": false', b'"needs_label": true'))
    scorefield(
        *("train-classifier", folder / "RUN", "--data", "two_moons", "--out", folder / "CLASSIFIER"),
        *("--net", "MLPClassifier", "--net.features", 16, "--net.blocks", 1, "--batch_size", 32, "--steps", 20),
    )
    trained(folder / "UNLABELLED", "checkerboard", "--steps", 2)
    trained(folder / "SIGNALS", folder / "signals.npy", "--steps", 2)
    trained(folder / "INTEGERS", folder / "bits.npy", "--steps", 2)
    pairs = generator.normal(size=(20, 2)).astype("f4")
    np.save(folder / "pairs.npy", pairs)
    np.save(folder / "triples.npy", generator.normal(size=(20, 3)))
    np.save(folder / "one.npy", pairs[:1])
    np.save(folder / "nan.npy", pairs * np.nan)
    np.save(folder / "constant.npy", np.ones((20, 2), "f4"))
    np.savez(folder / "conditions.npz", x=pairs, cond=pairs)
    np.savez(folder / "classes.npz", x=pairs, labels=np.arange(20) * 10**12)
    (folder / "bad_pictures").mkdir()
    (folder / "bad_pictures" / "a.png").write_bytes(b"hello")
    (folder / "broken.csv").write_text("x,y\n1,z\n")
    for name in ("folder.png", "folder.csv"):
        (folder / name).mkdir()
    for name, text in {
        "notes.txt": "hello",
        "mine.py": MINE,
        "tiny.yaml": TINY_YAML,
        "tiny_classifier.yaml": TINY_YAML.replace("MLP", "MLPClassifier"),
        "broken.yaml": "data: [two_moons",
        "unknown.yaml": "stepps: 3",
        "list.yaml": "[1, 2]",
        "python.yaml": "data: !!python/object/apply:os.mkdir [executed]",
    }.items():
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each bad command does, in a process without the run-time checks of types that conftest installs."""
    folder = tmp_path_factory.mktemp("bad")
    spoil(folder)
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps([command for command, _ in BAD]),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip([command for command, _ in BAD], json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("command", "named"), BAD, ids=[command or "nothing" for command, _ in BAD])
def test_bad_input_ends_in_a_line_that_names_it_and_writes_nothing(command, named, outcomes):
    status, err, changed = outcomes[command]
    assert status in (2, "exit 2"), f"{status}: {err[-300:]}"
    assert re.search(named, err, re.DOTALL), err[-500:]
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if not line.startswith(("scorefield: warning: ", "found in "))]
    assert "error:" in err and (status == "exit 2" or len(lines) == 1), err[-500:]
    assert changed == []
