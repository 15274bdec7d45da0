"""Damaged models: each is refused with the file's name, and nothing that a file says is executed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
from helpers.described import undigested
from safetensors.torch import load, save
from test_model import model_of, same_answers

from scorefield import ScoreModel
from scorefield.model.stored import read_about


class DELETE:
    """Stands for an entry that is taken out."""


def config(*path, to):
    """Changes one entry of config.json."""

    def damage(run):
        described = json.loads(undigested(run))
        entry = described
        for key in path[:-1]:
            entry = entry[key]
        if to is DELETE:
            del entry[path[-1]]
        else:
            entry[path[-1]] = to
        (run / "config.json").write_text(json.dumps(described))

    return damage


def text(content):
    return lambda run: (run / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())


def replaced(old, new):
    def damage(run):
        content = undigested(run)
        assert old in content
        (run / "config.json").write_text(content.replace(old, new, 1))

    return damage


def raw(change):
    """Changes the bytes of the weights."""

    def damage(run):
        file = run / "model.safetensors"
        file.write_bytes(bytes(change(bytearray(file.read_bytes()))))

    return damage


def tensors(change):
    """Changes the named weights of a well-formed file."""

    def damage(run):
        file = run / "model.safetensors"
        weights = load(file.read_bytes())
        change(weights)
        file.write_bytes(save(weights))

    return damage


def flipped(place):
    def change(data):
        data[place] ^= 0xFF
        return data

    return raw(change)


NET, SDE, TRANSFORM = ("denoiser", "net"), ("denoiser", "sde"), ("transform",)
WEIGHT = "net.inp.weight"
DAMAGE = {
    "no folder": (lambda run: [p.unlink() for p in run.iterdir()] and run.rmdir(), "config.json"),
    "no config": (lambda run: (run / "config.json").unlink(), "config.json"),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    # classes
    **{
        f"class {name}": (config(*where, "class", to=name), "unknown class")
        for where in (("denoiser",), NET, SDE, TRANSFORM)
        for name in ("os.system", "builtins.eval", "eval", "torch.nn.Linear", "Linear", "seeded", "scorefield.nn.MLP")
    },
    "a call": (config(*NET, to={"class": "os.system", "command": "touch executed"}), "unknown class"),
    "class null": (config(*NET, "class", to=None), "unknown class"),
    "class list": (config(*NET, "class", to=["MLP"]), "unknown class"),
    "class missing": (config(*NET, "class", to=DELETE), "unknown class"),
    "abstract class": (config("denoiser", to={"class": "Denoiser", "sde": {"class": "VP"}}), "Denoiser"),
    "classes swapped": (config("denoiser", to={"class": "Affine"}), "denoiser"),
    # arguments
    "argument missing": (config(*NET, "event_shape", to=DELETE), "event_shape"),
    "argument unknown": (config(*NET, "bogus", to=1), "bogus"),
    **{
        f"{'.'.join(path)} = {value!r}": (config(*path, to=value), "config.json")
        for path, values in {
            (*NET, "features"): (-4, 10**12, "16", 16.5, None),
            (*NET, "classes"): (-2, 10**15, "two"),
            (*NET, "event_shape"): ("ab", [-2], None, [10**15]),
            NET: (3, "MLP", None, {"class": "VP"}),
            SDE: (3, "VP", None, {"class": "MLP", "event_shape": [2]}),
            ("denoiser", "precond"): (None, "EDMPrecond", {"class": "VP"}),
            ("denoiser", "precond", "sigma_data"): ("a", 0, -1.0),
            (*SDE, "beta_min"): (-1, "a", None),
            ("transform", "scale"): (-1, "a", [[1], [1, 2]]),
            ("transform", "shift"): ("a", [1, 2, 3]),
            ("transform", "levels"): (-3, "many", 1.5),
            ("denoiser",): ({"class": "FromScore", "model": 3}, 3, None),
            ("event_shape",): ("ab", [-1], [2.7], None, 2),
            ("classes",): (-3, "two", 1.5, None, DELETE),
            ("transform",): (None, 3, DELETE),
            ("about",): (3, "hi", [1]),
            ("cond_transform",): (3, "Affine", {"class": "VP"}, {"class": "Affine", "scale": [0.0]}),
            ("needs_label",): (3, "no", None, DELETE),
        }.items()
        for value in values
    },
    **{
        f"far too {name}": (config(*NET, name, to=value), message)
        for name, value, message in (
            ("features", 20_000, "config.json: .*instead of"),
            ("blocks", 10**6, "config.json: .*far more weights than its file"),
            ("classes", 10**9, "config.json: .*missing net.embedding.label"),
        )
    },
    "far too many numbers in an event": (config("event_shape", to=[2, 10**5, 10**5]), "config.json.*events of shape"),
    "a name twice": (replaced('"classes": 0', '"classes": 0, "classes": 0'), "config.json.*twice"),
    "NaN": (replaced('"dropout": 0.0', '"dropout": NaN'), "config.json"),
    "infinity": (replaced('"classes": 0', '"classes": Infinity'), "config.json"),
    "NaN scale": (replaced('"scale": [\n      2.0', '"scale": [\n      NaN'), "config.json"),
    # the file
    **{f"format {value!r}": (config("format", to=value), "format 1") for value in (2, "1", None, DELETE)},
    "a list": (text("[1]"), "config.json"),
    "null": (text("null"), "config.json"),
    "empty": (text(""), "config.json"),
    "truncated": (replaced('"transform"', ""), "config.json"),
    "not UTF-8": (text(b"\xff\xfe\x00"), "config.json"),
    "deep list": (text("[" * 100_000 + "]" * 100_000), "config.json"),
    "deep shift": (replaced('"shift": [', '"shift": [' + "[" * 900 + "]" * 900 + ","), "config.json"),
    "deep classes": (
        replaced(
            '"denoiser": {', '"denoiser": ' + '{"class": "FromScore", "model": ' * 600 + "1" + "}" * 600 + ', "x": {'
        ),
        "config.json",
    ),
    "long number": (replaced('"classes": 0', '"classes": ' + "9" * 5000), "config.json"),
    **{
        f"{old} for {new} under the digest": (
            lambda run, old=old, new=new: (run / "config.json").write_text(
                (run / "config.json").read_text().replace(old, new, 1)
            ),
            "config.json: damaged .it is not what was written; if the change is meant, take 'sha256' out",
        )
        for old, new in {
            '"beta_max": 15.0': '"beta_max": 14.0',
            '"steps": 3': '"steps": 4',
            '"features": 16': '"features": 18',
            '"sha256": "': '"sha256": "0',
            '"data"': '"date"',
        }.items()
    },
    # the weights
    "weights empty": (raw(lambda data: b""), "model.safetensors"),
    "weights of text": (raw(lambda data: b"x" * 1000), "model.safetensors"),
    "weights truncated": (raw(lambda data: data[:-10]), "model.safetensors"),
    "weights longer": (raw(lambda data: data + b"x"), "model.safetensors"),
    "weights' header flipped": (flipped(20), "model.safetensors"),
    "weights' size flipped": (flipped(7), "model.safetensors"),
    "weights flipped": (flipped(-50), "model.safetensors"),
    "weight missing": (tensors(lambda weights: weights.pop(WEIGHT)), f"missing {WEIGHT}"),
    "weight unexpected": (tensors(lambda weights: weights.update(more=torch.zeros(2))), "unexpected more"),
    "weight's shape": (
        tensors(lambda weights: weights.update({WEIGHT: torch.zeros(7)})),
        r"\(7,\) instead of \(16, 2\)",
    ),
    "weight of integers": (tensors(lambda w: w.update({WEIGHT: torch.zeros(16, 2, dtype=torch.int64)})), WEIGHT),
    "weight complex": (tensors(lambda w: w.update({WEIGHT: torch.zeros(16, 2, dtype=torch.complex64)})), WEIGHT),
}

LOAD_ALL = """
import json, sys
from pathlib import Path
from scorefield import ScoreModel

outcomes = {}
for run in json.load(sys.stdin):
    try:
        ScoreModel.load(run)
        outcomes[run] = "loaded", ""
    except BaseException as error:
        outcomes[run] = type(error).__name__, str(error)
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What loading each damaged model gives, without the run-time checks of types that conftest installs."""
    folder = tmp_path_factory.mktemp("damaged")
    runs = {}
    for k, (name, (damage, _)) in enumerate(DAMAGE.items()):
        runs[name] = folder / f"{k:03d}"
        model_of("vector").save(runs[name])
        damage(runs[name])
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL],
        input=json.dumps([str(run) for run in runs.values()]),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert sorted(p.name for p in folder.iterdir() if p not in runs.values()) == [], "something in a file was executed"
    return {name: found[str(run)] for name, run in runs.items()}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_refused_and_the_file_is_named(name, outcomes):
    kind, message = outcomes[name]
    assert kind in ("ValueError", "FileNotFoundError"), f"{kind}: {message[:300]}"
    assert "config.json" in message or "model.safetensors" in message
    pattern = DAMAGE[name][1]
    assert re.search(pattern, message), message[:300]
    assert "\n" not in message and len(message) < 1200


def test_any_bit_of_a_description_is_under_its_digest(tmp_path):
    """Mutants: without the digest; a digest that leaves out a part of the description."""
    model_of("vector").save(tmp_path)
    file, whole = tmp_path / "config.json", json.loads((tmp_path / "config.json").read_text())
    data = file.read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            about = read_about(tmp_path)
        except ValueError as error:
            assert str(file) in str(error)
        else:  # of the digest's own name, by which the description is none the worse
            assert about == whole["about"] and len(json.loads(file.read_text()).keys() - whole.keys()) <= 1
            assert {**whole, **json.loads(file.read_text())}.items() >= whole.items()


def test_a_model_that_was_saved_before_the_digest_is_read(tmp_path):
    model = model_of("vector")
    model.save(tmp_path)
    (tmp_path / "config.json").write_text(undigested(tmp_path))
    assert "sha256" not in (tmp_path / "config.json").read_text()
    same_answers(ScoreModel.load(tmp_path), model)


def test_the_layout_of_a_description_does_not_matter(tmp_path):
    """A file that has gone through another program, and what a reader makes of keys and tuples."""
    model = model_of("vector")
    model.about = {"by number": {10: "ten", 2: "two"}, "tuple": (1, 2.5), "word": "h\u00e9"}
    model.save(tmp_path)
    read = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(dict(reversed(read.items())), ensure_ascii=False, indent=None))
    assert ScoreModel.load(tmp_path).about == {
        "by number": {"10": "ten", "2": "two"},
        "tuple": [1, 2.5],
        "word": "h\u00e9",
    }
