"""A study: one question as one record. Checks that its parts fit together and tables its trials.

Trains nothing and reads no files; claims are judged by `statistics`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from jaxexp import configs
from jaxexp import sweep as sweeps
from jaxexp.errors import ConfigError, StudyError, suggestion
from jaxexp.experiment import Experiment
from jaxexp.sweep import MISSING, Sweep

MAX_SEED = 2**32 - 1
MAX_NUM_SEEDS = 10**8
MAX_STEPS = 2**31 - 2

COORDINATES = ("trial", "seed", "step", "eval_step", "status", "status_step")
"""Names in a dataset of results that neither a metric nor a hyperparameter can have."""

COUNTS = ("num_steps", "evaluate_every", "log_every")


@dataclasses.dataclass(frozen=True)
class Interval:
    """The values for which a claim holds: low < value < high."""

    low: float = -float("inf")
    high: float = float("inf")


def above(low: float) -> Interval:
    """Returns the interval of numbers above `low`."""
    return Interval(low=low)


def below(high: float) -> Interval:
    """Returns the interval of numbers below `high`."""
    return Interval(high=high)


def between(low: float, high: float) -> Interval:
    """Returns the interval of numbers between two.

    Raises:
        StudyError: If they are not in order.
    """
    if not low < high:
        raise StudyError(f"between({low}, {high}) is empty: give the smaller number first")
    return Interval(low, high)


Statistic = Literal["mean", "median", "iqm", "share", "constant"]
STATISTICS = get_args(Statistic)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence with a statistical test, written before the results are known.

    Attributes:
        statement: The sentence.
        estimate: A function of the dataset that gives one number a seed (xarray, dim `seed`).
        holds: The interval in which the mean (or what `statistic` says) over seeds lies if the sentence is true.
        confidence: The level of the test: of this claim's interval, and of all claims of a study together.
        statistic: What is taken over the seeds: the mean; the median or the interquartile mean, where single seeds
            would rule the mean; the share of those with 1, where an estimate is 0 or 1 (see `share`); or the constant
            that all of them give, where no seed changes the number (a closed form, a run without chance). A mean of
            seeds that all agree shows nothing.
    """

    statement: str
    estimate: Callable[[Any], Any]
    holds: Interval
    confidence: float = 0.95
    statistic: Statistic = "mean"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment, the trials and seeds to train it for, and what is claimed of the outcome.

    Attributes:
        experiment: The three pure functions.
        config: The base config: the hyperparameters that the sweep does not mention.
        sweep: The table of trials.
        seeds: How many seeds (0, 1, ...), or which.
        num_steps: Steps that each run is trained for.
        evaluate_every: Steps between two evaluations; only before and after training where None.
        data: A function of the config (its static fields) that returns the pytree of arrays to train on.
        claims: What is claimed, each with its test.
        log_every: Steps between two records of the step's metrics; as `evaluate_every` where None.
        figures: Functions of the dataset that return a matplotlib figure, drawn by `plot` and after a run.

    Example:
        >>> from jaxexp import from_train, grid
        >>> @configs.config
        ... class Config:
        ...     x: float = 0.0
        >>> study = Study(
        ...     experiment=from_train(lambda key, config: {"y": config.x**2}),
        ...     config=Config(), sweep=grid(x=(1.0, 2.0)), seeds=2,
        ... )
        >>> len(table(study))
        2
    """

    experiment: Experiment
    config: Any
    sweep: Sweep = sweeps.ONE
    seeds: int | Sequence[int] = 1
    num_steps: int = 1
    evaluate_every: int | None = None
    data: Callable[[Any], Any] | None = None
    claims: Sequence[Claim] = ()
    log_every: int | None = None
    figures: Sequence[Callable[[Any], Any]] = ()

    def replace(self, **changes: Any) -> "Study":
        """Returns the study with some of its parts replaced."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class Table:
    """The distinct trials of a study: a column of values for each field that the sweep mentions.

    Attributes:
        columns: Arrays [num_trials] by name: float64, int64, bool, or object where values are anything else.
        base: The config's own value of every field.
    """

    columns: Mapping[str, np.ndarray]
    base: Mapping[str, Any]
    num_trials: int

    def __len__(self) -> int:
        """Returns the number of trials."""
        return self.num_trials


def seeds(study: Study) -> np.ndarray:
    """Returns the seeds of a study as uint32 [num_seeds].

    Raises:
        StudyError: If there is none, one comes twice, or one is no integer from 0 to 2^32 - 1.
    """
    if isinstance(study.seeds, (int, np.integer)):
        if not 0 < study.seeds <= MAX_NUM_SEEDS:
            raise StudyError(f"seeds={study.seeds!r} has no seed, or over {MAX_NUM_SEEDS:,}: write e.g. `seeds=8`")
        return np.arange(study.seeds, dtype=np.uint32)
    listed = list(study.seeds)
    if not listed:
        raise StudyError(f"seeds={study.seeds!r} has no seed: write `seeds=8` or `seeds=0:8`")
    wrong = [seed for seed in listed if not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MAX_SEED]
    if wrong:
        raise StudyError(f"seed {wrong[0]!r} is no integer from 0 to {MAX_SEED}")
    if len(set(listed)) < len(listed):
        twice = next(seed for position, seed in enumerate(listed) if seed in listed[:position])
        raise StudyError(f"seed {twice} is listed twice: a seed is one repetition")
    return np.asarray(listed, np.uint32)


def evaluate_every(study: Study) -> int:
    """Returns the steps between two evaluations."""
    return study.num_steps if study.evaluate_every is None else study.evaluate_every


def log_every(study: Study) -> int:
    """Returns the steps between two records of the step's metrics."""
    return evaluate_every(study) if study.log_every is None else study.log_every


def check(study: Study) -> Study:
    """Returns the study with every value of its sweep and config checked and made plain.

    Raises:
        StudyError: If a part of the study has the wrong type or a count is not positive.
        ConfigError: If the sweep names a field that the config lacks or gives it a wrong value.
    """
    if not isinstance(study.experiment, Experiment):
        raise StudyError(
            f"experiment={study.experiment!r} is no Experiment: write `jx.Experiment(init, step, evaluate)`"
        )
    if isinstance(study.config, type):
        raise StudyError(
            f"config={study.config.__name__} is a class: give one of its values, `{study.config.__name__}()`"
        )
    _check_claims(study.claims)
    known = configs.fields(study.config)
    for name in (*COORDINATES, *COUNTS, "seeds"):
        if name in known:
            raise StudyError(f"a hyperparameter cannot be called {name!r}, which means something else: rename it")
    seeds(study)
    return study.replace(
        config=configs.checked(study.config),
        sweep=sweeps.map_values(study.sweep, lambda name, value: _checked(known, name, value)),
        **_counts(study),
    )


def _check_claims(claims: Sequence[Claim]) -> None:
    """Checks what can be known of claims before anything is trained."""
    statements = set()
    for claim in claims:
        if not isinstance(claim, Claim):
            raise StudyError(f"claims have {claim!r}, which is no Claim: write `jx.Claim(statement, estimate, holds)`")
        if not isinstance(claim.holds, Interval):
            raise StudyError(f"claim {claim.statement!r} holds in {claim.holds!r}: write e.g. `jx.above(0)`")
        if claim.statistic not in STATISTICS:
            raise StudyError(
                f"claim {claim.statement!r} is of the {claim.statistic!r}{suggestion(str(claim.statistic), STATISTICS)}"
            )
        if not 0 < claim.confidence < 1:
            raise StudyError(f"claim {claim.statement!r} has confidence={claim.confidence!r}: write e.g. 0.95")
        if claim.statement in statements:
            raise StudyError(f"claim {claim.statement!r} is made twice: say each once")
        statements.add(claim.statement)


def _counts(study: Study) -> dict[str, int]:
    """The study's counts of steps as plain integers, those that it gives."""
    made = {}
    for name in COUNTS:
        count = getattr(study, name)
        if count is None and name != "num_steps":
            continue
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or not 0 < count <= MAX_STEPS:
            raise StudyError(f"{name}={count!r} is no integer from 1 to {MAX_STEPS}")
        made[name] = int(count)
    every = made.get("evaluate_every", 1)
    end = -(-made["num_steps"] // every) * every
    if end > MAX_STEPS:
        raise StudyError(f"evaluate_every={every} ends at step {end:,}, beyond {MAX_STEPS:,}: choose one that fits")
    return made


def _checked(known: Mapping[str, configs.Field], name: str, value: Any) -> Any:
    return configs.check_value(configs.check_name(known, name, "the sweep"), value)


def table(study: Study) -> Table:
    """Returns the distinct trials of a (checked) study, in the sweep's order.

    Raises:
        ConfigError: If a static value cannot be hashed, so that no program can be kept for it; if two have one text.
    """
    base = {name: getattr(study.config, name) for name in configs.fields(study.config)}
    indices = np.arange(sweeps.size(study.sweep))
    columns = {}
    for name in sweeps.names(study.sweep):
        values = sweeps.column(study.sweep, name, indices)
        default = np.empty(1, object)  # NumPy would take a tuple for as many values
        default[0] = base[name]
        values[[value is MISSING for value in values]] = default
        columns[name] = values
    try:
        distinct = np.fromiter(dict.fromkeys(zip(*columns.values(), strict=True)), object) if columns else [()]
    except TypeError as problem:
        raise ConfigError(f"a static value of the sweep is not hashable ({problem}): use a tuple or a string") from None
    for name, values in columns.items():
        _check_texts(name, values)
    if len(distinct) == len(indices):
        return Table({name: _tight(values) for name, values in columns.items()}, base, len(indices))
    transposed = zip(columns, zip(*distinct, strict=True), strict=True)
    made = {name: _tight(sweeps._objects(values)) for name, values in transposed}
    return Table(made, base, len(distinct))


def _check_texts(name: str, values: np.ndarray) -> None:
    """Refuses values that tables or folders, which hold their texts, could not tell apart."""
    if {type(value) for value in values} <= {float, int, bool}:
        return
    for text_of in (str, configs.text_of):
        known: dict[str, Any] = {}
        for value in dict.fromkeys(values):
            if known.setdefault(text_of(value), value) != value:
                raise ConfigError(
                    f"{name}={known[text_of(value)]!r} and {name}={value!r} are both written {text_of(value)}: no "
                    "table could tell them apart, so give one of them another value"
                )


def _tight(values: np.ndarray) -> np.ndarray:
    kinds = {type(value) for value in values}
    return values.astype(kinds.pop()) if kinds in ({float}, {int}, {bool}) else values


def trial_config(study: Study, trials: Table, index: int) -> Any:
    """Returns the config of one trial, with plain Python values."""
    values = {name: column[index] for name, column in trials.columns.items()}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return dataclasses.replace(study.config, **plain)
