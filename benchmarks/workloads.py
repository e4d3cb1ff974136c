"""The workloads W1 to W4 as tasks: the arrays that jaxexp itself trains on, for contenders that know nothing of it.

Initial values come from the experiments' own `init` and the engine's keys, the order of the minibatches from
`jaxexp.minibatches`; so contenders train the runs that jaxexp trains.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.task import Task
from jaxexp import minibatches, program
from jaxexp import study as tables
from jaxexp.study import Study

FILES = {"W1": "w1_xor", "W2": "w2_spiral", "W3": "w3_digits", "W4": "w4_convolution"}
FOLDER = Path(__file__).resolve().parent


def path(workload: str) -> Path:
    """Returns the experiment file of a workload."""
    return FOLDER / f"{FILES[workload]}.py"


def module(workload: str) -> ModuleType:
    """Returns a workload's experiment file, imported: its `study`, and `natural` with a flax module as the model."""
    return importlib.import_module(f"benchmarks.{FILES[workload]}")


def task(workload: str, study: Study | None = None) -> Task:
    """Returns a workload's task.

    Args:
        workload: W1, W2, W3 or W4.
        study: The study whose runs it is to hold: the workload's where None, or one with fewer seeds, trials or steps.
    """
    made: Any = study or module(workload).study
    inputs, labels, eval_inputs, eval_labels = made.data(made.config)
    trials = tables.table(tables.check(made))
    columns = [np.broadcast_to(trials.columns.get(name, value), len(trials)) for name, value in trials.base.items()]
    layers = list(_layers(_initial_params(made)))
    return Task(
        workload=workload,
        num_steps=made.num_steps,
        inputs=inputs,
        labels=labels,
        eval_inputs=eval_inputs,
        eval_labels=eval_labels,
        hyperparameters=np.stack(columns, axis=1).astype(np.float32),
        kernels=tuple(np.asarray(_kernel(layer)) for layer in layers),
        biases=tuple(np.asarray(layer["bias"]) for layer in layers),
        table=_table(made, len(inputs), getattr(module(workload), "BATCH_SIZE", 0)),
    )


def _initial_params(study: Study) -> Any:
    """The initial parameters of each seed, arrays [num_seeds, ...]."""
    data = study.data and study.data(study.config)

    def initial(seed: jax.Array) -> Any:
        return study.experiment.init(program.key_stream(seed, "init"), data, study.config).params

    return jax.jit(jax.vmap(initial))(tables.seeds(study))


def _layers(params: Any) -> Iterator[Any]:
    """The layers of the library's models (a tuple) and of flax modules (a dict, whose names are in order here)."""
    if isinstance(params, dict) and "bias" in params:
        yield params
        return
    for part in params.values() if isinstance(params, dict) else params:
        yield from _layers(part)


def _kernel(layer: dict[str, Any]) -> Any:
    """The layer's kernels, one a seed; `models.mlp` keeps their transposes."""
    return layer["kernel"] if "kernel" in layer else layer["weight"].swapaxes(1, 2)


def _table(study: Study, num_examples: int, batch_size: int) -> np.ndarray:
    seeds = tables.seeds(study)
    if not batch_size:
        return np.zeros((len(seeds), study.num_steps, 0), np.int32)

    def of_seed(seed: jax.Array) -> jax.Array:
        def draw(cursor: minibatches.Cursor, step: jax.Array) -> tuple[minibatches.Cursor, jax.Array]:
            indices, cursor = minibatches.draw(program.step_key(seed, step), cursor, batch_size)
            return cursor, indices

        return jax.lax.scan(draw, minibatches.start(num_examples), jnp.arange(study.num_steps))[1]

    return np.asarray(jax.jit(jax.lax.map, static_argnums=0)(of_seed, seeds))
