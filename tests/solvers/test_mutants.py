"""The gate has teeth: each of these one-token mistakes in a solver is caught."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers.gate import PROCESSES, failures, methods

import scorefield

pytestmark = pytest.mark.usefixtures("unchecked")
SOURCE = Path(scorefield.__file__).parent / "solvers"

# file, what stands there, what a slip makes of it, a method that uses it
MUTANTS = [
    ("exponential", "(1 + eta) * k * ratio", "(1 + 2 * eta) * k * ratio", "ancestral"),
    ("exponential", "w * (1 + eta) * k", "w * (1 + eta) * k * 0.99", "DDIM"),
    ("exponential", "s * np.sqrt(v / (s**2 + v))", "s * np.sqrt(v / (s + v))", "Adams 2 around .7"),
    ("exponential", "c, k = (1.0, s)", "c, k = (1.0, -s)", "Adams 1 0.0 around inf"),
    ("exponential", "(s_b**2 + v) * math.expm1(eta", "(s_a**2 + v) * math.expm1(eta", "DPM++ 2 1.0"),
    ("exponential", "math.expm1(eta * math.log", "math.expm1(0.5 * eta * math.log", "DPM++ 2 1.0"),
    ("exponential", "variance = eta * (s_a**2 - s_b**2)", "variance = eta * (s_a - s_b)", "Adams 1 1.0 around inf"),
    ("exponential", "ratio ** ((1 + eta) / 2))", "ratio ** ((1 - eta) / 2))", "ancestral"),
    ("exponential", "x, alpha=next.alpha / now.alpha", "x, alpha=now.alpha / next.alpha", "DDIM"),
    (
        "exponential",
        "alpha=next.alpha * math.sqrt(variance)",
        "alpha=0.99 * next.alpha * math.sqrt(variance)",
        "SA 1.0",
    ),
    ("exponential", "now, past.eta) - past.integral", "now, past.eta) + past.integral", "UniPC 1"),
    (
        "exponential",
        "taus[: self.order], values[: self.order]",
        "taus[: self.order], values[: self.order][::-1]",
        "DPM++ 2 0.0",
    ),
    ("lagrange", "(at - other) / (node - other)", "(at - other) / (node + other)", "DPM++ 2 0.0"),
    ("lagrange", "(*nodes[:j], *nodes[j + 1 :])", "nodes[j + 1 :]", "UniPC 3"),
    ("exponential_two_stage", "(phi / c) * (second - first)", "phi * (second - first)", "two stages 0.0"),
    ("exponential_two_stage", "phi = 1 + math.expm1", "phi = 1 - math.expm1", "two stages 0.0"),
    ("exponential_two_stage", "math.exp(-(1 - c) * full) * n_c + ", "", "two stages 1.0"),
    ("exponential_two_stage", "noise.normal(x, draw=1)", "noise.normal(x)", "two stages 1.0"),
    ("exponential_two_stage", "-2 * eta * c * h", "-eta * c * h", "two stages 0.5"),
    ("stochastic_runge_kutta", "0.5 * w - area", "0.5 * w + area", "SRA1 1.0"),
    ("stochastic_runge_kutta", "math.sqrt(h / 12)", "math.sqrt(h / 3)", "SRA1 1.0"),
    ("stochastic_runge_kutta", "w2 * w + h2 * area", "w2 * area + h2 * w", "ShARK 1.0"),
    ("stochastic_runge_kutta", "noise.normal(x, draw=1)", "noise.normal(x)", "ShARK 1.0"),
    ("stochastic_runge_kutta", "_area = 1.0, 1 / 2", "_area = 1.0, 1 / 3", "StochasticHeun 0.0"),
    ("stochastic_runge_kutta", "math.sqrt(2 * eta) *", "math.sqrt(eta) *", "StochasticHeun 1.0"),
    ("euler_maruyama", "share * (now.g / now.sigma) ** 2", "share * now.g / now.sigma", "EulerMaruyama 1.0"),
    ("euler_maruyama", "now.g * math.sqrt(self.eta * abs(h))", "now.g * math.sqrt(abs(h))", "EulerMaruyama 0.5"),
    ("euler_maruyama", "(1 + h * (now.a + pull)) * x", "(1 + h * (now.a - pull)) * x", "EulerMaruyama 0.0"),
    ("milstein", "math.sqrt(self.eta) * g * dw", "self.eta * g * dw", "Milstein 0.5"),
    ("reverse_diffusion", "(2 - ratio - pull)", "(1 - pull)", "ReverseDiffusion 1.0"),
    ("reverse_diffusion", "0.5 * (1 + self.eta)", "(1 + self.eta)", "ReverseDiffusion 0.0"),
    ("heun", "(0.5 * gap) * (second - first)", "gap * (second - first)", "Heun"),
    ("heun", "/ next.sigma", "/ now.sigma", "Heun"),
    ("runge_kutta", "h / 6 * (a + 2 * (b + c) + d)", "h / 6 * (a + 2 * (b + d) + c)", "RK4"),
    ("multistep", "(3 / 2, -1 / 2)", "(3 / 2, 1 / 2)", "IPNDM 2"),
    ("multistep", "-0.5 * np.exp", "0.5 * np.exp", "DEIS 2"),
    ("multistep", "alpha=-now.alpha).div_(now.sigma)", "alpha=-now.sigma).div_(now.alpha)", "LMS 1"),
    ("multistep", "tuple(k.sigma / k.alpha for k in knots), next", "tuple(k.sigma for k in knots), next", "LMS 2"),
    ("churn", "math.sqrt(higher**2 - s**2)", "(higher - s)", "Churn"),
    ("restart", "math.sqrt(self.high**2 - s_next**2)", "(self.high - s_next)", "Restart"),
    ("consistent_annealed", "s_b**2 - (kept * s_a) ** 2", "s_b**2 - kept * s_a**2", "consistent annealed"),
    ("solver", "return Step(as_denoiser(model)(x, now.time))", "return Step(x)", "Heun"),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m[3]}: {m[1]} -> {m[2]}")
def test_the_gate_catches(mutant: tuple[str, str, str, str]) -> None:
    file, old, new, method = mutant
    with planted(file, old, new):
        assert caught(method)


def caught(method: str) -> bool:
    for name, sde in PROCESSES.items():
        try:
            if failures(methods()[method], {name: sde}):
                return True
        except ValueError:  # a state that is not finite cannot be certified
            return True
    return False


class planted:
    """Within it the package's solvers are those of the mutated file."""

    def __init__(self, file: str, old: str, new: str) -> None:
        self.name, self.old, self.new = f"scorefield.solvers.{file}", old, new

    def __enter__(self) -> None:
        original = importlib.import_module(self.name)
        path = SOURCE / f"{self.name.rpartition('.')[2]}.py"
        source = path.read_text()
        assert source.count(self.old) == 1, f"{path.name} has {self.old!r} {source.count(self.old)} times"
        mutant = ModuleType(self.name)
        mutant.__dict__.update(__file__=str(path), __package__="scorefield.solvers")
        sys.modules[self.name] = mutant  # dataclasses look their module up
        try:
            exec(compile(source.replace(self.old, self.new), path, "exec"), mutant.__dict__)
        finally:
            sys.modules[self.name] = original
        self.undo: list[tuple[ModuleType, str, object]] = []
        for module in [m for n, m in sys.modules.items() if n.startswith("scorefield.") and m is not mutant]:
            for key, value in list(vars(module).items()):
                if getattr(value, "__module__", None) == self.name and key in vars(mutant) and module is not original:
                    self.undo.append((module, key, value))
                    setattr(module, key, vars(mutant)[key])
        self.forget()

    def __exit__(self, *_: object) -> None:
        for module, key, value in self.undo:
            setattr(module, key, value)
        self.forget()
        self.undo = []
        gc.collect()  # else the command line may meet two classes of one name

    def forget(self) -> None:
        """Weights computed by the other version."""
        for module in ("exponential", "multistep"):
            for value in vars(importlib.import_module(f"scorefield.solvers.{module}")).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def test_without_a_mutation_nothing_is_caught() -> None:
    with planted("heun", "second - first", "second - first"):
        assert not caught("Heun")


@pytest.fixture(autouse=True)
def nothing_stays_planted() -> Iterator[None]:
    yield
    assert scorefield.solvers.Heun.__module__ == "scorefield.solvers.heun"
    assert scorefield.solvers.Heun is sys.modules["scorefield.solvers.heun"].Heun
    classes = [s.__name__ for s in subclasses(scorefield.solvers.Solver) if s.__module__.startswith("scorefield.")]
    assert len(classes) == len(set(classes))


def subclasses(of: type) -> Iterator[type]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)
