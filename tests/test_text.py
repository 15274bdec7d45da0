"""Text of others: a terminal obeys nothing of it, and a page shows its characters."""

from __future__ import annotations

import html
import os
import re
import warnings

import pytest
from matplotlib.figure import Figure

from scorefield import VP, EDMPrecond, Preconditioned, ScoreModel, plot
from scorefield._text import as_markdown, printable
from scorefield.cli import _say as say
from scorefield.cli import main
from scorefield.evaluate.evaluation import Evaluation
from scorefield.evaluate.report import write_report
from scorefield.nn import MLP, seeded

RED = "\x1b[31mred"
HOSTILE = {
    "an escape sequence": (RED, "\\x1b[31mred"),
    "a window's title": ("\x1b]0;mine\x07", "\\x1b]0;mine\\x07"),
    "the start of the line": ("good\rbad", "good\\rbad"),
    "a line of its own": ("a\nscorefield: error: b", "a\\nscorefield: error: b"),
    "C1 controls": ("\x9b31m", "\\x9b31m"),
    "writing from the right": ("\u202egnp.exe", "\\u202egnp.exe"),
    "bytes that are no UTF-8": (os.fsdecode(b"\xff.npy"), "\\udcff.npy"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_printable_is_written_as_in_python(name):
    text, shown = HOSTILE[name]
    assert printable(text) == shown and shown.isprintable()
    assert printable(f"é 日 \\ {shown}") == f"é 日 \\ {shown}"


def model(name: str, about: str = "") -> ScoreModel:
    with seeded(0):
        net = MLP((2,), 2, features=4, blocks=1)
    denoiser = Preconditioned(net, VP(), EDMPrecond(1.0))
    return ScoreModel(denoiser, (2,), classes=2, class_names=(name, "cat"), about={"data": about})


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"bytes that are no UTF-8"}))  # which a model cannot hold
def test_names_of_a_model_reach_the_terminal_printable(name, tmp_path, capsys):
    """By info, in the message of an error, in that of a warning, and in one of the parser."""
    text, shown = HOSTILE[name]
    model(text, about=text).save(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count(shown) == 2 and text not in said
    assert main(["sample", str(tmp_path), "--label", "dog", "--out", str(tmp_path / "x.npz")]) == 2
    say(UserWarning(text))
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path), f"--{text}"])
    said = capsys.readouterr().err
    assert shown in said and text not in said
    assert said.count("\n") == 3 and said.replace("\n", "").isprintable()


def test_names_of_files_reach_the_terminal_printable(tmp_path, capsys):
    out = tmp_path / f"{RED}.npz"
    model("dog").save(tmp_path)
    assert main(["sample", str(tmp_path), "--seeds", "0", "--steps", "2", "--label", "cat", "--out", str(out)]) == 0
    assert out.exists()
    assert main(["likelihood", str(tmp_path), "--data", f"{RED}.npy"]) == 2
    said = "".join(capsys.readouterr())
    assert said.count("\\x1b[31mred") == 2 and "\x1b[31m" not in said


MARKUP = {
    "<script>alert(1)</script>": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "![x](http://example.org/x.png)": r"!\[x\](http://example.org/x.png)",
    "a | b": r"a \| b",
    "`code` **bold** _it_": r"\`code\` \*\*bold\*\* \_it\_",
    "data_digest 0.5 & 1-2": "data_digest 0.5 &amp; 1-2",
    "x\n# y": r"x\\n# y",
    "$x$ \\": r"\$x\$ \\",
}


def evaluation(text: str) -> Evaluation:
    number = {"value": 1.0, "error": 0.1, "chance": 0.2}
    of = {"samples": number, "held out": number, "better": "lower", "meaning": "of " + text}
    found = Evaluation()
    found.numbers |= {
        "model": {"data": text, "process": "VP()"},
        "data": {"name": text, "held-out rows": 9, "reference rows": 9},
        "extractor": {"name": text},
        "sampling": {"samples": 9},
        "metrics": {f"FD of {text}": of},
        "copies": {"z": 0.1, "share": 0.1, "training rows": 9, "expected": 0.1},
    }
    return found


@pytest.mark.parametrize("text", MARKUP)
def test_reports_show_markup_as_its_characters(text, tmp_path):
    write_report(evaluation(text), f"scorefield evaluate '{text}'", "cpu", tmp_path)
    page, source = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    shown = printable(text)
    assert page.count(html.escape(shown)) == 9 and "<script>alert" not in page
    assert as_markdown(text) == MARKUP[text]
    assert source.count(MARKUP[text]) >= 6 and f"\n```sh\nscorefield evaluate '{shown}'\n```\n" in source
    assert not re.search(r"(?m)^# y", source) and "<script>" not in source.replace(f"'{shown}'", "")


def test_a_picture_shows_names_that_look_like_formulas():
    """matplotlib ended with an error at the end of an evaluation."""
    import torch

    figure = plot.bars({"samples": torch.tensor([0.5, 0.5])}, ["$\\frac{", "$b$"])
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["$\\frac{", "$b$"]
