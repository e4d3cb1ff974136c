"""W2: which learning rate and weight decay suit a net of 100 ReLUs on the spiral of the course CS231n?

300 points, full batch, softmax cross-entropy plus half of l2 times the squared weights (through its gradient, l2
times the weights; biases are free), 500 steps of gradient descent; 8 x 4 trials x 8 seeds.
`study` takes the library's model; `natural` the flax module that a user might have.
"""

import flax.linen as nn
import jax
import numpy as np
import optax

import jaxexp as jx

HIDDEN, CLASSES = 100, 3


@jx.config
class Config:
    """Gradient descent with weight decay."""

    learning_rate: float = jx.dynamic(1.0, minimum=0)
    l2: float = jx.dynamic(1e-3, minimum=0)


class Net(nn.Module):
    """The same net in flax, examples as rows."""

    @nn.compact
    def __call__(self, inputs):
        """Returns the logits."""
        units = nn.relu(nn.Dense(HIDDEN)(inputs))  # first: flax numbers layers as they are made
        return nn.Dense(CLASSES)(units)


def points(config):
    """The course's points, also to evaluate on."""
    inputs, labels = jx.datasets.spiral()
    return (inputs.astype(np.float32), labels) * 2


def optimizer(config):
    """Gradient descent on the loss and the penalty."""
    decay = optax.add_decayed_weights(config.l2, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params))
    return optax.chain(decay, optax.sgd(config.learning_rate))


def experiment(model):
    """The experiment of a model with a logit for each arm."""
    return jx.supervised(model=model, loss=jx.losses.softmax_cross_entropy, optimizer=optimizer)


study = jx.Study(
    experiment=experiment(jx.models.mlp((2, HIDDEN, CLASSES))),
    config=Config(),
    sweep=jx.grid(learning_rate=jx.geomspace(0.1, 1, 8), l2=(1e-4, 3e-4, 1e-3, 3e-3)),
    seeds=8,
    num_steps=500,
    data=points,
)
natural = study.replace(experiment=experiment(jx.models.functional(Net())))

if __name__ == "__main__":
    jx.main(study)
