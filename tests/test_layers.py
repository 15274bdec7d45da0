"""The import arrows of the design, enforced over the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "scorefield"

# module -> the modules that it stands on; arrows add up, so each may also import what those stand on
ARROWS: dict[str, set[str]] = {
    # leaves
    "_derivatives": set(),
    "_device": set(),
    "_inputs": {"_derivatives"},
    "_noise": {"_shapes", "_inputs"},
    "_shapes": {"_device"},
    "_finite": set(),
    "latents": {"_shapes", "_inputs"},
    "_files": {"_finite"},
    "_text": set(),
    "_memory": set(),
    "_unpacking": {"_memory"},
    "_describe": set(),
    "nn": {"_inputs"},
    "data": {"_device", "_finite", "_inputs", "_unpacking"},
    "metrics": {"_files", "_inputs", "_unpacking"},
    "plot": set(),
    "operators": {"_noise", "_shapes"},
    # processes and models
    "processes": {"_noise", "_shapes"},
    "score": {"processes"},
    "grids": {"score"},
    "objectives": {"score", "solvers"},
    "analytic": {"score"},
    "solvers": {"score"},
    # what carries states along a grid
    "guidance": {"solvers", "operators"},
    "sampling": {"guidance", "grids", "_finite"},
    "likelihood": {"guidance", "_finite"},
    "_response": {"solvers"},
    "certify": {"sampling", "likelihood", "analytic", "_response"},
    "posterior": {"sampling", "likelihood"},
    # what has files
    "model": {"sampling", "likelihood", "analytic", "nn", "data", "_files", "_describe"},
    "interop": {"model"},
    "training": {"objectives", "model"},
    "evaluate": {"posterior", "metrics", "training", "plot", "_text"},
}
EVERYTHING = {"cli", "__init__"}
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The name in ARROWS that a file belongs to."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def below(module: str) -> set[str]:
    """All that a module stands on."""
    found: set[str] = set()
    waiting = list(ARROWS[module])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += ARROWS[name]
    return found


def imported(path: Path, tree: ast.AST) -> set[tuple[int, str]]:
    """(line, full dotted name) of every import of this package, wherever it stands: in functions and for types too."""
    here = ("scorefield", *path.relative_to(SOURCE).with_suffix("").parts)
    names: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(here[: -node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            names |= {(node.lineno, f"{base}.{alias.name}") for alias in node.names}
    return {(line, name) for line, name in names if name.split(".")[0] == "scorefield"}


def breaches(path: Path, source: str) -> list[str]:
    module = module_of(path)
    if module == "cli":
        return []
    allowed = {*ARROWS} if module == "__init__" else {module, *below(module)}
    wrong = []
    for line, name in sorted(imported(path, ast.parse(source))):
        parts = name.split(".")
        if len(parts) < 2 or parts[1] not in allowed:
            wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_follow_the_arrows(path):
    if path.name == "__main__.py":
        assert [name for _, name in imported(path, ast.parse(path.read_text()))] == ["scorefield.cli.main"]
    else:
        assert breaches(path, path.read_text()) == []


def test_every_module_has_its_place():
    assert {module_of(path) for path in FILES} <= {*ARROWS, *EVERYTHING, "__main__"}


def test_the_arrows_have_no_cycle():
    assert all(module not in below(module) for module in ARROWS)


@pytest.mark.parametrize(
    ("file", "line", "legal"),
    [
        ("processes/sde.py", "from scorefield._noise import Noise", True),
        ("processes/sde.py", "from scorefield.score import Score", False),
        ("solvers/heun.py", "from scorefield.solvers.solver import Solver", True),
        ("solvers/heun.py", "from .solver import Solver", True),
        ("solvers/heun.py", "from ..sampling import sample", False),
        ("solvers/heun.py", "from scorefield import grids", False),
        ("solvers/heun.py", "import scorefield.sampling", False),
        ("solvers/heun.py", "def f():\n    from scorefield import sampling", False),
        ("nn/unet.py", "if TYPE_CHECKING:\n    from scorefield.processes import SDE", False),
        ("nn/unet.py", "from scorefield.nn import embedding", True),
        ("data/transforms/affine.py", "from scorefield.data.dataset import Dataset", True),
        ("data/transforms/affine.py", "from scorefield._noise import Noise", False),
        ("data/transforms/affine.py", "from ..dataset import Dataset", True),
        ("data/transforms/affine.py", "from ... import processes", False),
        ("training/loop.py", "from scorefield.processes import SDE", True),
        ("training/loop.py", "from scorefield import VP", False),
        ("training/loop.py", "import scorefield", False),
        ("training/loop.py", "from scorefield.plot import scatter", False),
        ("model.py", "from scorefield.training import train", False),
        ("cli/train.py", "from scorefield.plot import scatter", True),
        ("__init__.py", "from scorefield.training import train as train", True),
        ("__init__.py", "from scorefield.cli import main", False),
        ("_files.py", "from scorefield._describe import build", False),
        ("_files.py", "import json, torch", True),
    ],
)
def test_this_test_sees_what_it_should(file, line, legal):
    assert (breaches(SOURCE / file, line) == []) == legal
