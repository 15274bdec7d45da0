"""The README's code and the examples run as they are written."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

from scorefield import VP, ClassifierModel, EDMPrecond, NoisyClassifier, Preconditioned, ScoreModel, data
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, MLPClassifier, seeded

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


@pytest.mark.slow
def test_guidance_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With untrained networks in the place of the models that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    shape, transform = (1, 28, 28), Affine.of_levels(256)
    with seeded(0):
        plain, labelled = (MLP(shape, classes, features=16, blocks=1) for classes in (0, 10))
        judge = NoisyClassifier(MLPClassifier(shape, 10, features=16, blocks=1), VP(), 1.0)
    for name, net in {"run": plain, "unlabelled": plain, "labelled": labelled}.items():
        ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), shape, transform, net.classes).save(name)
    ClassifierModel(judge, shape, 10, transform).save("classifier")
    ramp = torch.arange(28.0).expand(1, *shape)
    names: dict[str, object] = {"photo": 4 * (ramp + ramp.mT), "k_space": torch.ones(4, 64, 64) + 0j}
    page = (ROOT / "docs" / "guidance.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "guidance.md", "exec"), names)
        assert torch.isfinite(names["x"].float()).all()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*samples mean nothing")  # an untrained model, in two steps
def test_tutorial_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few steps, and noise in the place of the pictures."""
    pictures = torch.randint(0, 256, (80, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def read(path: str) -> ArrayDataset:
        return ArrayDataset(pictures, levels=256)

    monkeypatch.setattr(data, "read", read)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    for long, short in {"93_750": "2", "(sde, 500)": "(sde, 2)", "1e-5": "0.1", "64": "2"}.items():
        assert long in code
        code = code.replace(long, short)
    names: dict[str, object] = {}
    exec(compile(code, "tutorial.md", "exec"), names)
    for name in ("em", "pc", "ode"):
        assert names[name].shape == (2, 1, 28, 28)  # type: ignore[attr-defined]
    assert bool(names["bits"].isfinite().all())  # type: ignore[attr-defined]


def test_evaluation_page():
    """Of two laws known: the metrics that it prints are those of N(0, I) and N(0, 1.21 I) in 8 dimensions."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "evaluation.md", "exec"), names)
    distance = names["frechet_distance"](names["a"], names["b"])  # type: ignore[operator]
    assert float(distance) == pytest.approx(8 * 0.1**2, abs=0.1)


EXAMPLES = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in SLOW else ())
    for path in sorted((ROOT / "examples").glob("*.py"))
]


@pytest.mark.parametrize("path", EXAMPLES)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    runpy.run_path(str(path), run_name="__main__")
