"""The gallery: every script runs with less work, is short, and has its picture and its section on the page."""

from __future__ import annotations

import inspect
import re
import runpy
import warnings
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "examples" / "gallery").glob("*.py"))
PAGE = (ROOT / "docs" / "gallery" / "README.md").read_text(encoding="utf-8")
LESS = {"steps": 20, "samples": 32}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_draws_its_picture(path, tmp_path):
    main = runpy.run_path(str(path))["main"]
    given = {name: LESS[name] for name in inspect.signature(main).parameters if name in LESS}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # so little work leaves odd pictures
        main(str(tmp_path / "picture.png"), **given)
    with (
        Image.open(tmp_path / "picture.png") as drawn,
        Image.open(ROOT / "docs" / "gallery" / f"{path.stem}.png") as kept,
    ):
        assert drawn.size == kept.size
        assert len(drawn.convert("L").getcolors(2**16) or ()) > 50


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_on_the_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    assert PAGE.count(f"]({path.stem}.png)") == 1 and f"](../../examples/gallery/{path.name})" in PAGE


def test_the_page_shows_what_the_scripts_draw():
    shown = re.findall(r"!\[.*?\]\((\w+)\.png\)", PAGE)
    assert shown == [path.stem for path in SCRIPTS]
    assert {path.stem for path in (ROOT / "docs" / "gallery").glob("*.png")} == set(shown)
