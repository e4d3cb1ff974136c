"""How should momentum's velocity start: at zero, at one, at random, or at the first gradient?

v <- mu v - lr g, w <- w + v on a sigmoid net [64, 30, 10] without biases, the 8x8 digits, half the squared error,
minibatches of 10, lr 1, mu .5, weights from U(-1, 1); a seed means the same weights and minibatches in every trial.
Without gradients a start at v0 moves the weights by v0 mu / (1 - mu): that shift with v0 = 0 is the control, and
v0 = s, the same for all weights, is swept with mu at constant lr / (1 - mu), or mu would change the steps as well.

Answer (256 seeds): start at zero: .788 after one epoch, .974 after ten. From ones it is .086 at every seed and epoch,
as from shifted weights: all units saturate, the gradient is exactly 0 in float32 (1e-10 in float64), and the trap never
opens. Others act as shifts of the initial weights and belong there; at mu .75 and .9 a slightly negative one helps.
For 200 epochs: velocity_init=ones velocity_scale=1 momentum=0.5 learning_rate=1 weight_shift=0 num_steps=28600
Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013 (v0 = 0).
"""

from functools import partial

import jax
import optax
from jax.nn import initializers

import jaxexp as jx

EPOCH = 143  # steps: 1437 examples in minibatches of 10, the last 7 of an epoch left out
MOMENTA = {0.5: 1.0, 0.75: 0.5, 0.9: 0.2}  # each with its learning rate: lr / (1 - mu) = 2
DOSES = (-0.3, -0.15, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
STARTS = {
    "zeros": lambda scale: initializers.constant(0.0),
    "first_gradient": lambda scale: jx.optimizers.FIRST_GRADIENT,
    "uniform_symmetric": jx.models.uniform_symmetric,
    "normal": initializers.normal,
    "uniform_positive": initializers.uniform,
    "ones": initializers.constant,
}

layers = {"activation": jax.nn.sigmoid, "output_activation": jax.nn.sigmoid, "use_bias": False}
model = jx.models.mlp((64, 30, 10), kernel_init=jx.models.uniform_symmetric(1.0), **layers)


@jx.config
class Config:
    """The velocity starts at `velocity_scale` times `velocity_init`, the weights at U(-1, 1) + `weight_shift`."""

    learning_rate: float = jx.dynamic(default=1.0, minimum=0)
    momentum: float = jx.dynamic(default=0.5, minimum=0, maximum=1)
    velocity_init: str = jx.static(default="zeros", choices=tuple(STARTS))
    velocity_scale: float = 1.0
    weight_shift: float = 0.0


def loss(params, inputs, labels):
    """Half the squared error, summed over outputs and averaged over the minibatch."""
    return jx.losses.half_squared_error(model.apply(params, inputs), jax.nn.one_hot(labels, 10))


def optimizer(config, key=None):
    """Momentum with the learning rate on the gradient: the velocity is a step of the weights."""
    start = STARTS[config.velocity_init](config.velocity_scale)
    velocity = jx.optimizers.trace(config.momentum, initial_velocity=start, key=key)
    return optax.chain(optax.scale(-config.learning_rate), velocity)


def init(key, data, config):
    """Weights, velocity, and the place in the first epoch."""
    weight_key, velocity_key = jax.random.split(key)
    params = jax.tree.map(lambda w: w + config.weight_shift, model.init(weight_key, data.train_inputs))
    return params, optimizer(config, velocity_key).init(params), jx.minibatches.start(len(data.train_inputs))


def step(key, state, data, config):
    """One minibatch of 10."""
    params, opt_state, cursor = state
    chosen, cursor = jx.minibatches.draw(key, cursor, 10)
    value, gradient = jax.value_and_grad(loss)(params, data.train_inputs[chosen], data.train_labels[chosen])
    updates, opt_state = optimizer(config).update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state, cursor), {"loss": value}


def evaluate(state, data, config):
    """The share of the 360 test digits that is right."""
    return {"test_accuracy": jx.losses.accuracy(model.apply(state[0], data.test_inputs), data.test_labels)}


def stuck(**changes):
    """Estimates in which seeds a trial is below .12 after every epoch."""

    def best(dataset):
        return jx.trial(dataset, Config(**changes)).test_accuracy.where(dataset.eval_step >= EPOCH).max("eval_step")

    return jx.share(best, jx.below(0.12))


def responses(dataset):
    """Draws accuracy against epochs by start, then for each momentum against the displacement that v0 = s causes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(MOMENTA), sharey=True)
    for start, color, dash in zip(STARTS, jx.figures.COLORS, ("-", ":") * 3, strict=False):
        values = jx.trial(dataset, Config(velocity_init=start)).test_accuracy.T
        jx.figures.band(panels[0], dataset.eval_step / EPOCH, values, color=color, linestyle=dash, label=start)
    panels[0].set(xlabel="epochs", ylabel="test accuracy (share right)", ylim=(0, 1), title="all starts, mu = 0.5")
    for axes, (mu, rate) in zip(panels[1:], MOMENTA.items(), strict=True):
        for epoch, color in zip((1, 2, 5, 10), jx.figures.COLORS, strict=False):
            values = [accuracy(Config(rate, mu, "ones", dose), EPOCH * epoch)(dataset) for dose in DOSES]
            jx.figures.band(axes, [s * mu / (1 - mu) for s in DOSES], values, color=color, label=f"epoch {epoch}")
        axes.set(xlabel="displacement s mu / (1 - mu) of every weight", xlim=(-1.05, 1.05), title=f"v0 = s, mu = {mu}")
    for axes in panels:
        axes.legend(fontsize="small")
    figure.suptitle(jx.figures.heading(dataset))
    return figure


accuracy, seeds = partial(jx.measured, "test_accuracy"), partial(jx.Claim, statistic="share")
zeros, gradient, symmetric, normal, positive, ones = (accuracy(Config(velocity_init=v0), EPOCH) for v0 in STARTS)
momenta = jx.paired(momentum=MOMENTA, learning_rate=MOMENTA.values())
doses = jx.grid(velocity_init=["ones"], velocity_scale=DOSES)

study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(velocity_init=STARTS) + jx.cases({"weight_shift": 1.0}) + momenta * doses,
    seeds=80,
    num_steps=10 * EPOCH,
    evaluate_every=EPOCH,
    data=lambda config: jx.datasets.digits(),
    figures=(responses,),
    claims=(
        jx.Claim("Zeros: .76 to .82 after epoch 1.", zeros, jx.between(0.76, 0.82)),
        jx.Claim("Zeros: above .965 after epoch 10.", accuracy(Config(), 10 * EPOCH), jx.above(0.965)),
        seeds("Ones: every seed and epoch below .12.", stuck(velocity_init="ones"), jx.above(0.94)),
        seeds("Weights shifted by 1: the same.", stuck(weight_shift=1.0), jx.above(0.94)),
        jx.Claim("Epoch 1: zeros ~ first gradient.", jx.difference(zeros, gradient), jx.between(-0.03, 0.03)),
        jx.Claim("Epoch 1: first gradient > U(-1, 1).", jx.difference(gradient, symmetric), jx.above(0)),
        jx.Claim("Epoch 1: U(-1, 1) > normal.", jx.difference(symmetric, normal), jx.above(0)),
        jx.Claim("Epoch 1: normal >> U(0, 1).", jx.difference(normal, positive), jx.above(0.2)),
        jx.Claim("Epoch 1: U(0, 1) ~ ones.", jx.difference(positive, ones), jx.between(-0.03, 0.03)),
    ),
)
full = study.replace(seeds=256)

if __name__ == "__main__":
    jx.main(study, full=full)
