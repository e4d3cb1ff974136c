"""Many short runs: what the planner, the store and reading cost where training costs next to nothing.

The net of W1 on 20 points for 10 steps; 10 momenta and as many learning rates as are asked for. Used by
`benchmarks.scaling`; `jaxexp run benchmarks/many_runs.py "learning_rate=geomspace(1e-3,1,100000)" --yes` is 10^6 runs.
"""

import jax.numpy as jnp
import optax

import jaxexp as jx
from benchmarks import w1_xor

NUM_POINTS, NUM_MOMENTA = 20, 10


def points(config):
    """The first points of W1, also to evaluate on."""
    return tuple(array[:NUM_POINTS] for array in w1_xor.points(config))


study = w1_xor.study.replace(
    experiment=jx.supervised(
        model=jx.models.mlp((2, w1_xor.HIDDEN, 1), activation=jnp.tanh),
        loss=lambda outputs, labels: jx.losses.sigmoid_cross_entropy(outputs[:, 0], labels),
        optimizer=lambda config: optax.sgd(config.learning_rate, config.momentum),
    ),
    sweep=jx.grid(learning_rate=jx.geomspace(1e-3, 1, 10), momentum=jx.linspace(0, 0.9, NUM_MOMENTA)),
    seeds=1,
    num_steps=10,
    data=points,
)

if __name__ == "__main__":
    jx.main(study)
