"""One run of a study in plain Python loops: no vmap, no scan, no tiles. What the engine must agree with.

Random keys are the engine's own (`key_stream`, `step_key`); everything else is written from the experiment's contract.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

import jaxexp as jx
from jaxexp.program import key_stream, step_key


class Run(NamedTuple):
    """What one run gives: its state, metrics by name, and the numbers of updates done when they were taken.

    `not_finite` are the numbers of updates done whenever a metric was not finite, recorded or not.
    """

    state: Any
    logged: dict[str, list[float]]
    evaluated: dict[str, list[float]]
    step: list[int]
    eval_step: list[int]
    not_finite: list[int]


class Functions(NamedTuple):
    """An experiment's functions, each compiled on its own for one run."""

    init: Any
    step: Any
    evaluate: Any


def compiled(study: jx.Study) -> Functions:
    """The study's functions under `jax.jit`, to be shared by runs of it."""
    return Functions(*[None if function is None else jax.jit(function) for function in study.experiment])


def train(functions: Functions, study: jx.Study, config: Any, seed: int) -> Run:
    """Trains one config and seed, an update at a time."""
    data = None if study.data is None else study.data(config)
    evaluate_every = study.evaluate_every or study.num_steps
    log_every = study.log_every or evaluate_every
    run = Run(None, {}, {}, [], [], [])

    def judge(metrics: Any, num_updates: int) -> None:
        if not all(np.isfinite(value) for value in metrics.values()):
            run.not_finite.append(num_updates)

    def evaluate(state: Any, num_updates: int) -> None:
        if functions.evaluate is not None:
            metrics = functions.evaluate(state, data, config)
            judge(metrics, num_updates)
            _append(run.evaluated, metrics)
        run.eval_step.append(num_updates)

    state = functions.init(key_stream(seed, "init"), data, config)
    evaluate(state, 0)
    for step in range(study.num_steps):
        state, metrics = functions.step(step_key(seed, step), state, data, config)
        judge(metrics, step)
        if step % log_every == 0:
            _append(run.logged, metrics)
            run.step.append(step)
        if (step + 1) % evaluate_every == 0 or step + 1 == study.num_steps:
            evaluate(state, step + 1)
    return run._replace(state=state)


def _append(records: dict[str, list[float]], metrics: Any) -> None:
    for name, value in metrics.items():
        records.setdefault(name, []).append(np.asarray(value).item())
