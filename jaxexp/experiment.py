"""An experiment: three pure functions that say what one run is. Knows nothing of sweeps, devices or files.

`supervised` builds the three for the common case; `from_train` takes one plain training function.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxexp import minibatches
from jaxexp.errors import StudyError

Metrics = Mapping[str, Any]


class Experiment(NamedTuple):
    """The pure functions `init`, `step` and `evaluate` (or None where nothing is evaluated).

    - `init(key, data, config) -> state`: any pytree of arrays.
    - `step(key, state, data, config) -> (state, metrics)`: one update; metrics are a flat dict of scalars,
      computed before the update.
    - `evaluate(state, data, config) -> metrics`: what is measured between steps.

    Example:
        >>> def init(key, data, config):
        ...     return jax.random.normal(key)
        >>> def step(key, state, data, config):
        ...     return state - config.learning_rate * state, {"loss": state**2}
        >>> experiment = Experiment(init, step)
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Metrics]]
    evaluate: Callable[..., Metrics] | None = None


def from_train(train: Callable[[jax.Array, Any], Metrics]) -> Experiment:
    """Returns a one-step experiment made of a plain `train(key, config) -> metrics`.

    Nothing interrupts a step, neither checkpoints nor SIGTERM: what trains for long is better given as its steps.

    Args:
        train: Trains from a random key to the end and returns a flat dict of scalars.

    Example:
        >>> experiment = from_train(lambda key, config: {"loss": config.learning_rate**2})
    """

    def init(key: jax.Array, data: Any, config: Any) -> tuple[()]:
        return ()

    def step(key: jax.Array, state: tuple[()], data: Any, config: Any) -> tuple[tuple[()], Metrics]:
        return (), train(key, config)

    return Experiment(init, step)


class SupervisedState(NamedTuple):
    """The state of a run made by `supervised`."""

    params: Any
    opt_state: optax.OptState
    cursor: minibatches.Cursor | None


def supervised(
    *,
    model: Any,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: Callable[[Any], optax.GradientTransformation],
    batch_size: int | Callable[[Any], int] | None = None,
    metrics: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] | None = None,
) -> Experiment:
    """Returns the experiment that fits a model to labelled examples by gradient steps on minibatches.

    Data is a `(train_inputs, train_labels, test_inputs, test_labels)` tuple, as `datasets` give it. The step
    reports `loss`; evaluation reports `test_loss` and `test_<name>` for each of `metrics`.

    Args:
        model: A model, i.e. a pair `(init(key, inputs) -> params, apply(params, inputs) -> outputs)`, or a
            function of the config that returns one.
        loss: `loss(outputs, labels)`, a scalar: the mean over the minibatch.
        optimizer: A function of the config that returns an optax optimizer.
        batch_size: Examples in a minibatch, or a function of the config; all of them where None.
        metrics: More measures `(outputs, labels) -> scalar`, by name.

    Example:
        >>> from jaxexp import models
        >>> experiment = supervised(
        ...     model=models.mlp((64, 30, 10)),
        ...     loss=lambda outputs, labels: jnp.mean((outputs - labels) ** 2),
        ...     optimizer=lambda config: optax.sgd(config.learning_rate, momentum=0.9),
        ...     batch_size=32,
        ... )
    """
    measures = {"loss": loss, **(metrics or {})}

    def init(key: jax.Array, data: Any, config: Any) -> SupervisedState:
        train_inputs = _four(data)[0]
        params = _model(model, config).init(key, jnp.asarray(train_inputs[:1]))
        cursor = None if batch_size is None else minibatches.start(train_inputs.shape[0])
        return SupervisedState(params, optimizer(config).init(params), cursor)

    def step(key: jax.Array, state: SupervisedState, data: Any, config: Any) -> tuple[SupervisedState, Metrics]:
        inputs, labels, _, _ = _four(data)
        cursor = state.cursor
        if cursor is not None and batch_size is not None:
            size = batch_size(config) if callable(batch_size) else batch_size
            indices, cursor = minibatches.draw(key, cursor, size)
            inputs, labels = inputs[indices], labels[indices]
        apply = _model(model, config).apply
        value, gradient = jax.value_and_grad(lambda params: loss(apply(params, inputs), labels))(state.params)
        updates, opt_state = optimizer(config).update(gradient, state.opt_state, state.params)
        return SupervisedState(optax.apply_updates(state.params, updates), opt_state, cursor), {"loss": value}

    def evaluate(state: SupervisedState, data: Any, config: Any) -> Metrics:
        _, _, inputs, labels = _four(data)
        outputs = _model(model, config).apply(state.params, inputs)
        return {f"test_{name}": measure(outputs, labels) for name, measure in measures.items()}

    return Experiment(init, step, evaluate)


def _model(model: Any, config: Any) -> Any:
    made = model if hasattr(model, "apply") else model(config)
    if not (hasattr(made, "init") and hasattr(made, "apply")):
        raise StudyError(
            f"model= gave {made!r}, which has no init and apply: give `jx.models.mlp(...)`, "
            "`jx.models.functional(flax_module)` or a function of the config that returns one"
        )
    return made


def _four(data: Any) -> tuple[Any, Any, Any, Any]:
    if not isinstance(data, tuple) or len(data) != 4:
        raise StudyError(
            "a supervised experiment needs data as (train_inputs, train_labels, test_inputs, test_labels), got "
            f"{type(data).__name__}: give the study `data=lambda config: jx.datasets.digits()`"
        )
    return data
