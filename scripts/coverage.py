"""Simulates what docs/statistics.md says: how often intervals cover, verdicts are false, and chosen trials flatter.

`python scripts/coverage.py` writes the tables between the markers of docs/statistics.md anew; `--print` only shows
them. 2000 repeats a figure, generators seeded by the figure's name: the same figures at each call. About a minute.
"""

import argparse
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray
from scipy.special import ndtr, stdtrit

import jaxexp as jx
from jaxexp.statistics import (
    HOLDS,
    NOT_SHOWN,
    check,
    choose_and_judge,
    iqm_interval,
    mean_interval,
    median_interval,
    probability_of_improvement,
    seeds_needed,
    share_interval,
    two_stage_interval,
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
REPEATS, RESAMPLES, LEVEL = 2000, 500, 0.95
NUM_SEEDS = (3, 5, 10, 20, 50)
NUM_CLAIMS, NUM_TRIALS, CHOOSING_SEEDS = 10, 20, 20
MOST_SEEDS, PATIENCE = 1000, 100

Interval = Callable[[np.ndarray], tuple[float, ...]]


class Case(NamedTuple):
    """An interval and values to take it of.

    Attributes:
        name: Of the interval.
        interval: A function of values [n] that returns an estimate, the lower end and the upper end first.
        distribution: What the values come from, in words.
        draw: A function of a generator and a size that draws them.
        truth: What the interval should cover.
    """

    name: str
    interval: Interval
    distribution: str
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
    truth: float


def generator(*name: object) -> np.random.Generator:
    """Returns the random numbers of a figure: a function of its name alone."""
    return np.random.default_rng(zlib.crc32(repr(name).encode()))


def bootstrap(statistic: Callable[..., np.ndarray], values: np.ndarray) -> tuple[float, float, float]:
    """Returns a statistic with its percentile bootstrap interval, which the library does not use.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1).
    """
    seed = values.astype(np.float32).tobytes()  # the last bits of exp differ from CPU to CPU
    chosen = generator("bootstrap", seed).integers(values.size, size=(RESAMPLES, values.size))
    low, high = np.quantile(statistic(values[chosen], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(statistic(values, axis=0)), float(low), float(high)


def trimmed(values: np.ndarray, axis: int) -> np.ndarray:
    """Returns the interquartile mean along an axis."""
    cut = values.shape[axis] // 4
    return np.take(np.sort(values, axis), range(cut, values.shape[axis] - cut), axis).mean(axis)


def lognormal_iqm(quartile: float = 0.6744897501960817) -> float:
    """Returns the mean of the middle half of exp(z), z standard normal."""
    return float(2 * np.exp(0.5) * (ndtr(quartile - 1) - ndtr(-quartile - 1)))


def improvement(differences: np.ndarray) -> tuple[float, ...]:
    """Returns how often the first of a pair is larger, of differences of which some are 0."""
    return probability_of_improvement(differences, np.zeros_like(differences), LEVEL)


def older_iqm(values: np.ndarray) -> tuple[float, float, float]:
    """Returns the interquartile mean with Tukey and McLaughlin's interval (1963), which the library does not use."""
    estimate, n = iqm_interval(values, LEVEL), values.size
    middle = n - 2 * (n // 4)
    half = (estimate.high - estimate.mean) * np.sqrt((middle - 1) / middle * n / (n - 1))
    return estimate.mean, estimate.mean - half, estimate.mean + half


def normal(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws from N(1, 1)."""
    return random.normal(1.0, 1.0, size)


def skewed(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws from exp(N(0, 1))."""
    return np.exp(random.normal(0.0, 1.0, size))


def uniform(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws from U(0, 1)."""
    return random.random(size)


def yes(chance: float, random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws 1 with a chance, else 0."""
    return (random.random(size) < chance).astype(float)


def rounded(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws -1 with a chance of .2, 0 with .3, 1 with .5."""
    return np.digitize(random.random(size), (0.2, 0.5)) - 1.0


CASES = (
    Case("mean, t", mean_interval, "normal", normal, 1.0),
    Case("mean, bootstrap", partial(bootstrap, np.mean), "normal", normal, 1.0),
    Case("IQM, t", iqm_interval, "normal", normal, 1.0),
    Case("IQM, older t", older_iqm, "normal", normal, 1.0),
    Case("IQM, bootstrap", partial(bootstrap, trimmed), "normal", normal, 1.0),
    Case("median, order statistics", median_interval, "normal", normal, 1.0),
    Case("median, bootstrap", partial(bootstrap, np.median), "normal", normal, 1.0),
    Case("mean, t", mean_interval, "lognormal", skewed, float(np.exp(0.5))),
    Case("mean, bootstrap", partial(bootstrap, np.mean), "lognormal", skewed, float(np.exp(0.5))),
    Case("IQM, t", iqm_interval, "lognormal", skewed, lognormal_iqm()),
    Case("IQM, bootstrap", partial(bootstrap, trimmed), "lognormal", skewed, lognormal_iqm()),
    Case("IQM, t", iqm_interval, "uniform", uniform, 0.5),
    Case("median, order statistics", median_interval, "lognormal", skewed, 1.0),
    Case("median, bootstrap", partial(bootstrap, np.median), "lognormal", skewed, 1.0),
    Case("share, Clopper-Pearson", share_interval, "1 in .5", partial(yes, 0.5), 0.5),
    Case("share, Clopper-Pearson", share_interval, "1 in .9", partial(yes, 0.9), 0.9),
    Case("mean, t", mean_interval, "1 in .5", partial(yes, 0.5), 0.5),
    Case("mean, t", mean_interval, "1 in .9", partial(yes, 0.9), 0.9),
    Case("IQM, t", iqm_interval, "1 in .9", partial(yes, 0.9), 1.0),
    Case("improvement, Clopper-Pearson", improvement, "wins .5, ties .3", rounded, 0.65),
)


def coverage(case: Case, num_seeds: int, repeats: int = REPEATS) -> float:
    """Returns the share of repeats in which an interval covers the truth; all see the same values of a distribution."""
    drawn = case.draw(generator("coverage", case.distribution, num_seeds), (repeats, num_seeds))
    found = np.asarray([case.interval(values)[1:3] for values in drawn])
    return float(np.mean((found[:, 0] <= case.truth) & (case.truth <= found[:, 1])))


def coverages() -> str:
    """Returns the table of coverages."""
    rows = [[case.name, case.distribution, *(percent(coverage(case, n)) for n in NUM_SEEDS)] for case in CASES]
    return table(["interval at 95 %", "values", *(f"n = {n}" for n in NUM_SEEDS)], rows)


def percent(share: float) -> str:
    """Returns a share as it is printed."""
    return f"{100 * share:.1f}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows))


def claims(shift: float, alternating: bool = False) -> jx.Study:
    """Returns a study that claims of each of ten quantities that its mean is above a bound.

    Args:
        shift: The bound, where the quantities' means are 0.
        alternating: Whether every second bound is far below the means instead.
    """

    def claim(number: int) -> jx.Claim:
        bound = -10.0 if alternating and number % 2 else shift
        return jx.Claim(f"Quantity {number}.", quantity(number), jx.above(bound))

    none = jx.from_train(lambda key, config: {})
    return jx.Study(experiment=none, config=None, claims=[claim(number) for number in range(NUM_CLAIMS)])


def quantity(number: int) -> Callable[[xarray.Dataset], xarray.Variable]:
    """Returns the estimate of one of the quantities of `results`."""
    return lambda dataset: dataset.attrs["quantities"][number]


def results(drawn: np.ndarray) -> Iterator[xarray.Dataset]:
    """Yields results of which claims are judged, one for each repeat of `drawn` [repeats, claims, seeds].

    It is one dataset, whose attribute is changed: to make 100,000 of them, and to index each, would take longer than
    all that is simulated.
    """
    made = xarray.Dataset({"seeds": ("seed", np.arange(drawn.shape[2]))})
    for values in drawn:
        made.attrs["quantities"] = [xarray.Variable("seed", row) for row in values]
        yield made


def quantities(name: str, num_seeds: int, shared: float, repeats: int) -> np.ndarray:
    """Draws standard normal quantities [repeats, claims, seeds] that have a share of their variance in common."""
    random = generator("quantities", name, num_seeds)
    own, common = random.normal(size=(repeats, NUM_CLAIMS, num_seeds)), random.normal(size=(repeats, 1, num_seeds))
    return np.sqrt(1 - shared) * own + np.sqrt(shared) * common


def wrong(made: jx.Study, drawn: np.ndarray, count: int) -> tuple[float, float]:
    """Returns in which shares of repeats a false claim is said to hold, and any of them gets any verdict.

    Args:
        made: A study whose claims have their bounds at the truth, but for those far below it.
        drawn: Quantities, [repeats, claims, seeds].
        count: How many claims are judged together.
    """
    made, held, any_verdict = made.replace(claims=made.claims[:count]), 0, 0
    null = [claim.holds.low == 0 for claim in made.claims]
    for found in (check(made, repeat) for repeat in results(drawn)):
        verdicts = [verdict.verdict for verdict, counts in zip(found, null, strict=True) if counts]
        held += HOLDS in verdicts
        any_verdict += any(verdict != NOT_SHOWN for verdict in verdicts)
    return held / len(drawn), any_verdict / len(drawn)


def without_holm(drawn: np.ndarray) -> tuple[float, float]:
    """Returns the same as `wrong`, for claims that are each judged as if there were no other."""
    mean, error = drawn.mean(2), drawn.std(2, ddof=1) / drawn.shape[2] ** 0.5
    half = stdtrit(drawn.shape[2] - 1, (1 + LEVEL) / 2) * error
    return float((mean - half > 0).any(1).mean()), float((np.abs(mean) > half).any(1).mean())


def false_verdicts(repeats: int = REPEATS) -> str:
    """Returns the table of false verdicts: normal values whose true mean is the claim's bound."""
    rows, sizes = [], (5, 10, 20)
    none, some = claims(0.0), claims(0.0, alternating=True)
    judged = {
        "1 claim": lambda n: wrong(none, quantities("one", n, 0.0, repeats), 1),
        "10 claims, each by itself": lambda n: without_holm(quantities("ten", n, 0.0, repeats)),
        "10 claims, Holm": lambda n: wrong(none, quantities("ten", n, 0.0, repeats), NUM_CLAIMS),
        "10 claims, Holm, half of them true": lambda n: wrong(some, quantities("half", n, 0.0, repeats), NUM_CLAIMS),
        "10 claims, Holm, .8 of noise shared": lambda n: wrong(none, quantities("noise", n, 0.8, repeats), NUM_CLAIMS),
    }
    for name, chance in judged.items():
        pairs = [chance(n) for n in sizes]
        rows.append([name, *(f"{percent(held)} / {percent(either)}" for held, either in pairs)])
    return table(["false: holds / any verdict", *(f"n = {n}" for n in sizes)], rows)


class Null(NamedTuple):
    """Values whose statistic is exactly the bound that is claimed.

    Attributes:
        statistic: Which.
        distribution: What the values come from, in words.
        draw: As of a `Case`.
        bound: The true value of the statistic.
    """

    statistic: Literal["mean", "median", "iqm", "share"]
    distribution: str
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
    bound: float


NULLS = (
    Null("mean", "lognormal", skewed, float(np.exp(0.5))),
    Null("mean", "1 in .5", partial(yes, 0.5), 0.5),
    Null("mean", "1 in .9", partial(yes, 0.9), 0.9),
    Null("iqm", "normal", normal, 1.0),
    Null("iqm", "lognormal", skewed, lognormal_iqm()),
    Null("median", "normal", normal, 1.0),
    Null("median", "lognormal", skewed, 1.0),
    Null("share", "1 in .5", partial(yes, 0.5), 0.5),
    Null("share", "1 in .9", partial(yes, 0.9), 0.9),
)


def false_by_statistic(null: Null, num_seeds: int, count: int, repeats: int = REPEATS) -> tuple[float, float]:
    """Returns in which shares of repeats any of some claims at the bound holds, and gets any verdict: `above` it."""

    def claim(number: int) -> jx.Claim:
        holds = jx.above(null.bound)
        return jx.Claim(f"Quantity {number}.", quantity(number), holds, statistic=null.statistic)

    made = jx.Study(
        experiment=jx.from_train(lambda key, config: {}), config=None, claims=[claim(n) for n in range(count)]
    )
    random = generator("null", null.statistic, null.distribution, num_seeds, count)
    drawn = null.draw(random, (repeats * count, num_seeds)).reshape(repeats, count, num_seeds)
    found = [[verdict.verdict for verdict in check(made, repeat)] for repeat in results(drawn)]
    held = sum(HOLDS in verdicts for verdicts in found)
    return held / repeats, sum(set(verdicts) != {NOT_SHOWN} for verdicts in found) / repeats


def other_verdicts(repeats: int = REPEATS) -> str:
    """Returns the table of false verdicts by statistic and distribution, of one claim and of ten under Holm."""
    rows = []
    for null in NULLS:
        cells = []
        for count in (1, NUM_CLAIMS):
            for n in (5, 10, 20):
                held, either = false_by_statistic(null, n, count, repeats)
                cells.append(f"{percent(held)} / {percent(either)}")
        rows.append([null.statistic, null.distribution, *cells])
    titles = [f"{claims}, n = {n}" for claims in ("1 claim", "10 claims") for n in (5, 10, 20)]
    return table(["statistic", "values", *titles], rows)


def running(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean, ends of the t interval and number of the first 2, 3, ... values."""
    n = np.arange(2, drawn.size + 1)
    mean = np.cumsum(drawn)[1:] / n
    variance = (np.cumsum(drawn**2)[1:] - n * mean**2) / (n - 1)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * np.sqrt(variance / n)
    return mean, mean - half, mean + half, n


def until_narrow(drawn: np.ndarray, first: int, half_width: float) -> tuple[float, float, float, float]:
    """Returns mean, ends and number of seeds of a t interval, where seeds are added until it is narrow."""
    mean, low, high, n = running(drawn)
    stop = first - 2 + int(np.argmax((high - low)[first - 2 :] <= 2 * half_width))
    return mean[stop], low[stop], high[stop], n[stop]


def in_two_stages(drawn: np.ndarray, first: int, half_width: float) -> tuple[float, float, float, float]:
    """Returns the same for Stein's two stages."""
    n = seeds_needed(drawn[:first], half_width, LEVEL)
    return (*two_stage_interval(drawn[:n], first, LEVEL)[:3], n)


def until_it_holds(drawn: np.ndarray, first: int, half_width: float) -> tuple[float, float, float, float]:
    """Returns the same where seeds are added until the interval is above 0, or there are `PATIENCE`; any width."""
    mean, low, high, n = running(drawn[:PATIENCE])
    stop = first - 2 + int(np.argmax(low[first - 2 :] > 0)) if (low[first - 2 :] > 0).any() else -1
    return mean[stop], low[stop], high[stop], n[stop]


WAYS = {
    "seeds added until the t interval is narrow": until_narrow,
    "two stages": in_two_stages,
    "seeds added until the claim holds, at most 100": until_it_holds,
}


def stopping(way: str, first: int, half_width: float, repeats: int = REPEATS) -> tuple[float, float, float]:
    """Returns coverage, the share of intervals wholly above the true mean, and the mean number of seeds."""
    drawn = generator("until", first, half_width).normal(size=(repeats, MOST_SEEDS))
    found = np.asarray([WAYS[way](values, first, half_width) for values in drawn])
    _, low, high, n = found.T
    return float(np.mean((low <= 0) & (high >= 0))), float(np.mean(low > 0)), float(n.mean())


def stops() -> str:
    """Returns the table of what looking at the data does: N(0, 1), looked at after the first stage."""
    rows = []
    cases = [(way, *stage) for stage in ((3, 0.5), (10, 0.5), (10, 0.3)) for way in list(WAYS)[:2]]
    for way, first, half_width in (*cases, (list(WAYS)[2], 10, float("inf"))):
        covered, held, n = stopping(way, first, half_width)
        width = f"{half_width:g}" if np.isfinite(half_width) else "any"
        rows.append([way, str(first), width, percent(covered), percent(held), f"{n:.0f}"])
    return table(["", "first seeds", "half width", "coverage", "false holds", "mean n"], rows)


def other_stops(repeats: int = REPEATS) -> str:
    """Returns the table of two stages where values are not normal; a first stage without spread is doubled."""
    rows = []
    for name, draw, truth, half_width in (
        ("lognormal", skewed, float(np.exp(0.5)), 0.5),
        ("1 in .5", partial(yes, 0.5), 0.5, 0.1),
        ("1 in .95", partial(yes, 0.95), 0.95, 0.05),
    ):
        drawn, found = draw(generator("other stops", name), (repeats, MOST_SEEDS)), []
        for values in drawn:
            first = 10
            while np.ptp(values[:first]) == 0:
                first *= 2
            n = min(MOST_SEEDS, seeds_needed(values[:first], half_width, LEVEL))
            _, low, high, *_ = two_stage_interval(values[:n], first, LEVEL)
            found.append((low <= truth <= high, low > truth, n))
        covered, held, n = np.mean(np.asarray(found, float), 0)
        rows.append([name, f"{half_width:g}", percent(covered), percent(held), f"{n:.0f}"])
    return table(["values", "half width", "coverage", "false holds", "mean n"], rows)


def flattery(apart: bool, repeats: int = REPEATS) -> tuple[float, float, float]:
    """Returns bias, coverage and false superiority of the best of trials that are all the same: N(0, 1).

    Args:
        apart: Whether one half of the seeds chooses and the other judges; else all do both.
        repeats: How often.

    Returns:
        The mean estimate, in standard deviations of a seed; the share of intervals that cover 0; and the share of
        repeats in which the difference from trial 0 is found to be above 0.
    """
    found = []
    for values in generator("flattery").normal(size=(repeats, NUM_TRIALS, CHOOSING_SEEDS)):
        if apart:
            choice = choose_and_judge(values, True, against=0)
            estimate, difference = choice.estimate, choice.difference
        else:
            best = values[values.mean(1).argmax()]
            estimate, difference = mean_interval(best), mean_interval(best - values[0])
        found.append((estimate.mean, estimate.low <= 0 <= estimate.high, difference is not None and difference.low > 0))
    bias, covered, superior = np.mean(np.asarray(found, float), 0)
    return float(bias), float(covered), float(superior)


def choices() -> str:
    """Returns the table of what choosing on the judging seeds does."""
    rows = []
    for name, apart in (("the same seeds", False), ("the other half", True)):
        bias, covered, superior = flattery(apart)
        rows.append([name, f"{bias + 0.0:.2f}", percent(covered), percent(superior)])
    return table(["judged on", "bias in standard deviations", "coverage", "falsely better than trial 0"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "coverage": coverages,
    "verdicts": false_verdicts,
    "others": other_verdicts,
    "other stops": other_stops,
    "stopping": stops,
    "choosing": choices,
}


def written(document: str, name: str, text: str) -> str:
    """Returns a document with one table in the place of what stood between its markers."""
    begin, end = f"<!-- {name}: written by scripts/coverage.py -->", f"<!-- end of {name} -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", document, flags=re.DOTALL)


def main() -> None:
    """Writes or prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TABLES)}; all where none is given")
    parser.add_argument("--print", action="store_true", help="only print them")
    given: Any = parser.parse_args()
    for name in given.names or TABLES:
        text = TABLES[name]()
        print(text, end="\n\n")
        if not given.print:
            DOCUMENT.write_text(written(DOCUMENT.read_text(), name, text))


if __name__ == "__main__":
    main()
