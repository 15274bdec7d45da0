"""Seeds of torch's global generators, which threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from scorefield import VP, EDMPrecond, Preconditioned, ScoreModel
from scorefield.nn import MLP, seeded


def weights(seed: int) -> torch.Tensor:
    with seeded(seed):
        return torch.cat([w.flatten() for w in MLP((2,), features=32, blocks=2).parameters()])


def nested(seed: int) -> torch.Tensor:
    """A block inside of a block of the same thread, which must not wait for itself."""
    with seeded(seed):
        first, inner = torch.randn(50), weights(seed)
        return torch.cat((first, inner, torch.randn(50)))


@pytest.mark.parametrize("make", [weights, nested])
def test_threads_get_the_numbers_of_their_own_seeds(make):
    """Without taking turns 42 of 64 networks had weights of others, and the global generator changed."""
    wanted = [make(seed) for seed in range(24)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(make, range(24)))
    assert all(map(torch.equal, found, wanted))
    assert torch.equal(torch.get_rng_state(), before)


def test_models_that_threads_load_leave_the_generator_and_each_other_alone(tmp_path):
    for seed in range(3):
        with seeded(seed):
            net = MLP((2,), features=32, blocks=2)
        ScoreModel(Preconditioned(net, VP(), EDMPrecond(1.0)), (2,)).save(tmp_path / str(seed))
    before = torch.get_rng_state()

    def loaded(k: int) -> torch.Tensor:
        with seeded(k):
            drawn = torch.randn(5)
        model = ScoreModel.load(tmp_path / str(k % 3))
        return torch.cat([drawn, *(w.flatten() for w in model.denoiser.parameters())])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(loaded, range(12)))
    assert all(torch.equal(found[k], loaded(k)) for k in range(12))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_inside_gives_the_turn_back():
    with pytest.raises(ZeroDivisionError), seeded(0):
        raise ZeroDivisionError
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(weights, 0).result(10).shape
