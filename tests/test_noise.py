"""Random numbers: the published generator, the exact map from names to numbers, and the laws of what is drawn.

Statistical checks run at fixed seeds; at other seeds each fails correct code with probability 1e-6.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from scorefield._noise import CHILDREN, DRAWS, MASK, Noise, NoiseSource, as_seeds, philox

RATE = 1e-6
SIGMAS = stats.norm.isf(RATE / 2)
EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]


def like(rows: int, *event: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.empty(rows, *event, dtype=dtype)


def reference_philox(counter: list[int], key: list[int]) -> list[int]:
    """The ten rounds in Python's own integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def reference_words(key: int, index: int, step: int, node: int, draw: int, count: int) -> list[int]:
    blocks = range((count + 3) // 4)
    words = [reference_philox([b, step, index, DRAWS * node + draw], [key & MASK, key >> 32 & MASK]) for b in blocks]
    return list(itertools.chain(*words))[:count]


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, output):
    counter, key, output = ([int(word, 16) for word in line.split()] for line in (counter, key, output))
    assert [int(word) for word in philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))] == output
    assert reference_philox(counter, key) == output


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 5, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63)])
@pytest.mark.parametrize("step", [0, 7, 2**31, 2**32 - 1])
def test_words_are_philox_of_element_step_index_and_draw(seed, step):
    noise = Noise.per_batch(seed, 10, [0, 9]).at(step)
    for source, node in ((noise, 0), (noise.child(3), 4), (noise.child(0).child(255), 512)):
        for row, index in enumerate((0, 9)):
            expected = reference_words(seed, index, step, node, 15, 6)
            assert source.words(6, draw=15)[0, row].tolist() == expected
    several = Noise.per_sample([seed]).at(min(step, MASK - 2)).words(5, draw=1, steps=3)
    expected = [reference_words(seed, 0, min(step, MASK - 2) + k, 0, 1, 5) for k in range(3)]
    assert several[:, 0].tolist() == expected


def test_every_64_bit_pattern_is_a_seed_of_its_own():
    seeds = [0, 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
    words = Noise.per_sample(seeds).words(2)[0]
    assert len({tuple(row) for row in words.tolist()}) == len(seeds)
    assert torch.equal(Noise.per_sample([seed - 2**64 for seed in seeds[4:]]).words(2)[0], words[4:])
    unsigned = torch.from_numpy(np.array(seeds, dtype=np.uint64))
    assert torch.equal(Noise.per_sample(unsigned).words(2)[0], words)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_box_muller_of_the_words(dtype):
    noise = Noise.per_sample([3, 2**64 - 3]).at(5)
    words = noise.words(5000, draw=2)[0].double().numpy()
    radius = np.sqrt(-2 * np.log((words[:, 0::2] + 0.5) / 2**32))
    angle = 2 * np.pi * (words[:, 1::2] + 0.5) / 2**32
    expected = np.stack((radius * np.cos(angle), radius * np.sin(angle)), -1).reshape(2, -1)
    drawn = noise.normal(like(2, 4999, dtype=dtype), draw=2)
    error = np.abs(drawn.double().numpy() - expected[:, :4999])
    # float32 keeps 24 bits of a uniform: most is lost where it is near 1, that is for a small radius
    assert error.max() < (2e-5 if dtype == torch.float32 else 1e-14)
    assert np.sqrt((error**2).mean()) < (1e-6 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_normals_are_the_float32_normals_rounded(dtype):
    noise = Noise.per_sample(range(4))
    assert torch.equal(noise.normal(like(4, 33, dtype=dtype)), noise.normal(like(4, 33, dtype=torch.float32)).to(dtype))


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_uniforms_have_32_random_bits_whatever_the_default_dtype(default):
    noise = Noise.per_sample(range(3))
    expected = (noise.words(1000, draw=4)[0].double() + 0.5) / 2**32
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        drawn, times = noise.uniform(like(3, 1000), draw=4), Noise.per_batch(8, 1).stratified(4)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(drawn, expected)
    assert float(times) == (int(Noise.per_batch(8, 1).words(1, draw=4)) + 0.5) / 2**32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("word", [0, 1, MASK - 1, MASK])
def test_uniforms_stay_inside_the_open_interval(dtype, word, monkeypatch):
    monkeypatch.setattr(Noise, "words", lambda *_: torch.full((1, 1, 1), word))
    u = Noise.per_sample([0]).uniform(like(1, 1, dtype=dtype))
    assert 0 < float(u) < 1


@pytest.mark.parametrize("event", EVENTS)
def test_a_sample_depends_on_its_own_name_only(event):
    seeds = [11, 2**64 - 1, 5, 7, 2**63]
    order = [3, 0, 4, 2, 1]
    for draw in ("normal", "uniform", "rademacher"):
        whole = getattr(Noise.per_sample(seeds).at(3).child(2), draw)(like(5, *event), 1)
        shuffled = getattr(Noise.per_sample([seeds[i] for i in order]).at(3).child(2), draw)(like(5, *event), 1)
        assert torch.equal(shuffled, whole[order])
        alone = [getattr(Noise.per_sample([s]).at(3).child(2), draw)(like(1, *event), 1) for s in seeds]
        assert torch.equal(torch.cat(alone), whole)
        batch = getattr(Noise.per_batch(4, 6).at(1), draw)(like(6, *event))
        parts = [getattr(Noise.per_batch(4, 6, p).at(1), draw)(like(len(p), *event)) for p in ([4], [], [0, 5, 2])]
        assert torch.equal(torch.cat(parts), batch[[4, 0, 5, 2]])


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_takes_the_first_numbers_of_one_sequence(event):
    size = math.prod(event)
    sequence = Noise.per_sample([9, 10]).normal(like(2, 200))
    assert torch.equal(Noise.per_sample([9, 10]).normal(like(2, *event)), sequence[:, :size].reshape(2, *event))


NAMES = [(None, 0, torch.float32), (None, 1, torch.float32), (None, 0, torch.float64), (4, 0, torch.float32)]


@pytest.mark.parametrize("rows, event", [(1, (2,)), (3, ()), (2, (5,)), (7, (3, 8, 8)), (40, (20, 20))])
def test_numbers_drawn_ahead_are_those_drawn_one_by_one(rows, event):
    plain = Noise.per_sample(range(rows))
    ahead = plain.until(12)
    # forwards with a repeated step, then backwards, then past the promised end; draws, dtypes and parts share the cache
    for step in (0, 1, 1, 2, 5, 11, 7, 3, 0, 12, 40):
        for part, draw, dtype in NAMES:
            a, b = (noise.at(step) if part is None else noise.at(step).child(part) for noise in (plain, ahead))
            tensor = like(rows, *event, dtype=dtype)
            assert torch.equal(b.normal(tensor, draw), a.normal(tensor, draw))
    assert torch.equal(ahead.at(2).normal(like(rows, *event, 2)), plain.at(2).normal(like(rows, *event, 2)))


def test_changing_a_draw_in_place_does_not_change_the_noise():
    noise = Noise.per_sample([1, 2]).until(4)
    first = noise.at(1).normal(like(2, 2))
    kept = first.clone()
    first.mul_(2)
    assert torch.equal(noise.at(1).normal(like(2, 2)), kept)


def test_all_names_are_distinct_streams():
    paths = [p for depth in range(4) for p in itertools.product((0, 1, 254, 255), repeat=depth)]
    seen: dict[tuple[int, ...], tuple] = {}
    base = Noise.per_batch(0, 3, [0, 2])
    for path, step, draw in itertools.product(paths, (0, 1, MASK), (0, 1, DRAWS - 1)):
        noise = base.at(step)
        for part in path:
            noise = noise.child(part)
        for index, words in zip((0, 2), noise.words(4, draw)[0].tolist(), strict=True):
            assert tuple(words) not in seen, f"{(path, step, draw, index)} repeats {seen.get(tuple(words))}"
            seen[tuple(words)] = (path, step, draw, index)


def test_order_of_naming_step_and_part_does_not_matter():
    noise = Noise.per_sample([1, 2])
    assert torch.equal(noise.at(4).child(1).normal(like(2, 3)), noise.child(1).at(4).normal(like(2, 3)))


# each pair of streams differs in one part of the name
PAIRS = {
    "samples": lambda n: (n.normal(like(len(n), 64))[:-1], n.normal(like(len(n), 64))[1:]),
    "steps": lambda n: (n.at(0).normal(like(len(n), 64)), n.at(1).normal(like(len(n), 64))),
    "draws": lambda n: (n.normal(like(len(n), 64), 0), n.normal(like(len(n), 64), 1)),
    "parts": lambda n: (n.child(0).normal(like(len(n), 64)), n.child(1).normal(like(len(n), 64))),
    "part and whole": lambda n: (n.normal(like(len(n), 64)), n.child(0).normal(like(len(n), 64))),
    "neighbours": lambda n: (n.normal(like(len(n), 64))[:, 0::2], n.normal(like(len(n), 64))[:, 1::2]),
    "next neighbours": lambda n: (n.normal(like(len(n), 64))[:, :-2], n.normal(like(len(n), 64))[:, 2:]),
    "signs": lambda n: (n.rademacher(like(len(n), 64))[:, :-1], n.rademacher(like(len(n), 64))[:, 1:]),
}


@pytest.mark.parametrize("keyed", ["seeds", "positions"])
@pytest.mark.parametrize("pair", PAIRS)
def test_streams_are_uncorrelated_in_value_and_in_square(pair, keyed):
    """A mutant that leaves a part of the name out of the counter has correlation 1; half an angle has it in squares."""
    a, b = PAIRS[pair](Noise.per_sample(range(4000)) if keyed == "seeds" else Noise.per_batch(1, 4000))
    for u, v, var in ((a, b, 1.0), (a**2 - 1, b**2 - 1, 2.0)):
        assert abs(float((u * v).sum())) <= SIGMAS * var * math.sqrt(u.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_have_the_moments_of_the_normal_law(dtype):
    """Kills noise x 0.99 (14 standard errors of the second moment)."""
    z = Noise.per_sample(range(1000)).normal(like(1000, 1000, dtype=dtype)).double()
    central = {1: 0, 2: 1, 3: 0, 4: 3, 6: 15}
    variance = {1: 1, 2: 2, 3: 15, 4: 96, 6: 10170}
    for k, moment in central.items():
        assert abs(float((z**k).mean()) - moment) <= SIGMAS * math.sqrt(variance[k] / z.numel()), k


def test_normals_follow_the_normal_law_into_its_tails():
    z = Noise.per_batch(2, 2000).normal(like(2000, 1000, dtype=torch.float32)).double().flatten().numpy()
    assert stats.kstest(z[:200_000], "norm").pvalue > RATE
    for level in (3.0, 4.0, 4.5, 5.0):
        for count in ((z > level).sum(), (z < -level).sum()):
            assert stats.binomtest(int(count), len(z), stats.norm.sf(level)).pvalue > RATE, level
    # the smallest uniform is 2^-33
    assert np.abs(z).max() <= math.sqrt(66 * math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_and_signs_follow_their_laws(dtype):
    """Kills uniforms of [0, 0.99] and signs of which 51 % are positive."""
    noise = Noise.per_sample(range(500))
    u = noise.uniform(like(500, 1000, dtype=dtype)).double()
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > RATE
    signs = noise.rademacher(like(500, 1000, dtype=dtype))
    assert signs.dtype == dtype and torch.equal(signs.abs(), torch.ones_like(signs))
    assert abs(float(signs.sum())) <= SIGMAS * math.sqrt(signs.numel())


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("step", [0, 3])
def test_stratified_numbers_cover_the_interval_evenly_across_processes(size, step):
    whole = Noise.per_batch(5, size).at(step).stratified()
    assert whole.dtype == torch.float64
    split = [Noise.per_batch(5, size, range(rank, size, 3)).at(step).stratified() for rank in range(3) if rank < size]
    positions = [i for rank in range(3) for i in range(rank, size, 3)]
    assert torch.equal(torch.cat(split), whole[positions])
    # one number in each cell of width 1/size, all at the same place of their cells
    cells = (whole * size).sort().values
    assert torch.equal(cells.floor(), torch.arange(size).double())
    assert float((cells - cells.floor()).std(correction=0)) < 1e-13 * size


def test_each_stratified_number_is_uniform():
    u = torch.stack([Noise.per_batch(1, 4).at(step).stratified() for step in range(1500)])
    for column in u.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > RATE


def test_a_process_may_hold_no_position_of_the_batch():
    empty = Noise.per_batch(1, 4, [])
    assert empty.normal(like(0, 3)).shape == (0, 3)
    assert empty.stratified().shape == (0,)


def test_numbers_are_made_where_the_tensor_lies():
    # the meta device stands for any other: numbers must end up with `like`
    noise = Noise.per_sample([1])
    for drawn in (noise.normal, noise.uniform, noise.rademacher):
        assert drawn(torch.empty(1, 2, device="meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: as_seeds([2**64]), rf"2\^64.*got {2**64}"),
        (lambda: as_seeds([-(2**63) - 1]), rf"got {-(2**63) - 1}"),
        (lambda: as_seeds(torch.zeros(2)), r"integers.*; got float32 of \(2,\)"),
        (lambda: as_seeds(torch.zeros(2, 2, dtype=torch.int64)), r"integers.*; got int64 of \(2, 2\)"),
        (lambda: Noise.per_batch(0, 4, [0, 4]), r"\[0, 4\).*got 0\.\.4"),
        (lambda: Noise.per_batch(0, 4, [-1]), r"\[0, 4\).*got -1\.\.-1"),
        (lambda: Noise.per_sample([0]).at(-1), "got -1"),
        (lambda: Noise.per_sample([0]).at(2**32), f"got {2**32}"),
        (lambda: Noise.per_sample([0]).child(CHILDREN), r"0\.\.255.*got part 256"),
        (lambda: Noise.per_sample([0]).child(-1), "got part -1"),
        (lambda: Noise.per_sample([0]).child(255).child(255).child(255).child(255), "three levels"),
        (lambda: Noise.per_sample([0]).words(1, draw=DRAWS), r"\[0, 16\); got 16.*child"),
        (lambda: Noise.per_sample([0]).words(1, draw=-1), "got -1"),
        (lambda: Noise.per_sample([0, 1]).normal(like(3, 2)), r"2 samples.*\(3, 2\)"),
        (lambda: Noise.per_sample([0, 1]).uniform(like(3, 2)), r"2 samples.*\(3, 2\)"),
        (lambda: Noise.per_sample([0, 1]).rademacher(like(3, 2)), r"2 samples.*\(3, 2\)"),
    ],
)
def test_errors_say_what_was_got_and_what_was_wanted(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_noise_is_a_noise_source():
    assert isinstance(Noise.per_sample([0]), NoiseSource)
