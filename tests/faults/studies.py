"""What the faults happen to: random walks, cheap to compile, of as many batches and as much work as is wanted."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxexp as jx

ROOT = Path(__file__).resolve().parents[2]


@jx.config
class Config:
    """A walk's stride."""

    rate: float = jx.dynamic(0.1)


def walk(num_trials: int = 8, num_seeds: int = 4, num_steps: int = 40, side: int = 1, blow_up: bool = False):
    """The study; `side` is that of a matrix whose square a step takes, hence its work."""

    def init(key, data, config):
        return {"x": jax.random.normal(key, (side, side))}

    def step(key, state, data, config):
        x = state["x"] + config.rate * jax.random.normal(key, (side, side))
        x = x + 1e-6 * jnp.tanh(x @ x)
        if blow_up:
            x = jnp.where(config.rate > 1, x * 1e9, x)
        return {"x": x}, {"mean": x.mean()}

    def evaluate(state, data, config):
        return {"largest": state["x"].max()}

    return jx.Study(
        experiment=jx.Experiment(init, step, evaluate),
        config=Config(),
        sweep=jx.grid(rate=jx.linspace(0.1, 0.9, num_trials)) if not blow_up else jx.grid(rate=(0.1, 0.5, 1.5)),
        seeds=num_seeds,
        num_steps=num_steps,
        evaluate_every=10,
    )


def code(*lines: str) -> list[str]:
    """The command line of a process that runs these lines, with this module at hand as `studies`."""
    head = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]\nimport studies\n"
    return [sys.executable, "-c", head + "\n".join(lines)]
