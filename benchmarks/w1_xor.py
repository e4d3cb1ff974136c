"""W1: which learning rate and momentum teach a net of 16 tanh units XOR?

200 noisy points, full batch, binary cross-entropy, 1000 steps of SGD with momentum; 8 x 4 trials x 32 seeds.
`study` takes the library's model; `natural` the flax module that a user might have.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import jaxexp as jx

NUM_POINTS, HIDDEN = 200, 16


@jx.config
class Config:
    """SGD with momentum."""

    learning_rate: float = jx.dynamic(0.1, minimum=0)
    momentum: float = jx.dynamic(0.9, minimum=0, maximum=1)


class Net(nn.Module):
    """The same net in flax, examples as rows."""

    @nn.compact
    def __call__(self, inputs):
        """Returns the logits."""
        units = jnp.tanh(nn.Dense(HIDDEN)(inputs))  # first: flax numbers layers as they are made
        return nn.Dense(1)(units)


def points(config):
    """The corners of a square with noise of .1, and whether their coordinates differ; also to evaluate on."""
    random = np.random.RandomState(0)
    corners = random.randint(0, 2, (NUM_POINTS, 2))
    inputs = (corners + 0.1 * random.standard_normal(corners.shape)).astype(np.float32)
    labels = (corners[:, 0] != corners[:, 1]).astype(np.float32)
    return inputs, labels, inputs, labels


def experiment(model):
    """The experiment of a model with one logit."""
    return jx.supervised(
        model=model,
        loss=lambda outputs, labels: jx.losses.sigmoid_cross_entropy(outputs[:, 0], labels),
        optimizer=lambda config: optax.sgd(config.learning_rate, config.momentum),
    )


study = jx.Study(
    experiment=experiment(jx.models.mlp((2, HIDDEN, 1), activation=jnp.tanh)),
    config=Config(),
    sweep=jx.grid(learning_rate=jx.geomspace(0.01, 1, 8), momentum=(0.0, 0.3, 0.6, 0.9)),
    seeds=32,
    num_steps=1000,
    data=points,
)
natural = study.replace(experiment=experiment(jx.models.functional(Net())))

if __name__ == "__main__":
    jx.main(study)
