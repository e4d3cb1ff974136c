"""JAX as a careful user writes it: one compiled scan a run, optax's loss and optimizer, examples as rows.

`careful_loop` calls it for one run after another, hyperparameters traced; `naive_vmap` maps it over the whole sweep at
once. `objective` is what the schedulers and tuners among the peers call for a trial. All is
compiled when the function that trains is returned.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.task import Task

Params = list[dict[str, Any]]


def careful_loop(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task run by run and returns final losses [num_seeds, num_trials]."""
    train = objective(task)

    def run() -> np.ndarray:
        return np.array([[train(seed, *trial) for trial in task.hyperparameters] for seed in range(task.num_seeds)])

    return run


def naive_vmap(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task by `jit(vmap(train))` of all its runs; results as `careful_loop`."""
    seeds = np.repeat(np.arange(task.num_seeds), task.num_trials)
    trials = np.tile(task.hyperparameters, (task.num_seeds, 1))
    params = jax.tree.map(lambda leaf: leaf[seeds], _initial_params(task))
    arguments = jax.device_put((params, task.table[seeds], trials))
    train = jax.jit(jax.vmap(functools.partial(_train, task))).lower(*arguments).compile()

    def run() -> np.ndarray:
        _, final = train(*arguments)
        return np.asarray(final).reshape(task.num_seeds, task.num_trials)

    return run


def objective(task: Task) -> Callable[[int, Any, Any], float]:
    """Returns the function of a seed and its two hyperparameters that trains one run and returns its final loss."""
    initial = _initial_params(task)

    @functools.cache
    def of_seed(seed: int) -> Any:
        return jax.device_put((jax.tree.map(lambda leaf: leaf[seed], initial), task.table[seed]))

    train = jax.jit(functools.partial(_train, task)).lower(*of_seed(0), task.hyperparameters[0]).compile()

    def run(seed: int, first: Any, second: Any) -> float:
        _, final = train(*of_seed(seed), np.array([first, second], np.float32))
        return float(final)

    return run


def _initial_params(task: Task) -> Params:
    return [{"kernel": kernel, "bias": bias} for kernel, bias in zip(task.kernels, task.biases, strict=True)]


def _train(task: Task, params: Params, table: jax.Array, hyperparameters: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Trains one run; returns the loss before each step and the final one."""
    inputs, labels = jnp.asarray(task.inputs), jnp.asarray(task.labels)
    optimizer = _optimizer(task.workload, *hyperparameters)
    loss = functools.partial(_loss, task.workload)

    def step(carry: Any, indices: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = carry
        batch = (inputs[indices], labels[indices]) if task.table.shape[-1] else (inputs, labels)
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), table)
    return losses, loss(params, jnp.asarray(task.eval_inputs), jnp.asarray(task.eval_labels))


def _optimizer(workload: str, learning_rate: Any, second: Any) -> optax.GradientTransformation:
    if workload != "W2":
        return optax.sgd(learning_rate, momentum=second)
    kernels = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    return optax.chain(optax.add_decayed_weights(second, mask=kernels), optax.sgd(learning_rate))


def _loss(workload: str, params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    if workload == "W1":
        logits = _dense(params[1], jnp.tanh(_dense(params[0], inputs)))[:, 0]
        return optax.losses.sigmoid_binary_cross_entropy(logits, labels).mean()
    units = inputs
    if workload == "W4":
        units = jax.nn.relu(_convolution(params[0], units, stride=1))
        units = jax.nn.relu(_convolution(params[1], units, stride=2))
        logits = _dense(params[2], units.reshape(len(units), -1))
    else:
        logits = _dense(params[1], jax.nn.relu(_dense(params[0], units)))
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _dense(layer: dict[str, Any], inputs: jax.Array) -> jax.Array:
    return inputs @ layer["kernel"] + layer["bias"][None]


def _convolution(layer: dict[str, Any], images: jax.Array, stride: int) -> jax.Array:
    axes = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(images, layer["kernel"], (stride, stride), "SAME", dimension_numbers=axes)
    return maps + layer["bias"][None, None, None]
