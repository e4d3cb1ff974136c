"""JAX written by hand for the speed of one core, with every technique of this project and nothing of its code.

Examples are columns, padded to whole vector registers; the first bias is a column of its kernel; kernels are kept as
[out, in]; tanh is a rational function; a product's gradients are spelled out, since JAX's own come transposed;
convolutions are products with patches. Seeds are mapped outside and hyperparameters inside, so that a seed owns
the order of its minibatches, in tiles that stay in the second-level cache; `lax.map` over the tiles makes one program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import patches
from benchmarks.task import Task

TILES = {"W1": (4, 8), "W2": (2, 4), "W3": (1, 32), "W4": (2, 4)}
"""Seeds x trials of a tile: the fastest of those that were tried."""

_REGISTER = 16


class Problem(NamedTuple):
    """A workload in this layout.

    Attributes:
        start: Turns one seed's kernels and biases, in natural layout, into parameters.
        loss: A function of the parameters and a batch.
        batch: A function of a step's indices that returns its batch.
        eval_batch: The batch of the final loss.
        decayed: For each parameter, a mask of what l2 decays; None where the second hyperparameter is momentum.
    """

    start: Callable[[Any, Any], tuple[jax.Array, ...]]
    loss: Callable[[tuple[jax.Array, ...], Any], jax.Array]
    batch: Callable[[jax.Array], Any]
    eval_batch: Any
    decayed: tuple[np.ndarray, ...] | None = None


def sweep(task: Task, tile: tuple[int, int] | None = None) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task and returns final losses [num_seeds, num_trials]."""
    rows, columns = np.minimum(tile or TILES[task.workload], (task.num_seeds, task.num_trials))
    problem = PROBLEMS[task.workload](task)
    starts = [range(0, count, side) for count, side in ((task.num_seeds, rows), (task.num_trials, columns))]
    tiles = [(row + np.arange(rows), column + np.arange(columns)) for row in starts[0] for column in starts[1]]
    seeds = np.stack([seed for seed, _ in tiles]).clip(max=task.num_seeds - 1)
    trials = np.stack([trial for _, trial in tiles]).clip(max=task.num_trials - 1)
    params = jax.jit(jax.vmap(problem.start))(task.kernels, task.biases)
    of_tiles = jax.tree.map(lambda leaf: leaf[seeds], (params, task.table))
    arguments = jax.device_put((*of_tiles, task.hyperparameters[trials]))

    def train_tile(argument: Any) -> tuple[jax.Array, jax.Array]:
        of_seed = jax.vmap(lambda *run: _train(problem, *run), in_axes=(None, None, 0))
        return jax.vmap(of_seed, in_axes=(0, 0, None))(*argument)

    train = jax.jit(lambda *arguments: jax.lax.map(train_tile, arguments)).lower(*arguments).compile()

    def run() -> np.ndarray:
        final = np.empty((task.num_seeds, task.num_trials), np.float32)
        final[seeds[:, :, None], trials[:, None, :]] = train(*arguments)[1]
        return final

    return run


def _train(problem: Problem, params: Any, table: jax.Array, hyperparameters: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Trains one run; returns the loss before each step and the final one."""
    learning_rate, second = hyperparameters

    def step(carry: Any, indices: jax.Array) -> tuple[Any, jax.Array]:
        params, velocity = carry
        value, gradient = jax.value_and_grad(problem.loss)(params, problem.batch(indices))
        if problem.decayed is not None:
            penalty = [second * mask * param for mask, param in zip(problem.decayed, params, strict=True)]
            moves = [slope + pull for slope, pull in zip(gradient, penalty, strict=True)]
        else:
            moves = velocity = [second * v + slope for v, slope in zip(velocity, gradient, strict=True)]
        params = tuple(param - learning_rate * move for param, move in zip(params, moves, strict=True))
        return (params, velocity), value

    velocity = [] if problem.decayed is not None else [jnp.zeros_like(param) for param in params]
    (params, _), losses = jax.lax.scan(step, (params, velocity), table)
    return losses, problem.loss(params, problem.eval_batch)


def _xor(task: Task) -> Problem:
    columns, weights = _columns(task.inputs)
    labels = np.pad(task.labels, (0, len(weights) - len(task.labels)))

    def start(kernels: Any, biases: Any) -> tuple[jax.Array, ...]:
        return _folded(kernels[0], biases[0]), kernels[1].T, biases[1]

    def loss(params: Any, batch: Any) -> jax.Array:
        hidden, output, bias = params
        logits = (output[0] @ tanh(hidden @ columns)) + bias
        surprise = jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return jnp.sum(weights * surprise)

    return Problem(start, loss, lambda indices: (), ())


def _spiral(task: Task) -> Problem:
    columns, weights = _columns(task.inputs)
    num_classes = task.biases[1].shape[-1]
    true = np.zeros((num_classes, len(weights)), np.float32)
    true[task.labels, np.arange(len(task.labels))] = 1 / len(task.labels)

    def start(kernels: Any, biases: Any) -> tuple[jax.Array, ...]:
        return _folded(kernels[0], biases[0]), kernels[1].T, biases[1]

    def loss(params: Any, batch: Any) -> jax.Array:
        hidden, output, bias = params
        logits = product(output, jax.nn.relu(few_inputs(hidden, columns))) + bias[:, None]
        return jnp.sum(weights * _log_sum_exp(logits)) - jnp.sum(true * logits)

    shapes = [(1, 3), (1, 1), (1,)]
    decayed = [np.ones(shape, np.float32) for shape in shapes]
    decayed[0][0, -1] = decayed[2][0] = 0  # the biases are free
    return Problem(start, loss, lambda indices: (), (), tuple(decayed))


def _digits(task: Task) -> Problem:
    def start(kernels: Any, biases: Any) -> tuple[jax.Array, ...]:
        return kernels[0].T, biases[0][:, None], kernels[1].T, biases[1][:, None]

    def loss(params: Any, batch: Any) -> jax.Array:
        hidden, hidden_bias, output, bias = params
        inputs, labels = batch
        units = jax.nn.relu(hidden @ inputs.T + hidden_bias)
        return _cross_entropy(product(output, units) + bias, labels)

    batch = _minibatches(task.inputs, task.labels)
    return Problem(start, loss, batch, (task.eval_inputs, task.eval_labels))


def _convolution(task: Task) -> Problem:
    inputs, eval_inputs = patches.of_images(task.inputs), patches.of_images(task.eval_inputs)

    def start(kernels: Any, biases: Any) -> tuple[jax.Array, ...]:
        first, second, dense = kernels
        dense = (
            dense.reshape(16, 16, 10).transpose(2, 1, 0).reshape(10, 256)
        )  # from (pixel, channel) to (channel, pixel)
        products = (first.reshape(9, 8).T, second.reshape(72, 16).T, dense)
        return (*products, *(bias[:, None] for bias in biases))

    def loss(params: Any, batch: Any) -> jax.Array:
        (first, second, dense, *biases), (inputs, labels) = params, batch
        num = len(labels)
        units = jax.nn.relu(first @ inputs.T.reshape(9, 64 * num) + biases[0])
        units = jax.nn.relu(product(second, patches.stride_two(units.reshape(8, 8, 8, num))) + biases[1])
        return _cross_entropy(product(dense, units.reshape(256, num)) + biases[2], labels)

    return Problem(start, loss, _minibatches(inputs, task.labels), (eval_inputs, task.eval_labels))


PROBLEMS = {"W1": _xor, "W2": _spiral, "W3": _digits, "W4": _convolution}


def _columns(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points as padded columns with a row of ones below them, and the weight of each column in a mean."""
    num, missing = len(inputs), -len(inputs) % _REGISTER
    rows = np.concatenate([inputs, np.ones((num, 1), np.float32)], axis=1)
    weights = np.full(num, 1 / num, np.float32)
    return np.pad(rows.T, ((0, 0), (0, missing))), np.pad(weights, (0, missing))


def _folded(kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return jnp.concatenate([kernel.T, bias[:, None]], axis=1)


def _minibatches(inputs: np.ndarray, labels: np.ndarray) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    return lambda indices: (jnp.asarray(inputs)[indices], jnp.asarray(labels)[indices])


def _log_sum_exp(logits: jax.Array) -> jax.Array:
    largest = jax.lax.stop_gradient(logits.max(axis=0))
    return jnp.log(jnp.sum(jnp.exp(logits - largest[None]), axis=0)) + largest


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    true = labels[None] == jnp.arange(len(logits))[:, None]
    return (_log_sum_exp(logits) - jnp.sum(jnp.where(true, logits, 0), axis=0)).mean()


@jax.custom_vjp
def product(kernel: jax.Array, units: jax.Array) -> jax.Array:
    """Returns kernel @ units; JAX's own gradient for the units is computed transposed, and then turned."""
    return kernel @ units


product.defvjp(
    lambda kernel, units: (kernel @ units, (kernel, units)),
    lambda saved, slope: (slope @ saved[1].T, saved[0].T @ slope),
)


@jax.custom_vjp
def few_inputs(kernel: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns kernel @ columns as a sum of outer products, for a handful of inputs that need no gradient."""
    terms = [kernel[:, number, None] * columns[None, number] for number in range(len(columns))]
    return sum(terms[1:], start=terms[0])


few_inputs.defvjp(
    lambda kernel, columns: (few_inputs(kernel, columns), columns),
    lambda columns, slope: (slope @ columns.T, None),
)


@jax.custom_jvp
def tanh(x: jax.Array) -> jax.Array:
    """Returns the hyperbolic tangent by a rational function, off by less than 5e-7 of itself.

    Source: the coefficients that `scripts/fit_tanh.py` finds.
    """
    x = jnp.clip(x, -7.9, 7.9)
    square, above, below = x * x, _ABOVE[0], _BELOW[0]
    for coefficient in _ABOVE[1:]:
        above = above * square + coefficient
    for coefficient in _BELOW[1:]:
        below = below * square + coefficient
    return x * above / below


_ABOVE = (1.15318696e-05, 2.96047633e-03, 1.29344204e-01, 9.99999869e-01)
_BELOW = (2.49255726e-07, 2.40012467e-04, 2.38540956e-02, 4.62676472e-01, 1.0)


@tanh.defjvp
def _slope(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    value = tanh(primals[0])
    return value, (1 - value * value) * tangents[0]
