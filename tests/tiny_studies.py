"""Three small networks to train whole runs of, and digests of everything that a run gives.

Run as a script it trains the studies whose names it is given, in its own process, and prints their digests.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxexp as jx
from jaxexp import engine, plans
from jaxexp import study as studies
from jaxexp.plans import Tile
from jaxexp.results import Result

TILE = Tile(trials=3, seeds=2)
LEARNING_RATES = (0.01, 0.05, 0.2, 1.0)
DIVERGING = 3e38
NUM_SEEDS = 3
NUM_STEPS = 6


@jx.config
class Config:
    learning_rate: float = 0.1
    momentum: float = 0.9


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        units = jnp.tanh(nn.Conv(3, (3, 3))(inputs.reshape(len(inputs), 8, 8, 1)))
        units = nn.max_pool(units, (2, 2), (2, 2))
        return nn.Dense(10)(units.reshape(len(inputs), -1))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        units = jnp.asarray(nn.RNN(nn.LSTMCell(7))(inputs.reshape(len(inputs), 8, 8)))
        return nn.Dense(10)(units[:, -1])


class Case(NamedTuple):
    """A model, its optimizer, and how much data it sees at once."""

    model: Any
    optimizer: Any
    num_examples: int
    batch_size: int | None


def _momentum(config: Config) -> optax.GradientTransformation:
    return optax.sgd(config.learning_rate, momentum=config.momentum)


def _adam(config: Config) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate)


CASES = {
    "mlp": Case(jx.models.mlp((64, 7, 10), activation=jnp.tanh), _momentum, 40, 5),
    "cnn": Case(jx.models.functional(Convolutional()), _adam, 40, 5),
    "lstm": Case(jx.models.functional(Recurrent()), _momentum, 40, 5),
    # So long a sum over the examples is what XLA would split among threads, if it had more than one.
    "wide": Case(jx.models.mlp((64, 200, 10)), _momentum, 1437, None),
}


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def study(name: str, learning_rates: Sequence[float] = LEARNING_RATES, seeds: Any = NUM_SEEDS) -> jx.Study:
    case = CASES[name]
    digits = tuple(np.asarray(array[: case.num_examples]) for array in jx.datasets.digits())
    experiment = jx.supervised(
        model=case.model,
        loss=cross_entropy,
        optimizer=case.optimizer,
        batch_size=case.batch_size,
        metrics={"accuracy": lambda outputs, labels: jnp.mean(outputs.argmax(-1) == labels)},
    )
    return jx.Study(
        experiment=experiment,
        config=Config(),
        sweep=jx.grid(learning_rate=tuple(learning_rates)),
        seeds=seeds,
        num_steps=NUM_STEPS,
        evaluate_every=3,
        log_every=1,
        data=lambda config: digits,
    )


def digests(trials: Mapping[str, np.ndarray], results: Sequence[Result]) -> dict[str, str]:
    """A SHA-256 for each run over its final state, metrics and status, by its hyperparameters and seed."""
    found = {}
    for result in results:
        arrays = [*result.state, result.status, result.status_step]
        for metrics in (result.logged, result.evaluated):
            arrays += [metrics[name] for name in sorted(metrics)]
        for index, (trial, seed) in enumerate(zip(result.trial, result.seed, strict=True)):
            values = " ".join(f"{name}={trials[name][trial]!r}" for name in sorted(trials))
            total = hashlib.sha256()
            for array in arrays:
                total.update(np.ascontiguousarray(array[index]).tobytes())
            found[f"{values} seed={seed}"] = total.hexdigest()
    return found


class Trainer(NamedTuple):
    """A compiled program of one of the studies, which trains any trials and seeds of it."""

    name: str
    plan: plans.Plan
    made: engine.Compiled

    def digests(self, learning_rates: Sequence[float] = LEARNING_RATES, seeds: Any = NUM_SEEDS) -> dict[str, str]:
        plan = self.planned(learning_rates, seeds)
        return digests(plan.trials.columns, self.results(plan))

    def planned(self, learning_rates: Sequence[float], seeds: Any) -> plans.Plan:
        """The plan of other trials and seeds, without tracing the experiment again."""
        other = study(self.name, learning_rates, seeds)
        trials = studies.table(other)
        group = dataclasses.replace(self.plan.groups[0], trials=np.arange(len(trials)))
        return dataclasses.replace(
            self.plan, study=other, trials=trials, seeds=studies.seeds(other), groups=(group,), asked="other"
        )

    def results(self, plan: plans.Plan) -> list[Result]:
        """The results of each batch of a plan of this study, with final states."""
        return [self._trained(plan, batch) for batch in plans.batches(plan)]

    def _trained(self, plan: plans.Plan, batch: plans.Batch) -> Result:
        *_, last = engine.train(plan, self.made, batch, keep_state=True)
        assert isinstance(last, engine.Trained)
        return last.result()


def trainer(name: str) -> Trainer:
    plan = plans.plan(study(name), tile=TILE)
    with engine.compiler(plan, {}, ()) as program:
        return Trainer(name, plan, program(0))


if __name__ == "__main__":
    os.sched_setaffinity(0, set(map(int, sys.argv[1].split(","))))  # before JAX counts the cores that it may use
    print(json.dumps({name: trainer(name).digests() for name in sys.argv[2:]}))
