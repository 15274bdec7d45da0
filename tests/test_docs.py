"""The documentation speaks of what there is."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from scorefield import guidance, operators, posterior, solvers
from scorefield.cli.convert import Source

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


def test_every_solver_has_its_line_on_the_page_of_solvers() -> None:
    page = (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
    found = [value for _, value in inspect.getmembers(solvers, inspect.isclass) if issubclass(value, solvers.Solver)]
    missing = [cls.__name__ for cls in found if not inspect.isabstract(cls) and f"| `{cls.__name__}` |" not in page]
    assert missing == []


def test_least_versions_are_those_that_pip_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (torch,) = [name.removeprefix("torch>=") for name in project["dependencies"] if name.startswith("torch>=")]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"Python ([\d.]+) or later", text) == [project["requires-python"].removeprefix(">=")]
    assert re.findall(r"torch ([\d.]+) or later", text) == [torch]


def test_claimed_and_certified_orders_agree_on_the_page() -> None:
    page = (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `(\w+)` \|.*\| ([\d.]+) \| (\d) \|", page)
    assert len(rows) > 15
    # noise within an interval costs less of the order than noise everywhere
    wrong = {name: (order, claimed) for name, order, claimed in rows if abs(float(order) - int(claimed)) > 0.25}
    assert set(wrong) <= {"SASolver"}


ABSTRACT = {"GuidedSolver", "PosteriorDenoiser", "PosteriorSampler", "Extrapolation"}


def test_every_method_of_guidance_has_its_line_and_its_label() -> None:
    page = (ROOT / "docs" / "guidance.md").read_text(encoding="utf-8")
    methods = [v for module in (guidance, posterior) for v in vars(module).values() if hasattr(v, "label")]
    assert len(methods) > 15
    lines = {
        m.__name__: f"| `{m.__name__}` | {m.label.value} |"
        for m in methods
        if m.__name__ not in ABSTRACT | {"Classifier"}
    }
    assert [name for name, line in lines.items() if line not in page] == []


def test_every_operator_is_on_the_page() -> None:
    page = (ROOT / "docs" / "guidance.md").read_text(encoding="utf-8")
    kinds = [
        v for v in vars(operators).values() if inspect.isclass(v) and hasattr(v, "A") and not inspect.isabstract(v)
    ]
    names = {kind.__name__ for kind in kinds} - {"Linear", "Operator"}
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_format_is_on_the_page_of_checkpoints() -> None:
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert [source.name for source in Source if f"`{source.name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, (target, anchor)
