"""Figures show the numbers of their dataset: every seed, what diverged, and what was left out."""

import numpy as np
import pytest
from made_results import made

from jaxexp import figures, results
from jaxexp.errors import StudyError
from jaxexp.figures import levels, saving
from jaxexp.pages import vector

RATES, HIDDEN = (0.001, 0.01, 0.1), (8, 16)


def grid(**options):
    rates, hidden = (axis.ravel() for axis in np.meshgrid(RATES, HIDDEN))
    return made({"learning_rate": rates, "hidden": hidden}, **options)


def many(num_trials=300, **options):
    drawn = np.random.default_rng(0)
    rates = 10 ** drawn.uniform(-4, 0, num_trials)
    return made({"learning_rate": rates, "optimizer": drawn.choice(["sgd", "adam"], num_trials)}, **options)


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_learning_curves_are_the_means_over_the_seeds_that_are_finite():
    dataset = grid(lost=[(1, 0)])
    (axes,) = figures.learning_curves(dataset).axes
    assert len(lines(axes)) == 6
    drawn = lines(axes)["learning_rate=0.01, hidden=8"].get_ydata()
    expected = dataset.accuracy.values[1, 1:].mean(0)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    assert "1 runs not finite" in axes.figure.get_suptitle()


def test_learning_curves_of_many_trials_are_eight_above_a_band_of_all():
    dataset = many()
    figure = figures.learning_curves(dataset)
    last = [line.get_ydata()[-1] for line in lines(figure.axes[0]).values()]
    assert len(last) == 8
    assert last == sorted(last, reverse=True)
    means = dataset.accuracy.values[..., -1].mean(1)
    assert last[0] == pytest.approx(means.max())
    assert last[-1] == pytest.approx(means.min())
    assert figure.get_suptitle().startswith("8 of 300 trials")
    low, high = np.percentile(means, (5, 95))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert {round(float(value), 5) for value in band} >= {round(low, 5), round(high, 5)}


def test_learning_curves_of_one_seed_have_no_band():
    (axes,) = figures.learning_curves(grid(num_seeds=1)).axes
    assert len(lines(axes)) == 6
    assert len(axes.collections) == 0


def test_sensitivity_holds_all_else_fixed_and_counts_what_diverged():
    dataset = grid(lost=[(2, 0), (2, 1), (5, 3)])
    figure = figures.sensitivity(dataset)
    by_rate, by_hidden = figure.axes
    assert by_rate.get_xscale() == "log"
    assert by_hidden.get_xscale() == "linear"
    drawn = lines(by_rate)["hidden=8"]
    np.testing.assert_allclose(drawn.get_xdata(), RATES)
    last = dataset.accuracy.values[..., -1]
    np.testing.assert_allclose(drawn.get_ydata(), [last[0].mean(), last[1].mean(), last[2, 2:].mean()], rtol=1e-6)
    assert [text.get_text() for text in by_rate.texts] == ["3"]
    assert [text.get_text() for text in by_hidden.texts] == ["2", "1"]


def test_sensitivity_says_what_a_line_holds_fixed():
    dataset = made({"learning_rate": (0.1, 0.1, 0.1), "hidden": (8, 16, 32), "optimizer": ("sgd", "sgd", "sgd")})
    dataset = dataset.assign_coords(learning_rate=("trial", [0.1, 0.1, 0.2]))
    (rates, hidden) = figures.sensitivity(dataset).axes
    assert hidden.get_title() == "learning_rate=0.1"
    assert lines(hidden) == {}
    assert rates.get_title() == "a point: mean of up to 2 trials"


def test_sensitivity_of_random_trials_is_by_classes():
    dataset = many()
    (axes,) = figures.sensitivity(dataset).axes
    assert axes.get_title().startswith("12 classes; a point: mean of up to ")
    assert set(lines(axes)) == {"optimizer=sgd", "optimizer=adam"}
    own = levels.levels(dataset.learning_rate.values, 12)
    mine = (own.codes == 4) & (dataset.optimizer.values == "sgd")
    drawn = lines(axes)["optimizer=sgd"].get_ydata()[4]
    assert drawn == pytest.approx(dataset.accuracy.values[mine][..., -1].mean())


def test_a_heatmap_marks_the_cells_that_diverged():
    dataset = grid(lost=[(0, seed) for seed in range(4)] + [(4, 1)])
    figure = figures.heatmap(dataset)
    last = dataset.accuracy.values[..., -1]
    shown = texts(figure)
    assert shown[0] == "×4"  # noqa: RUF001
    assert shown[1] == f"{last[1].mean():.3g}"
    assert shown[4] == f"{last[4, [0, 2, 3]].mean():.3g}\n×1"  # noqa: RUF001
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert [patch.get_xy() for patch in hatched] == [(0, 0)]
    assert figure.axes[0].get_xlabel() == "learning rate"


def test_a_heatmap_averages_only_trials_whose_other_values_are_in_every_cell():
    rates, hidden = (axis.ravel() for axis in np.meshgrid(RATES, HIDDEN))
    columns = {"learning_rate": [*rates, 0.1], "hidden": [*hidden, 16], "optimizer": ["sgd"] * 6 + ["adam"]}
    dataset = made(columns)
    figure = figures.heatmap(dataset)
    assert figure.get_suptitle().startswith("optimizer=sgd")
    assert texts(figure)[5] == f"{dataset.accuracy.values[5, :, -1].mean():.3g}"


def test_a_heatmap_of_random_trials_has_at_most_eight_classes_a_side():
    drawn = np.random.default_rng(1)
    dataset = made({"learning_rate": 10 ** drawn.uniform(-4, 0, 400), "momentum": drawn.uniform(0, 1, 400)})
    axes = figures.heatmap(dataset).axes[0]
    assert (len(axes.get_xticks()), len(axes.get_yticks())) == (8, 8)
    assert "to" in axes.get_xticklabels()[0].get_text()


def test_a_heatmap_hatches_no_cell_that_has_a_finite_run():
    columns = {
        "learning_rate": RATES * 4,
        "hidden": (8,) * 3 + (16,) * 3 + (8,) * 3 + (16,) * 3,
        "momentum": (0.5,) * 6,
    }
    columns["momentum"] += (0.9,) * 6
    dataset = made(columns, num_seeds=2, lost=[(0, 1), (6, 0)], waiting=[(5, 0), (5, 1), (11, 0), (11, 1)])
    figure = figures.heatmap(dataset)
    assert [patch.get_xy() for patch in figure.axes[0].patches if patch.get_hatch()] == [(2, 1)]
    assert texts(figure)[0] == "×2"  # noqa: RUF001
    assert figure.get_suptitle().endswith("no seed is finite in all of the cell's trials")
    assert figures.heatmap(grid(lost=[(0, 1)])).get_suptitle().endswith("hatched: no finite run")


def test_differences_are_of_trials_that_share_two_finite_seeds():
    apart = [(0, 0), (0, 1), (1, 2), (1, 3), (2, 2), (2, 3)]
    figure = figures.differences(made({"learning_rate": RATES}, lost=apart))
    assert figure.axes[0].get_xlabel().endswith("minus that of learning_rate=0.01")
    with pytest.raises(StudyError, match="finite at the same two seeds"):
        figures.differences(made({"learning_rate": RATES[:2]}, lost=apart[:4]))


def test_differences_show_every_seed():
    dataset = grid(num_seeds=12, lost=[(3, 2)])
    figure = figures.differences(dataset)
    last = np.where(dataset.status.values == 0, dataset.accuracy.values[..., -1], np.nan)
    circles = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert len(circles) == 5
    for trial, drawn in enumerate(circles, 1):
        np.testing.assert_allclose(drawn.get_xdata(), last[trial] - last[0], atol=1e-6)
    assert figure.axes[0].get_xlabel().endswith("minus that of learning_rate=0.001, hidden=8")


def test_parallel_coordinates_put_the_best_on_top():
    dataset = many(num_trials=40, lost=[(3, seed) for seed in range(4)])
    figure = figures.parallel(dataset)
    thin, thick = figure.axes[0].collections
    assert (len(thin.get_segments()), len(thick.get_segments())) == (31, 8)
    assert min(thick.get_array()) > max(thin.get_array())
    rates = np.log(dataset.learning_rate.values)
    best = thick.get_segments()[-1]
    assert best[0, 1] == pytest.approx((rates[39] - rates.min()) / (rates.max() - rates.min()))
    assert best[-1, 1] == pytest.approx(1)
    assert sum(line.get_marker() == "x" for line in figure.axes[0].get_lines()) == 1


def test_the_best_trials_are_those_of_which_fewer_runs_diverged():
    dataset = many(num_trials=40, lost=[(39, 0), (39, 1), (38, 0)])
    assert levels.ranked(dataset, "accuracy")[:2] + levels.ranked(dataset, "accuracy")[-2:] == [37, 36, 38, 39]
    assert levels.spread(dataset, "accuracy")[::7] == [37, 39]
    thick = figures.parallel(dataset).axes[0].collections[1]
    last = dataset.accuracy.values[..., -1].mean(1)
    np.testing.assert_allclose(thick.get_array()[-1], last[37], rtol=1e-6)


@pytest.mark.parametrize("kind", figures.KINDS)
def test_each_kind_names_a_metric_that_is_missing(kind):
    with pytest.raises(StudyError, match="there is no metric 'acuracy'; did you mean 'accuracy'"):
        figures.KINDS[kind](grid(), "acuracy")


@pytest.mark.parametrize("kind", figures.KINDS)
def test_each_kind_is_saved_and_says_what_is_left_out(kind, tmp_path):
    dataset = grid(lost=[(0, 1)], waiting=[(5, 0)])
    path = saving.save_kind(dataset, kind, "loss", tmp_path / "figures")
    assert path.name == f"{kind}-loss.png"
    assert path.stat().st_size > 5000
    heading = figures.KINDS[kind](dataset, "loss").get_suptitle()
    assert "1 runs not finite, left out; 1 not run yet" in heading


def test_what_cannot_be_drawn_says_why():
    alone = made({"optimizer": ["sgd"]})
    for kind, why in {
        "sensitivity": "no number is varied here",
        "heatmap": "no two hyperparameters are crossed",
        "parallel": "need two hyperparameters",
        "differences": "needs two trials",
    }.items():
        with pytest.raises(StudyError, match=why):
            figures.KINDS[kind](alone)
    without = alone.drop_vars(["accuracy", "loss"])
    with pytest.raises(StudyError, match="returns no metrics"):
        figures.learning_curves(without)
    with pytest.raises(StudyError, match="there is no result yet"):
        figures.learning_curves(without.assign(status=without["status"] * 0 + results.NOT_RUN))


def test_a_dollar_sign_is_no_formula(tmp_path):
    dataset = made({"optimizer": ["$a", "b$", r"$\frac"], "hidden": [1, 2, 3]}, names=("a$b",))
    for kind in ("curves", "sensitivity", "differences", "parallel"):
        assert saving.save_kind(dataset, kind, None, tmp_path).stat().st_size > 5000


# Levels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1e-4, 1e-3, 1e-2), True),
        (tuple(np.geomspace(0.1, 1, 5)), True),
        (tuple(10 ** np.random.default_rng(0).uniform(-4, 0, 64)), True),
        ((0.1, 0.5, 0.9), False),
        (tuple(np.random.default_rng(0).uniform(0.01, 1, 64)), False),
        ((0.0, 0.01, 0.1), False),
        ((8, 16), False),
        ((1e-6, 1.0), True),
    ],
)
def test_geometric_values_are_recognized(values, expected):
    assert levels.is_geometric(np.unique(values)) is expected


def test_classes_hold_equally_many_values_and_every_trial():
    own = levels.levels(np.random.default_rng(0).permutation(np.arange(100.0)), 8)
    counts = np.bincount(own.codes)
    assert counts.sum() == 100
    assert counts.max() - counts.min() <= 1
    assert own.is_classed


def test_labels_tell_trials_apart_and_leave_out_what_moves_along():
    columns = {"momentum": [0.5, 0.5, 0.9, 0.9], "learning_rate": [1.0, 1.0, 0.2, 0.2], "hidden": [8, 16, 8, 16]}
    dataset = made(columns)
    assert levels.labels(dataset, [0, 3]) == ["momentum=0.5, hidden=8", "momentum=0.9, hidden=16"]
    drawn = made({"a": [0.1, 0.2, 0.3], "b": [1.0, 2.0, 3.0]})
    assert levels.labels(drawn, [0, 1]) == ["a=0.1, b=1", "a=0.2, b=2"]


def test_labels_that_are_cut_carry_the_trial():
    dataset = made({"optimizer": ["x" * 200 + "1", "x" * 200 + "2"]})
    first, second = levels.labels(dataset, [0, 1])
    assert first.startswith("trial 0: optimizer=xxx")
    assert second.startswith("trial 1: ")
    assert len(first) < 110


def test_means_by_level_leave_out_what_is_not_finite():
    values = np.asarray([[1.0, np.nan], [3.0, np.nan], [7.0, 8.0]])
    np.testing.assert_array_equal(levels.means(values, np.asarray([0, 0, 1]), 3)[:2], [[2.0, np.nan], [7.0, 8.0]])
    assert np.isnan(levels.means(values, np.asarray([0, 0, 1]), 3)[2]).all()


# As markup


def test_words_say_where_each_line_begins_and_ends():
    told = vector.words(figures.sensitivity(grid()))
    last = grid().accuracy.values[..., -1].mean(1, dtype=np.float64)
    assert f"accuracy after 100 steps against learning rate: hidden=8 from {last[0]:.3g} to {last[2]:.3g}" in told


def test_a_figure_with_very_many_marks_is_pixels():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    for place in range(400):
        axes.plot(np.random.default_rng(place).normal(size=200))
    drawn, width = vector.markup(figure, "it")
    assert drawn.startswith('<img src="data:image/png;base64,')
    assert len(drawn) < 400_000
    assert width == pytest.approx(614.4)


@pytest.mark.parametrize(("smaller", "names"), [
    (True, "mse test_RMSE mae nll loss_of_height error perplexity regret cost distance brier_score seconds divergence "
           "negative_log_likelihood neg_log_prob"),
    (False, "accuracy dice score return auc likelihood log_likelihood"),
])  # fmt: skip
def test_a_name_says_whether_small_values_are_good(smaller, names):
    assert {name: levels.smaller_is_better(name) for name in names.split()} == dict.fromkeys(names.split(), smaller)
