"""W3: which learning rate and momentum suit a net of 32 ReLUs on minibatches of the digits?

All 1797 digits to train on (360 of them to evaluate on: this is a measure of speed), minibatches of 64 in an order that
the seed owns, 1000 steps of SGD with momentum; 8 x 4 trials x 8 seeds.
`study` takes the library's model; `natural` the flax module that a user might have.
"""

import flax.linen as nn
import numpy as np
import optax

import jaxexp as jx

HIDDEN, CLASSES, BATCH_SIZE = 32, 10, 64


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
        units = nn.relu(nn.Dense(HIDDEN)(inputs))  # first: flax numbers layers as they are made
        return nn.Dense(CLASSES)(units)


def digits(config):
    """All digits to train on, the last 360 of them to evaluate on."""
    split = jx.datasets.digits()
    inputs = np.concatenate([split.train_inputs, split.test_inputs])
    return inputs, np.concatenate([split.train_labels, split.test_labels]), split.test_inputs, split.test_labels


def experiment(model):
    """The experiment of a model with a logit for each digit."""
    return jx.supervised(
        model=model,
        loss=jx.losses.softmax_cross_entropy,
        optimizer=lambda config: optax.sgd(config.learning_rate, config.momentum),
        batch_size=BATCH_SIZE,
    )


study = jx.Study(
    experiment=experiment(jx.models.mlp((64, HIDDEN, CLASSES))),
    config=Config(),
    sweep=jx.grid(learning_rate=jx.geomspace(0.01, 0.5, 8), momentum=(0.0, 0.3, 0.6, 0.9)),
    seeds=8,
    num_steps=1000,
    data=digits,
)
natural = study.replace(experiment=experiment(jx.models.functional(Net())))

if __name__ == "__main__":
    jx.main(study)
