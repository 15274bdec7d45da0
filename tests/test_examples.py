"""The README's code and the examples run as they are written."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).parent.parent
SLOW = {"two_moons", "double_well", "jacobi", "latent_codes"}  # they train, as the README's code does
pytestmark = pytest.mark.usefixtures("unchecked")
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


TRAINING, PARTS = README  # the first trains for twenty seconds


@pytest.mark.parametrize(
    "code", [pytest.param(TRAINING, id="training", marks=pytest.mark.slow), pytest.param(PARTS, id="parts")]
)
def test_readme(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "density" in names:
        # the samples are likely under the model that drew them: two moons have an entropy of about 0.2 nats
        assert -1.5 < float(names["density"].nats.mean()) < 1.0  # type: ignore[attr-defined]
    else:
        assert float((names["exact"] - names["ode"]).abs().mean()) < 0.05  # type: ignore[operator]


EXAMPLES = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in SLOW else ())
    for path in sorted((ROOT / "examples").glob("*.py"))
]


@pytest.mark.parametrize("path", EXAMPLES)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    runpy.run_path(str(path), run_name="__main__")
