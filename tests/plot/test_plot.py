"""Pictures hold the numbers that they were given, at their places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorefield import plot


def pixels(picture):
    return np.asarray(picture).astype(int)


def test_each_picture_has_its_place_in_the_grid():
    x = torch.arange(5 * 2 * 3).reshape(5, 1, 2, 3)
    sheet = pixels(plot.image_grid(x, levels=256, columns=2, side=1, gap=1))
    assert sheet.shape == (3 * 3 + 1, 2 * 4 + 1, 3)
    free = np.ones(sheet.shape[:2], bool)
    for k in range(5):
        place = np.s_[1 + 3 * (k // 2) : 3 + 3 * (k // 2), 1 + 4 * (k % 2) : 4 + 4 * (k % 2)]
        assert np.array_equal(sheet[place], np.repeat(x[k, 0, :, :, None].numpy(), 3, 2))  # grey
        free[place] = False
    assert (sheet[free] == (70, 90, 130)).all()  # the gaps, and the place of the missing sixth


@pytest.mark.parametrize("gap", [0, 2, 5])
def test_colours_keep_their_channels_and_gaps_their_width(gap):
    x = torch.randint(256, (3, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    sheet = pixels(plot.image_grid(x, levels=256, columns=3, side=1, gap=gap))
    assert sheet.shape == (4 + 2 * gap, 3 * 5 + 4 * gap, 3)
    for k in range(3):
        left = gap + k * (5 + gap)
        assert np.array_equal(sheet[gap : gap + 4, left : left + 5], x[k].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("values", "levels", "wanted"),
    [
        ([0, 1], 2, [0, 255]),
        ([0, 4, 8, 16], 17, [0, 64, 128, 255]),
        ([-1.0, 0.0, 3.0], None, [0, 64, 255]),
        ([-5.0, 300.0], 256, [0, 255]),
        ([7.0, 7.0], None, [0, 0]),
    ],
)
def test_levels_go_from_black_to_white(values, levels, wanted):
    x = torch.tensor(values).reshape(1, 1, 1, -1)
    sheet = pixels(plot.image_grid(x, levels=levels, side=1, gap=0))
    assert sheet[0, :, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("shape", "side", "factor"), [((2, 3), 12, 4), ((2, 3), 13, 4), ((5, 3), 4, 1), ((8, 8), 64, 8)]
)
def test_small_pictures_are_enlarged_by_a_whole_factor(shape, side, factor):
    x = torch.arange(shape[0] * shape[1]).reshape(1, 1, *shape)
    sheet = pixels(plot.image_grid(x, levels=256, side=side, gap=0))[..., 0]
    assert np.array_equal(sheet, x[0, 0].numpy().repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize(("size", "gap"), [(8, 8), (28, 2), (64, 2)])
def test_small_pictures_have_a_wide_frame(size, gap):
    sheet = pixels(plot.image_grid(torch.zeros(1, 1, size, size), levels=2))
    assert sheet.shape[0] == size * (64 // size) + 2 * gap


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (4, 2), (5, 2), (64, 8), (90, 9)])
def test_a_grid_is_about_square_by_default(n, columns):
    sheet = pixels(plot.image_grid(torch.zeros(n, 1, 1, 1), levels=2, side=1, gap=0))
    assert sheet.shape[:2] == (-(-n // columns), columns)


@pytest.mark.parametrize("shape", [(0, 1, 2, 2), (2, 2, 2, 2), (1, 2, 2), (2, 5, 8, 8), (3, 2), (1, 3, 2, 2, 2)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"pictures of shape \(n, 1, 3 or 4, height, width\); got"):
        plot.image_grid(torch.zeros(shape))
    assert plot.is_image(shape[1:], alpha=True) == (shape == (0, 1, 2, 2))


def test_alpha_is_kept_and_the_frame_opaque():
    x = torch.arange(4 * 2 * 2).reshape(1, 4, 2, 2)
    sheet = pixels(plot.image_grid(x, levels=256, side=1, gap=1))
    assert np.array_equal(sheet[1:3, 1:3], x[0].permute(1, 2, 0)) and (sheet[0, :, 3] == 255).all()
    assert plot.is_image((4, 2, 2), alpha=True) and not plot.is_image((4, 2, 2))


@pytest.mark.parametrize("columns", [0, -1])
def test_a_grid_has_at_least_one_column(columns):
    with pytest.raises(ValueError, match="columns"):
        plot.image_grid(torch.zeros(2, 1, 2, 2), columns=columns)


def test_the_loss_curve_draws_losses_running_mean_and_validation():
    losses = [3.0, 1.0, 2.0, 4.0, 0.5, 2.5]
    figure = plot.loss_curve(range(10, 16), losses, [(12, 1.5), (15, 1.25)], smooth=3)
    (axes,) = figure.axes
    raw, mean, held_out = axes.lines
    assert raw.get_xydata().tolist() == [[10 + k, loss] for k, loss in enumerate(losses)]
    assert np.allclose(mean.get_xydata(), [[12 + k, sum(losses[k : k + 3]) / 3] for k in range(4)])
    assert held_out.get_xydata().tolist() == [[12, 1.5], [15, 1.25]]
    assert axes.get_ylim() == (0, 2.5 * np.median(losses))


@pytest.mark.parametrize("losses", [[], [2.0], [0.0, 0.0], [-1.0, -2.0], [float("nan"), 1.0], [float("inf")] * 2])
def test_any_losses_can_be_drawn(losses, tmp_path):
    figure = plot.loss_curve(range(len(losses)), losses)
    figure.savefig(tmp_path / "loss.png")
    assert len(figure.axes[0].lines[0].get_xydata()) == len(losses)


def test_points_are_drawn_where_they_are():
    points = torch.tensor([[0.0, 1.0], [-2.0, 3.0]], requires_grad=True)
    (dots,) = plot.scatter(points).axes[0].collections
    assert dots.get_offsets().tolist() == points.tolist()


def test_a_score_field_has_arrows_along_the_scores_of_root_length():
    points, scores = (
        torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
        torch.tensor([[4.0, 0.0], [0.0, -9.0], [0.0, 0.0]]),
    )
    behind, arrows = plot.score_field(points, scores, samples=points[:2] + 1).axes[0].collections
    assert behind.get_offsets().tolist() == [[1, 2], [3, 4]]
    assert arrows.XY.tolist() == points.tolist()
    assert np.allclose(np.stack((arrows.U, arrows.V), 1), [[2, 0], [0, -3], [0, 0]])


def test_trajectories_have_a_panel_for_each_set_of_paths():
    paths = {
        "up": ([0.0, 0.5, 1.0], torch.arange(6.0).reshape(3, 2)),
        "down": ([1.0, 0.0], torch.tensor([[5.0], [6.0]])),
    }
    panels = plot.trajectories(paths, "pixel").axes
    assert [axes.get_title() for axes in panels] == list(paths) and panels[0].get_ylabel() == "pixel"
    for axes, (times, values) in zip(panels, paths.values(), strict=True):
        assert len(axes.lines) == values.shape[1]
        for line, path in zip(axes.lines, values.T, strict=True):
            assert line.get_xydata().tolist() == [[t, v] for t, v in zip(times, path.tolist(), strict=True)]


def test_a_plane_is_a_square_lattice():
    points = plot.plane(-1.0, 1.0, side=3)
    assert sorted(points.tolist()) == [[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]


def test_a_broken_pixel_leaves_the_others_to_be_seen():
    x = torch.tensor([[0.0, 1.0], [torch.nan, torch.inf]]).reshape(1, 1, 2, 2)
    assert pixels(plot.image_grid(x, side=1, gap=0))[0, :, 0].tolist() == [0, 255]


def test_calls_that_nearly_coincide_have_one_tick():
    figure = plot.error_curves({"a": ([5, 10, 20, 50], [1.0, 2, 3, 4]), "b": ([3, 9, 19, 49], [1.0, 2, 3, 4])})
    assert figure.axes[0].get_xticks().tolist() == [3, 5, 9, 19, 49]


def test_bars_are_the_shares_side_by_side():
    (axes,) = plot.bars({"a": torch.tensor([0.2, 0.8]), "b": torch.tensor([0.5, 0.5])}, ["cat", "dog"]).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.2, 0.8, 0.5, 0.5])
    assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]


def test_histograms_are_densities_over_common_bins_with_their_means():
    values = {"a": torch.tensor([0.0, 1.0, 1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    (axes,) = plot.histograms(values, "x", bins=4).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.25, 0.5, 0.25, 0, 0, 0, 0, 1])
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, 3.5]
