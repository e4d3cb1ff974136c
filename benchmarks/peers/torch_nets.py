"""PyTorch on one thread: `torch.func.vmap(grad(loss))` over many runs at once, and the eager loop of tutorials."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.task import Task

Params = tuple[torch.Tensor, ...]


def vmapped(task: Task, width: int) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task `width` runs at a time; final losses [num_seeds, num_trials]."""
    torch.set_num_threads(1)
    seeds = np.repeat(np.arange(task.num_seeds), task.num_trials)
    trials = np.tile(np.arange(task.num_trials), task.num_seeds)
    starts = range(0, task.num_runs, width)

    def run() -> np.ndarray:
        parts = [_together(task, seeds[start : start + width], trials[start : start + width]) for start in starts]
        return np.concatenate(parts).reshape(task.num_seeds, task.num_trials)

    return run


def _together(task: Task, seeds: np.ndarray, trials: np.ndarray) -> np.ndarray:
    loss, full = _loss(task.workload), not task.table.shape[-1]
    params = tuple(torch.from_numpy(array[seeds]) for array in _initial(task))
    velocity = tuple(torch.zeros_like(param) for param in params)
    rates, momenta = (
        [torch.from_numpy(column[trials]).reshape(-1, *[1] * (param.ndim - 1)) for param in params]
        for column in task.hyperparameters.T
    )
    inputs, labels = _data(task.inputs, task.labels)
    table = torch.from_numpy(task.table[seeds]).long()
    gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, None) if full else (0, 0, 0))
    for step in range(task.num_steps):
        batch = (inputs, labels) if full else (inputs[table[:, step]], labels[table[:, step]])
        slopes = gradient(params, *batch)
        velocity = tuple(m * v + slope for m, v, slope in zip(momenta, velocity, slopes, strict=True))
        params = tuple(param - rate * v for param, rate, v in zip(params, rates, velocity, strict=True))
    evaluate = torch.func.vmap(loss, in_dims=(0, None, None))
    return evaluate(params, *_data(task.eval_inputs, task.eval_labels)).numpy()


def eager(task: Task) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task run by run with `torch.optim.SGD`; results as `vmapped`."""
    torch.set_num_threads(1)

    def run() -> np.ndarray:
        trials = task.hyperparameters.tolist()
        return np.array([[_alone(task, seed, *trial) for trial in trials] for seed in range(task.num_seeds)])

    return run


def _alone(task: Task, seed: int, learning_rate: float, momentum: float) -> float:
    loss, full = _loss(task.workload), not task.table.shape[-1]
    params = tuple(torch.from_numpy(array[seed].copy()).requires_grad_() for array in _initial(task))
    optimizer = torch.optim.SGD(params, lr=learning_rate, momentum=momentum)
    inputs, labels = _data(task.inputs, task.labels)
    for indices in torch.from_numpy(task.table[seed]).long():
        optimizer.zero_grad()
        batch = (inputs, labels) if full else (inputs[indices], labels[indices])
        loss(params, *batch).backward()
        optimizer.step()
    with torch.no_grad():
        return float(loss(params, *_data(task.eval_inputs, task.eval_labels)))


def _initial(task: Task) -> tuple[np.ndarray, ...]:
    return task.kernels[0], task.biases[0], task.kernels[1], task.biases[1]


def _data(inputs: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    true = torch.from_numpy(labels)
    return torch.from_numpy(inputs), true if true.is_floating_point() else true.long()


def _loss(workload: str) -> Callable[[Params, torch.Tensor, torch.Tensor], torch.Tensor]:
    def xor(params: Params, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kernel, bias, out, out_bias = params
        logits = (torch.tanh(inputs @ kernel + bias) @ out + out_bias)[..., 0]
        return functional.binary_cross_entropy_with_logits(logits, labels)

    def digits(params: Params, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kernel, bias, out, out_bias = params
        return functional.cross_entropy(torch.relu(inputs @ kernel + bias) @ out + out_bias, labels)

    return {"W1": xor, "W3": digits}[workload]
