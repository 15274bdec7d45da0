"""Reports: their numbers are those of the parts, for any number of processes and after any kill; the page opens."""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex
import shutil
import subprocess
import warnings
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from helpers.limits import memory_left
from helpers.processes import Warming

from scorefield import VP, EDMPrecond, Preconditioned, ScoreModel, ScoreNetwork
from scorefield.cli import main
from scorefield.cli.parts import featuring
from scorefield.data import ArrayDataset, Diverged, Subset, digits, split, two_moons
from scorefield.data.dataset import choice
from scorefield.data.transforms import Affine
from scorefield.evaluate import (
    Effort,
    LabelFeatures,
    Ledger,
    Sets,
    compare,
    evaluate,
    paths,
    train_label_features,
    write_report,
)
from scorefield.evaluate.work import Work
from scorefield.metrics import (
    Features,
    FeatureStats,
    ModuleFeatures,
    Pixels,
    expected_frechet,
    extract,
    frechet_distance,
    memorisation,
    precision_recall,
    sliced_wasserstein,
)
from scorefield.nn import MLP, seeded
from scorefield.solvers import BogackiShampine
from scorefield.training import Optimisation, Snapshots, TrainState, distributed

pytestmark = pytest.mark.usefixtures("unchecked")
FAST = Effort(samples=60, steps=3, calls=(2, 4), curve_samples=50, likelihoods=18, batch_size=16)
WORDS = [
    *("--effort.samples", "60", "--effort.steps", "3", "--effort.calls", "[2,4]", "--effort.likelihoods", "18"),
    *("--effort.batch_size", "16", "--effort.seed", "3"),
]


def model_of(data, event_shape, classes=0):
    with seeded(0):
        net = MLP(event_shape, classes, features=16, blocks=1)
    for weight in net.parameters():
        with seeded(1):
            torch.nn.init.normal_(weight, std=0.3)
    about = {"held_out": 0.2, "seed": 1}
    return ScoreModel(Preconditioned(net, VP(), EDMPrecond(0.5)), event_shape, Affine.fitted(data), classes, about)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    model_of(digits(), (1, 8, 8), 10).save(path)
    return path


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    path = tmp_path_factory.mktemp("extractor") / "extractor.safetensors"
    kept, held = split(digits(), 0.2, seed=1)
    rows = kept.index[split(kept, 0.5, seed=5)[0].index]
    train_label_features(digits(), rows, held, digest=digits().digest()[:16], steps=100).save(path)
    return path


@pytest.fixture(scope="module")
def report(run, extractor, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert (
        main(["evaluate", str(run), "--data", "digits", "--extractor", str(extractor), "--out", str(out), *WORDS]) == 0
    )
    return out


def numbers(out):
    """What is to be equal for equal arguments; infinite numbers are no JSON."""
    found = json.loads((out / "report.json").read_text(), parse_constant=lambda _: pytest.fail("no JSON"))
    return {k: v for k, v in found.items() if k not in ("seconds", "command", "made with")}


def test_a_report_holds_what_its_parts_say(run, extractor, report):
    """Seeds differ: 1 of the model's split, 5 of the rows that the classifier was fitted on, 3 of the evaluation."""
    found, model, net = numbers(report), ScoreModel.load(run), LabelFeatures.load(extractor)
    kept, held = split(digits(), 0.2, 1)
    reference = Subset(digits(), kept.index[~torch.isin(kept.index, net.rows)])
    sizes = [found["data"][f"{name} rows"] for name in ("training", "reference", "held-out")]
    assert sizes == [len(kept), len(reference), 60] and len(reference) == 719
    known = {"name": "classifier", "digest": net.digest, "features": 128}
    assert found["extractor"] == {**known, "held-out accuracy": pytest.approx(net.accuracy)} and net.accuracy > 0.9

    label = kept.rows(torch.randint(len(kept), (60,), generator=torch.Generator().manual_seed(3))).cond["label"]
    x = model.sample(seeds=range(3, 63), steps=3, label=label, batch_size=16)
    assert found["sampling"]["seeds"] == "3-62" and found["sampling"]["network calls"] == 3
    test = held.rows(choice(len(held), 60))
    features = [extract(net, v) for v in (reference.rows(torch.arange(719)).x, x, test.x)]
    for column, some, asked in (("samples", features[1], label), ("held out", features[2], test.cond["label"])):
        wanted = {**compare(features[0], some, seed=3)}
        right = float((some.logits.argmax(1) == asked).double().mean())
        got = {name.removesuffix("-classifier"): of[column] for name, of in found["metrics"].items()}
        assert got.pop("agreement")["value"] == pytest.approx(right)
        assert got.keys() == wanted.keys()
        for name, number in wanted.items():
            assert got[name]["value"] == pytest.approx(number.value, rel=2e-3, abs=2e-4), (column, name)
    shares = torch.bincount(features[1].logits.argmax(1), minlength=10).double() / 60
    assert found["classes"]["samples"] == pytest.approx(shares.tolist())

    for name, data in (("held out", held), ("training data", kept)):
        part = data.rows(choice(len(data), 18))
        bits = model.log_prob(part.x, label=part.cond["label"], seeds=range(3, 21), batch_size=16).bits_per_dim
        got = found["likelihood"][name]
        assert got["mean"] == pytest.approx(float(bits.mean()), rel=1e-5)
        assert got["standard error"] == pytest.approx(float(bits.std()) / math.sqrt(18), rel=1e-4)
    copied = memorisation(x, kept.rows(torch.arange(len(kept))).x, test.x)
    assert found["copies"]["z"] == pytest.approx(copied.z) and found["copies"]["training rows"] == len(kept)

    assert [calls for calls, _ in found["curve"]["solvers"]["Heun"]] == [1, 3]
    floor = extract(net, held.rows(choice(len(held), 60)).x)
    wanted = frechet_distance(FeatureStats.of(features[0]), FeatureStats.of(floor))
    assert found["curve"]["held out"] == pytest.approx(wanted, rel=1e-3) and found["curve"]["held-out rows"] == 60
    assert not (report / "unfinished").exists()


def test_paths_are_rough_by_the_sde_and_smooth_by_the_ode(run):
    """The sum of squared steps is the integral of g^2 for the one, and small for the other."""
    model = ScoreModel.load(run)
    walked = paths(model, digits().rows(torch.arange(20)).x, {})
    rough, smooth = (v.diff(dim=0).square().sum(0).mean() for v in (walked.reverse, walked.flow))
    assert float(rough) == pytest.approx(10.05, rel=0.1) and float(smooth) < 1
    assert float(walked.forward.diff(dim=0).square().sum(0).mean()) == pytest.approx(10.05, rel=0.1)


def test_the_pages_show_all_numbers_and_pictures(report):
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    for name, of in numbers(report)["metrics"].items():
        cells = [f"{of[column]['value']:.4g}" for column in ("samples", "held out")]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert [cell.split()[0] for cell in row.split("|")[2:4]] == cells
        row = page[page.index(f"<td>{name}</td>") :].partition("</tr>")[0]
        assert [cell.split()[0] for cell in re.findall(r'class="number">(.*?)</td>', row)] == cells
    pictures = {path.name for path in (report / "figures").iterdir()}
    assert {"samples.png", "curve.png", "likelihood.png", "neighbours.png", "stages.png", "classes.png"} <= pictures
    assert {f"figures/{name}" for name in pictures} == set(re.findall(r"\]\((figures/.*?)\)", text))
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # one file, which loads nothing

    class Balanced(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_the_page_opens_in_a_browser(report, tmp_path):
    """All pictures have been decoded, and nothing reaches beyond the window."""
    page = tmp_path / "page.html"
    script = (
        "<script>onload = () => { const i = [...document.images], page = document.documentElement; document.title = "
        "[i.length, i.every(x => x.naturalWidth > 50), page.scrollWidth <= innerWidth].join() }</script></body>"
    )
    page.write_text((report / "report.html").read_text().replace("</body>", script))
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    more = ("--disable-component-update", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}")
    command = ["chromium", *flags.split(), *more, "--window-size=1100,800", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    count = len(list((report / "figures").iterdir()))
    assert f"<title>{count},true,true</title>" in dom


def test_a_killed_evaluation_goes_on_to_the_same_report(run, extractor, report, tmp_path, monkeypatch):
    """Killed after every few parts, until it comes through; finished parts are not made again."""
    table, made = Ledger.table, []

    def killed(self, name, about, count, size, make):
        def one(part):
            if len(made) % 7 == 6:
                made.append(None)
                raise KeyboardInterrupt
            made.append((name, part))
            return make(part)

        return table(self, name, about, count, size, one)

    monkeypatch.setattr(Ledger, "table", killed)
    command = ["evaluate", str(run), "--data", "digits", "--extractor", str(extractor), "--out", str(tmp_path), *WORDS]
    status = 130
    for _ in range(30):
        if (status := main(command)) == 0:
            break
        assert status == 130 and not (tmp_path / "report.json").exists()
    assert status == 0 and made.count(None) > 3
    done = [part for part in made if part]
    assert len(done) == len(set(done))
    assert numbers(tmp_path) == numbers(report)


def test_another_model_or_seed_takes_no_finished_parts(run, tmp_path):
    calls = []

    def count(name):
        def make(part):
            calls.append(name)
            return {"x": torch.tensor([float(k) for k in part])}

        return make

    ledger = Ledger(tmp_path / "work")
    assert ledger.table("x", {"seed": 0}, 5, 2, count("a"))["x"].tolist() == [0, 1, 2, 3, 4]
    assert ledger.table("x", {"seed": 0}, 5, 2, count("b"))["x"].tolist() == [0, 1, 2, 3, 4]
    for about, n, size in (({"seed": 1}, 5, 2), ({"seed": 0}, 6, 2), ({"seed": 0}, 5, 3)):
        ledger.table("x", about, n, size, count("c"))
    assert calls == ["a"] * 3 + ["c"] * 8
    ledger.close()
    assert not (tmp_path / "work").exists()


def test_a_model_of_other_units_is_another_one():
    """Its finished parts are not taken for those of a model with the same weights."""
    model = model_of(digits(), (1, 8, 8), 10)
    digests = {""}
    for units in (None, Affine((280.0,), (8.0,)), Affine((7.0,), (8.0,))):
        same = ScoreModel(model.denoiser, model.event_shape, model.transform, 10, cond_transform=units)
        digests.add(Work(same, *[None] * 4).model_digest)
    assert len(digests) == 4


def test_processes_make_different_parts(tmp_path, monkeypatch):
    """Three in turn, in the place of three at once: what one waits for, the next one makes."""
    made = []

    def process(rank):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world", lambda: 3)
        monkeypatch.setattr(distributed, "wait", lambda: process(rank + 1) if rank < 2 else None)

        def make(part):
            made.append((rank, part.start))
            return {"x": torch.arange(part.start, part.stop)}

        return Ledger(tmp_path).table("x", {}, 20, 3, make)["x"].tolist()

    assert process(0) == list(range(20))
    assert made == [(0, 0), (0, 9), (0, 18), (1, 3), (1, 12), (2, 6), (2, 15)]


def test_points_of_the_plane_are_compared_by_their_numbers(tmp_path):
    data = two_moons(600)
    model = model_of(data, (2,))
    kept, held = split(data, 0.3)
    found = evaluate(
        model, Sets(kept, held, kept, {"name": "moons", "digest": ""}), Pixels(), FAST, Ledger(tmp_path / "work")
    )
    assert found.numbers["likelihood"]["unit"] == "nats" and "classes" not in found.numbers
    assert {"samples", "training data", "trajectories", "curve", "likelihood"} == set(found.pictures)
    assert found.numbers["metrics"]["FD-pixels"]["held out"]["value"] < 0.2


def test_a_comparison_that_is_too_large_is_refused_before_the_work(tmp_path, monkeypatch):
    """In 100 bytes, of which one row's features need 32. Neither features nor samples have been made."""
    monkeypatch.setattr("scorefield._memory.total", lambda: 100)
    kept, held = split(two_moons(300), 1 / 3)
    with pytest.raises(ValueError, match=r"a Frechet distance of 200 and 60 samples with 2 features needs"):
        evaluate(model_of(kept, (2,)), Sets(kept, held, kept, {}), Pixels(), FAST, Ledger(tmp_path / "work"))
    assert not [*(tmp_path / "work").rglob("*.safetensors")]


def test_every_comparison_tells_equal_laws_from_others():
    g = torch.Generator().manual_seed(1)
    x, y, z = (torch.randn(400, 4, generator=g) for _ in range(3))
    same, other = compare(Features(x), Features(y)), compare(Features(x), Features(2 * z + 1))
    for name in ("FD", "KID", "SW1", "SW2", "energy", "MMD", "C2ST"):
        assert other[name].value > same[name].value, name
    assert same["FD"].value == pytest.approx(same["FD"].chance, rel=0.6)
    fewer = compare(Features(x), Features(y[:300]))["FD"].chance
    assert fewer == pytest.approx(expected_frechet(FeatureStats.of(x).covariance, 400, 300))
    assert same["precision"].value > 0.8 > other["precision"].value
    assert same["coverage"].value > 0.9 > other["coverage"].value
    assert "IS" not in same
    values = {name: other[name].value for name in ("precision", "recall", "SW1", "SW2")}
    apart = precision_recall(x, 2 * z + 1)
    flat = [sliced_wasserstein(x, 2 * z + 1, power=power) for power in (1, 2)]
    assert list(values.values()) == [*apart, *flat] and len({*values.values()}) == 4


BAD = {
    "does not say what was held out": "--data digits",
    "the model is of events of shape": "--data two_moons --test digits",
    "--test two_moons: the model is of events of shape": "--data digits --test two_moons",
    "--test nowhere.npz: neither a file nor a folder": "--data digits --test nowhere.npz",
    "neither a file nor a class": "--data digits --test digits --extractor nowhere.pt",
    "each names the features": "--data digits --test digits --extractor Pixels --inception_weights w.pth",
    "get weights-inception-2015": "--data digits --test digits --inception_weights w.pth",
    "samples must be at least 50": "--data digits --test digits --effort.samples 3",
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_evaluated_is_refused(message, tmp_path, capsys):
    model = model_of(digits(), (1, 8, 8))
    model.about = {}
    model.save(tmp_path / "run")
    try:
        status = main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *BAD[message].split()])
    except SystemExit as end:
        status = end.code
    assert status == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize("event_shape", [(1, 8, 8), (2, 16), (5,), (), (1, 2, 2), (3, 9, 5)])
def test_label_features_are_saved_and_loaded(event_shape, tmp_path):
    with seeded(0):
        net = LabelFeatures(event_shape, 3, 0.75, "ab12", 4)
    net.shift.fill_(1.0)
    net.scale.fill_(2.0)
    net.save(tmp_path / "e.safetensors")
    back = LabelFeatures.load(tmp_path / "e.safetensors")
    x = torch.randn(4, *event_shape, generator=torch.Generator().manual_seed(0))
    for a, b in zip(net(x), back(x), strict=True):
        assert torch.equal(a, b)
    assert back.digest == net.digest and (back.data, len(back.rows)) == ("ab12", 4)
    back.shift.fill_(0.0)
    back.scale.fill_(1.0)
    torch.testing.assert_close(back((x - 1) / 2).values, net(x).values)
    assert back.accuracy == 0.75 and net(x).values.shape == (4, 128)
    with pytest.raises(ValueError, match="knows events of shape"):
        net(x[..., None, None])


def test_label_features_are_reproducible():
    kept, held = split(digits(), 0.2)
    one, two, other = (train_label_features(digits(), kept.index, held, steps=5, seed=seed) for seed in (0, 0, 1))
    assert one.digest == two.digest != other.digest


def test_each_column_of_a_table_counts_alike():
    """The label is in a column ten thousand times smaller than the other. Kills one scale for all."""
    g = torch.Generator().manual_seed(0)
    x = torch.stack((1e4 * torch.randn(2000, generator=g), torch.randn(2000, generator=g)), 1)
    data = ArrayDataset(x, (x[:, 1] > 0).long())
    kept, held = split(data, 0.2)
    assert train_label_features(data, kept.index, held, steps=200).accuracy > 0.95


# what reports are asked for by all sorts of people


@pytest.mark.slow
def test_the_features_do_not_know_the_reference(run, tmp_path, monkeypatch, capsys):
    """A two-sample test tells rows that the classifier was fitted on from others of the same law."""
    quick = partial(train_label_features, steps=20)
    monkeypatch.setattr(featuring, "train_label_features", quick)
    command = ["evaluate", str(run), "--data", "digits", "--out"]
    assert main([*command, str(tmp_path / "one"), *WORDS]) == 0
    assert "a classifier of the labels; with --inception_weights" in capsys.readouterr().out
    net = LabelFeatures.load(tmp_path / "one" / "extractor.safetensors")
    kept, held = split(digits(), 0.2, 1)
    assert len(net.rows) == len(kept) - len(kept) // 2 and torch.isin(net.rows, kept.index).all()
    assert numbers(tmp_path / "one")["data"]["reference rows"] == len(kept) // 2

    other = model_of(digits(), (1, 8, 8), 10)  # with another split: its held-out rows have been fitted in part
    other.about["seed"] = 2
    other.save(tmp_path / "other")
    words = ["--extractor", str(tmp_path / "one" / "extractor.safetensors"), *WORDS, "--effort.samples", "300"]
    assert main(["evaluate", str(tmp_path / "other"), *command[2:], str(tmp_path / "two"), *words]) == 0
    kept, held = split(digits(), 0.2, 2)
    sizes = [int((~torch.isin(part.index, net.rows)).sum()) for part in (kept, held)]
    found = numbers(tmp_path / "two")["data"]
    assert [found["reference rows"], found["held-out rows"]] == sizes and sizes[1] < len(held)


def test_what_is_left_out_leaves_a_report(run, extractor, tmp_path):
    words = ["--effort.likelihoods", "0", "--effort.calls", "[]", "--effort.samples", "60", "--effort.steps", "2"]
    command = ["evaluate", str(run), "--data", "digits", "--extractor", str(extractor), "--out", str(tmp_path), *words]
    assert main(command) == 0
    page = (tmp_path / "report.html").read_text() + (tmp_path / "report.md").read_text()
    assert "Likelihood</h2>" not in page and "## Quality" not in page and "## Copies" in page
    assert shlex.join(command) in (tmp_path / "report.md").read_text()


def test_the_report_of_a_process_that_is_not_gaussian(tmp_path):
    data = ArrayDataset(0.5 + 0.1 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))
    with seeded(0):
        model = ScoreModel(ScoreNetwork(MLP((2,), features=16, blocks=1), Warming()), (2,))
    kept, held = split(data, 0.3)
    sets = Sets(kept, held, kept, {"name": "points", "digest": ""})
    found = evaluate(model, sets, Pixels(), FAST, Ledger(tmp_path / "unfinished"))
    assert (
        found is not None and "likelihood" not in found.numbers and [*found.numbers["curve"]["solvers"]] == ["default"]
    )
    write_report(found, "none", "cpu", tmp_path)
    assert "Distances" in (tmp_path / "report.html").read_text()


def test_data_without_density_and_few_rows(tmp_path, capsys):
    """A held-out row where the model has no density, and too few rows for the two-sample test."""
    train, test = two_moons(100).x, two_moons(20, seed=1).x
    test[3] = 1e20
    for name, x in (("train", train), ("test", test)):
        np.savez(tmp_path / f"{name}.npz", x=x.numpy())
    model_of(ArrayDataset(train), (2,)).save(tmp_path / "run")
    words = [
        "--data",
        str(tmp_path / "train.npz"),
        "--test",
        str(tmp_path / "test.npz"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["evaluate", str(tmp_path / "run"), *words, *WORDS]) == 0
    found = numbers(tmp_path / "out")
    assert found["likelihood"]["held out"]["mean"] in ("-inf", "nan") and found["data"]["held-out rows"] == 20
    assert "C2ST-pixels" not in found["metrics"]
    np.savez(tmp_path / "test.npz", x=test[:4].numpy())
    assert main(["evaluate", str(tmp_path / "run"), *words, *WORDS]) == 2
    assert "have at least 6 rows; got 80 and 4" in capsys.readouterr().err


def test_classes_are_known_by_their_names(tmp_path, monkeypatch):
    """The test data lack the first class, so that their numbers are others: bits of the right classes all the same."""
    monkeypatch.setattr(featuring, "train_label_features", partial(train_label_features, steps=100))
    names, g = ("cat", "dog", "owl"), torch.Generator().manual_seed(0)
    for file, some, label in (("train", names, [0, 1, 2]), ("test", names[1:], [0, 1])):
        rows = ["a,b,kind"]
        for k in torch.tensor(label).repeat(40).tolist():
            a, b = (torch.randn(2, generator=g) + 4 * names.index(some[k])).tolist()
            rows.append(f"{a},{b},{some[k]}")
        (tmp_path / f"{file}.csv").write_text("\n".join(rows))
    source, out = ["--data", str(tmp_path / "train.csv"), "--reading.table.label", "kind"], tmp_path / "report"
    assert main(["train", *source, "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    test = ["--test", str(tmp_path / "test.csv"), "--out", str(out)]
    assert main(["evaluate", str(tmp_path / "run"), *source, *test, *WORDS]) == 0
    assert numbers(out)["extractor"]["held-out accuracy"] > 0.9
    assert numbers(out)["classes"]["held out"][0] < 0.1  # no cats


def test_the_command_deletes_nothing_of_others(run, extractor, tmp_path):
    for name in ("thesis.txt", "own-weights.safetensors"):
        (tmp_path / "unfinished").mkdir(exist_ok=True)
        (tmp_path / "unfinished" / name).write_text("mine")
    command = ["evaluate", str(run), "--data", "digits", "--extractor", str(extractor), "--out", str(tmp_path), *WORDS]
    assert main(command) == 0
    assert {path.name for path in (tmp_path / "unfinished").iterdir()} == {"own-weights.safetensors", "thesis.txt"}


def test_a_broken_part_says_what_to_do(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.table("x", {}, 3, 2, lambda part: {"x": torch.zeros(len(part))})
    min(tmp_path.iterdir()).write_bytes(b"cut")
    with pytest.raises(ValueError, match="delete this file, and the same command makes it again"):
        ledger.table("x", {}, 3, 2, lambda part: {"x": torch.zeros(len(part))})


def test_the_order_of_the_rows_does_not_matter():
    """Data often come class by class. Kills consecutive parts in the Inception score, and first rows."""
    g = torch.Generator().manual_seed(0)
    label = torch.arange(5).repeat_interleave(100)
    x = torch.randn(500, 3, generator=g) + 5.0 * label[:, None]
    logits = 20 * torch.eye(5)[label]
    mixed = torch.randperm(500, generator=g)
    reference = Features(x + 0.1)
    a, b = (compare(reference, Features(x[order], logits[order])) for order in (torch.arange(500), mixed))
    assert a["IS"].value == pytest.approx(b["IS"].value, rel=0.05) and a["IS"].value > 4.5


def test_a_second_report_leaves_no_pictures_of_the_first(run, extractor, tmp_path):
    command = ["evaluate", str(run), "--data", "digits", "--out", str(tmp_path), *WORDS]
    assert main([*command, "--extractor", str(extractor)]) == 0
    (tmp_path / "figures" / ".samples.png.0123456789abcdef.part").write_bytes(b"by one that was killed")
    assert main([*command, "--extractor", "Pixels", "--effort.calls", "[]"]) == 0
    assert not [*(tmp_path / "figures").glob(".*")]
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert "classes" not in names and "curve" not in names and "samples" in names


@pytest.mark.slow
def test_parts_of_other_models_features_and_seeds_are_not_taken(run, tmp_path):
    """One ledger for all: what differs is made again, and nothing else."""
    made, data = [], digits()
    kept, held = split(data, 0.2, 1)

    class Counted(Ledger):
        def table(self, name, about, count, size, make):
            def one(part):
                made.append(name)
                return make(part)

            return super().table(name, about, count, size, one)

    class Halves(Pixels):
        name = "halves"

        def forward(self, x):
            return Features(0.5 * super().forward(x).values)

    pixels, ledger, effort = (
        Pixels(),
        Counted(tmp_path),
        Effort(samples=50, steps=1, calls=(), likelihoods=2, batch_size=64),
    )
    first, other = ScoreModel.load(run), ScoreModel.load(run)
    with torch.no_grad():
        other.denoiser.net.out.weight.mul_(1.1)

    def parts(model=first, extractor=pixels, effort=effort, about="a"):
        made.clear()
        evaluate(model, Sets(kept, held, kept, {"digest": about, "name": "digits"}), extractor, effort, ledger)
        return {name.split()[0] for name in made}

    everything = {"reference", "held-out", "samples", "likelihoods"}
    assert parts() == everything and parts() == set()
    assert parts(model=other) == {"samples", "likelihoods"}
    assert parts(extractor=Halves()) == everything  # it may have been fitted on other rows, which are left out
    assert parts(effort=replace(effort, seed=9)) == {"samples", "likelihoods"}
    assert parts(about="b") == {"reference", "held-out", "likelihoods"}


def test_solvers_that_all_diverge_leave_a_report(run, tmp_path):
    """Those of the curve, that is: without samples there is none."""
    model = ScoreModel.load(run)
    real, calls, sound = model.sample, [], 1

    def sample(**options):
        calls.append(1)
        if len(calls) > sound:
            raise Diverged("as integers do")
        return real(**options)

    model.sample = sample
    kept, held = split(digits(), 0.2, 1)
    effort = Effort(samples=50, steps=1, calls=(2,), likelihoods=0, batch_size=64)
    sets = Sets(kept, held, kept, {"name": "digits", "digest": ""})
    found = evaluate(model, sets, Pixels(), effort, Ledger(tmp_path / "one"))
    assert found is not None and "curve" not in found.numbers
    calls, sound = [], 0
    with pytest.raises(ValueError, match="3200 of 3200 numbers are NaN or infinite: a solver or the model"):
        evaluate(model, sets, Pixels(), effort, Ledger(tmp_path / "other"))
    assert len(calls) == 1  # before the curve's


def test_logits_of_other_classes_are_not_compared_with_labels(run, tmp_path):
    """Nor are the calls of an adaptive solver foretold."""

    class Foreign(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1), x.flatten(1)[:, :12]

    kept, held = split(digits(), 0.2, 1)
    effort = Effort(samples=50, steps=1, calls=(), likelihoods=0, batch_size=64)
    found = evaluate(
        ScoreModel.load(run),
        Sets(kept, held, kept, {"name": "digits", "digest": ""}),
        ModuleFeatures(Foreign(), "foreign"),
        effort,
        Ledger(tmp_path),
        BogackiShampine(),
    )
    assert found is not None
    assert "IS-foreign" in found.numbers["metrics"] and "agreement-foreign" not in found.numbers["metrics"]
    assert found.numbers["sampling"]["network calls"] == found.numbers["sampling"]["steps"] == "as each sample needs"


def test_rows_of_test_data_that_the_features_know_are_left_out(run, extractor, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        importlib.import_module("scorefield.cli.evaluate"), "measured", lambda *given: seen.append(given)
    )
    command = ["evaluate", str(run), "--data", "digits", "--test", "digits", "--extractor", str(extractor)]
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert len(seen[0][1].held_out) == 1797 - len(LabelFeatures.load(extractor).rows)


def test_rows_that_are_mostly_equal_are_compared():
    x = torch.zeros(100, 3)
    x[:20] = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert "MMD" not in compare(Features(x), Features(x.flip(0)))


def test_other_data_than_those_of_the_training_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=two_moons(200).x.numpy())
    np.savez(tmp_path / "b.npz", x=two_moons(200).x.flip(0).numpy())  # the same rows, which the split parts otherwise
    assert main(["train", "--data", str(tmp_path / "a.npz"), "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    words = ["--data", str(tmp_path / "b.npz"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(tmp_path / "run"), *words]) == 2
    assert "not what the model was trained on" in capsys.readouterr().err


# statistics


def test_statistics_add_up_and_compare(tmp_path, capsys):
    data = digits()
    rows = data.rows(torch.arange(400))
    for name, part in {"a": rows.x[:150], "b": rows.x[150:], "all": rows.x}.items():
        np.savez(tmp_path / f"{name}.npz", x=part.numpy())
        command = ["stats", "--data", f"[{tmp_path / name}.npz]", "--out", str(tmp_path / f"{name}-stats.npz")]
        assert main([*command, "--keep", "true"]) == 0
    capsys.readouterr()
    both = f"[{tmp_path}/a-stats.npz,{tmp_path}/b-stats.npz]"
    assert main(["stats", "--data", both, "--against", str(tmp_path / "all-stats.npz")]) == 0
    out = capsys.readouterr().out
    assert "400 samples, 64 features of pixels" in out
    distance = float(re.search(r"Frechet distance (\S+)", out)[1])
    assert distance < 1e-9 and "precision 1" in out
    assert main(["stats", "--data", str(tmp_path / "a-stats.npz"), "--against", str(tmp_path / "all-stats.npz")]) == 0
    chance = float(re.search(r"of one normal law (\S+)", capsys.readouterr().out)[1])
    whole = FeatureStats.read(tmp_path / "all-stats.npz")
    assert chance == pytest.approx(expected_frechet(whole.covariance, 400, 150), rel=1e-5)
    assert main(["stats", "--data", both]) == 2
    assert "give --out" in capsys.readouterr().err
    assert main(["stats", "--data", both, "--against", str(tmp_path / "none.npz")]) == 2
    assert "none.npz: no such file" in capsys.readouterr().err


def test_statistics_of_few_large_pictures(tmp_path, capsys):
    """27,648 numbers each, whose covariance has 6.1 GB, with 300 MB. The data are in 80 dimensions, to compare in."""
    basis = torch.linalg.qr(torch.randn(27648, 80, generator=torch.Generator().manual_seed(0)).double()).Q
    low = [torch.randn(n, 80, generator=torch.Generator().manual_seed(n)).double() for n in (20, 21, 22)]
    a, b, c = (str(tmp_path / f"{name}.npz") for name in "abc")
    with memory_left(300 << 20):
        for name, x in zip((a, b), low, strict=False):
            np.save(name.replace("npz", "npy"), (x @ basis.mT).reshape(-1, 3, 96, 96).numpy())
            assert main(["stats", "--data", name.replace("npz", "npy"), "--out", name]) == 0
        np.save(tmp_path / "c.npy", (low[2] @ basis.mT).reshape(-1, 3, 96, 96).numpy())
        assert main(["stats", "--data", f"[{a},{b}]", "--out", c]) == 0
        capsys.readouterr()
        assert main(["stats", "--data", str(tmp_path / "c.npy"), "--against", c]) == 0
    out = capsys.readouterr().out
    both, some = FeatureStats.of(torch.cat(low[:2])), FeatureStats.of(low[2])
    assert float(re.search(r"distance (\S+)", out)[1]) == pytest.approx(frechet_distance(both, some), rel=2e-6)
    chance = expected_frechet(both.covariance, 41, 22)
    assert float(re.search(r"normal law (\S+) .up to 4 times", out)[1]) == pytest.approx(chance, rel=2e-6)


def test_statistics_of_your_own_features(tmp_path, monkeypatch, capsys):
    """By a class of yours, by TorchScript, and by the classifier of a report."""
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\nclass Rows(torch.nn.Module):\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n"
        "        return x.mean(3).flatten(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import mine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(mine.Rows()).save(tmp_path / "rows.pt")
    with seeded(0):
        LabelFeatures((1, 8, 8), 10).save(tmp_path / "net.safetensors")
    rows = digits().rows(torch.arange(1797)).x.float()
    for name, width in {
        "mine.Rows": 8,
        tmp_path / "rows.pt": 8,
        tmp_path / "net.safetensors": 128,
        "Pixels": 64,
    }.items():
        out = tmp_path / "stats.npz"
        assert main(["stats", "--data", "[digits]", "--extractor", str(name), "--out", str(out)]) == 0
        found = FeatureStats.read(out)
        assert found.n == 1797 and len(found.mean) == width
        if width == 8:
            torch.testing.assert_close(found.mean, rows.mean((0, 1, 3)).double(), rtol=1e-5, atol=1e-6)
    assert "features of Rows\n" in capsys.readouterr().out
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    assert main(["stats", "--data", "[digits]", "--extractor", str(tmp_path / "broken.pt"), "--out", str(out)]) == 2
    assert "no TorchScript file" in capsys.readouterr().err
    assert main(["stats", "--data", "[digits]", "--extractor", str(tmp_path / "stats.npz"), "--out", str(out)]) == 2


def test_a_link_that_has_come_meanwhile_is_refused(tmp_path):
    """Of the parts of a report, and of a run's averages."""
    (tmp_path / "mine").mkdir()
    ledger, snapshots = Ledger(tmp_path / "work"), Snapshots(tmp_path / "averages")
    for name in ("work", "averages"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    with seeded(0):
        state = TrainState(MLP((2,)), Optimisation(widths=(0.1,)), seed=0)
    state.step = 1
    for write in (lambda: ledger.file("x", {}), ledger.close, lambda: snapshots.update(state)):
        with pytest.raises(ValueError, match="is a link, and files elsewhere would be changed"):
            write()
    assert not list((tmp_path / "mine").iterdir())
