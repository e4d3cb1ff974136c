"""W4: which learning rate and momentum suit a small convolutional net on minibatches of the digits?

3x3 convolutions to 8 and, with stride 2, to 16 channels, then a dense layer; all 1797 digits to train on (360 of them
to evaluate on: this is a measure of speed), minibatches of 64 in an order that the seed owns, 300 steps of SGD with
momentum; 4 x 2 trials x 4 seeds. `study` takes the library's model; `natural` the flax module that a user might have.
"""

import flax.linen as nn
import numpy as np
import optax

import jaxexp as jx

CLASSES, BATCH_SIZE = 10, 64


@jx.config
class Config:
    """SGD with momentum."""

    learning_rate: float = jx.dynamic(0.1, minimum=0)
    momentum: float = jx.dynamic(0.9, minimum=0, maximum=1)


class Net(nn.Module):
    """The same net in flax."""

    @nn.compact
    def __call__(self, images):
        """Returns a logit for each digit."""
        units = nn.relu(nn.Conv(8, (3, 3))(images))
        units = nn.relu(nn.Conv(16, (3, 3), strides=2)(units))
        return nn.Dense(CLASSES)(units.reshape(len(units), -1))


def digits(config):
    """All digits to train on, the last 360 of them to evaluate on."""
    split = jx.datasets.digits(images=True)
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
    experiment=experiment(jx.models.cnn((8, 16), CLASSES, strides=(1, 2))),
    config=Config(),
    sweep=jx.grid(learning_rate=jx.geomspace(0.01, 0.3, 4), momentum=(0.0, 0.9)),
    seeds=4,
    num_steps=300,
    data=digits,
)
natural = study.replace(experiment=experiment(jx.models.functional(Net())))

if __name__ == "__main__":
    jx.main(study)
