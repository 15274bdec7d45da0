"""Reports: the numbers for programs, a page for people, and one that can be sent around as a single file."""

from __future__ import annotations

import base64
import io
import json
import math
import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL.Image import Image

from scorefield._files import not_a_link, sweep, write_file, write_text
from scorefield._text import as_markdown, printable
from scorefield.evaluate.evaluation import Evaluation

FIGURES = "figures"
REPORTS = ("report.json", "report.md", "report.html")
PICTURES = {
    "samples": "Samples",
    "training data": "Training data",
    "stages": "The reverse SDE, sample by sample",
    "neighbours": "Samples (left) and their nearest training data",
    "curve": "Quality for a budget of network calls",
    "likelihood": "Likelihoods, dashed the means",
    "classes": "Classes that the features' classifier finds",
    "trajectories": "One number along the processes",
}


def write_report(found: Evaluation, command: str, device: str, out: Path) -> None:
    """Writes report.json, report.md with its pictures in figures/, and report.html, which holds them.

    Args:
        found: what `evaluate` returned.
        command: that makes the report again.
        device: that it was made on.
        out: a directory that there is.
    """
    made = {"scorefield": version("scorefield"), "torch": torch.__version__, "python": platform.python_version()}
    made |= {"device": device, "threads": str(torch.get_num_threads())}
    seconds = {name: round(value, 1) for name, value in found.seconds.items()}
    numbers: dict[str, Any] = {"command": command, "made with": made, **found.numbers}
    older = (out / "report.json").exists()
    plain = _plain({**numbers, "seconds": seconds})
    write_text(out / "report.json", json.dumps(plain, indent=1, allow_nan=False) + "\n")
    pictures = {name: _png(found.pictures[name]) for name in PICTURES if name in found.pictures}
    not_a_link(out / FIGURES).mkdir(exist_ok=True)
    sweep(out / FIGURES)
    for name in PICTURES if older else ():
        (out / _place(name)).unlink(missing_ok=True)
    for name, data in pictures.items():
        write_file(out / _place(name), partial(_write, data))
    sources = {name: "data:image/png;base64," + base64.b64encode(data).decode() for name, data in pictures.items()}
    told = {"titles": PICTURES, "seconds": seconds, "command": command, "numbers": numbers}
    pages = {"report.md": ({name: _place(name) for name in pictures}, _marked), "report.html": (sources, printable)}
    for file, (places, shown) in pages.items():
        write_text(out / file, _environment(shown).get_template(file).render(pictures=places, **told))


def _environment(shown: Callable[[str], str]) -> Environment:
    """Of templates that show the characters of every text, also where they would be markup.

    Args:
        shown: how a page writes a text; what is not `Markup` then has HTML's own characters escaped.
    """

    def finalize(value: object) -> object:
        return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("scorefield.evaluate", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(short=short, with_error=with_error, line=line)  # pyright: ignore[reportCallIssue]
    return environment


def _marked(text: str) -> Markup:
    return Markup(as_markdown(text))


def line(text: str) -> Markup:
    """A line of a block of code, which nothing in it can end."""
    return Markup(printable(text))


def short(value: object) -> str:
    """A plain value, numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(short, value))  # pyright: ignore[reportUnknownArgumentType]
    return str(value)


def with_error(number: Mapping[str, float | None]) -> str:
    """A measured number with its error."""
    error = number["error"]
    return short(number["value"]) + ("" if error is None else f" ± {error:.2g}")


def _plain(value: Any) -> Any:
    """For JSON, which has no infinite numbers: those by their names."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _png(picture: Figure | Image) -> bytes:
    data = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(data, format="png", dpi=110)
    else:
        picture.save(data, format="PNG", optimize=True)
    return data.getvalue()


def _write(data: bytes, file: Any) -> None:
    file.write(data)


def _place(name: str) -> str:
    return f"{FIGURES}/{name.replace(' ', '_')}.png"
