"""How should momentum's velocity start: at zero, at one, at random, or at the first gradient?

v <- mu v - lr g, w <- w + v on a sigmoid net [64, 30, 10] without biases, the 8x8 digits, half the squared error,
minibatches of 10, lr 1, mu .5, weights from U(-1, 1); a seed means the same weights and minibatches in every trial.
Without gradients a start at v0 moves the weights by v0 mu / (1 - mu): that shift with v0 = 0 is the control, and
v0 = s, the same for all weights, is swept with mu at constant lr / (1 - mu), or mu would change the steps as well.

Answer (256 seeds): start at zero. Accuracy is .789 after one epoch and .974 after ten; from ones it is .086 at every
seed and epoch, as from the shifted weights: all units saturate, the gradient is exactly 0 in float32 (1e-10 in
float64), and the trap never opens. Other starts act as shifts of the initial weights, and belong there: at mu .9 a
slightly negative one even helps (.56 against .41 after one epoch).
For 200 epochs: velocity_init=ones velocity_scale=1 momentum=0.5 learning_rate=1 weight_shift=0 num_steps=28600
Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013 (v0 = 0).
"""

import jax
import optax
from jax.nn.initializers import constant, normal, uniform

import jaxexp as jx

EPOCH = 143  # steps: 1437 examples in minibatches of 10, the last 7 of an epoch left out
MOMENTA = {0.5: 1.0, 0.75: 0.5, 0.9: 0.2}  # each with its learning rate: lr / (1 - mu) = 2
DOSES = (-0.3, -0.15, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
STARTS = {
    "zeros": lambda scale: constant(0.0),
    "first_gradient": lambda scale: jx.optimizers.FIRST_GRADIENT,
    "uniform_symmetric": jx.models.uniform_symmetric,
    "normal": normal,
    "uniform_positive": uniform,
    "ones": constant,
}


@jx.config
class Config:
    """The velocity starts at `velocity_scale` times `velocity_init`, the weights at U(-1, 1) + `weight_shift`."""

    learning_rate: float = jx.dynamic(default=1.0, minimum=0)
    momentum: float = jx.dynamic(default=0.5, minimum=0, maximum=1)
    velocity_init: str = jx.static(default="zeros", choices=tuple(STARTS))
    velocity_scale: float = 1.0
    weight_shift: float = 0.0


layers = {"activation": jax.nn.sigmoid, "output_activation": jax.nn.sigmoid, "use_bias": False}
model = jx.models.mlp((64, 30, 10), kernel_init=jx.models.uniform_symmetric(1.0), **layers)


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


def accuracy(*epochs, **trial):
    """Estimates a trial's accuracy after the best of these epochs: NaN where a run is not finite or was not made."""
    wanted = {"velocity_scale": 1.0, "weight_shift": 0.0, "momentum": 0.5, **trial}

    def estimate(dataset):
        chosen = dataset.status == 0
        for name, value in wanted.items():
            chosen = chosen & (dataset[name] == value)
        values = dataset.test_accuracy.where(chosen).mean("trial")
        return values.reindex(eval_step=[EPOCH * epoch for epoch in epochs]).max("eval_step")

    return estimate


def lead(first, second):
    """Estimates by how much one start is ahead of another after epoch 1."""
    return lambda dataset: accuracy(1, velocity_init=first)(dataset) - accuracy(1, velocity_init=second)(dataset)


def band(axes, x, values, label):
    """Draws the mean over seeds of values [x, seed], with its 95 % t interval."""
    from jaxexp.statistics import mean_interval

    mean, low, high = zip(*(mean_interval(seeds)[:3] for seeds in values), strict=True)
    axes.fill_between(x, low, high, color=axes.plot(x, mean, ".-", label=label)[0].get_color(), alpha=0.2)


def responses(dataset):
    """Draws accuracy against epochs by start, then for each momentum against the displacement that v0 = s causes."""
    from matplotlib.figure import Figure

    from jaxexp.figures import COLORS

    figure = Figure(figsize=(15, 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(MOMENTA), sharey=True)
    for axes in panels:
        axes.set_prop_cycle(color=COLORS)
    for start in STARTS:
        band(panels[0], range(11), [accuracy(epoch, velocity_init=start)(dataset) for epoch in range(11)], start)
    for axes, mu in zip(panels[1:], MOMENTA, strict=True):
        dose = {"velocity_init": "ones", "momentum": mu}
        for epoch in (1, 2, 5, 10):
            values = [accuracy(epoch, velocity_scale=scale, **dose)(dataset) for scale in DOSES]
            band(axes, [scale * mu / (1 - mu) for scale in DOSES], values, f"epoch {epoch}")
        axes.set(xlabel="displacement s mu / (1 - mu) of every weight", xlim=(-1.05, 1.05), title=f"v0 = s, mu = {mu}")
        axes.legend(fontsize="small")
    panels[0].set(xlabel="epochs", ylabel="test accuracy (share right)", ylim=(0, 1), title="all starts, mu = 0.5")
    panels[0].legend(fontsize="small")
    lost = int((dataset.status == 1).sum())
    figure.suptitle(f"mean and 95 % interval over n = {dataset.sizes['seed']} seeds; {lost} runs not finite, left out")
    return figure


study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.grid(velocity_init=STARTS)
    + jx.cases({"weight_shift": 1.0})
    + jx.paired(momentum=MOMENTA.keys(), learning_rate=MOMENTA.values())
    * jx.grid(velocity_init=("ones",), velocity_scale=DOSES),
    seeds=64,
    num_steps=10 * EPOCH,
    evaluate_every=EPOCH,
    data=lambda config: jx.datasets.digits(),
    figures=(responses,),
    claims=(
        jx.Claim("Zeros: .76 to .82 after epoch 1.", accuracy(1, velocity_init="zeros"), jx.between(0.76, 0.82)),
        jx.Claim("Zeros: above .965 after epoch 10.", accuracy(10, velocity_init="zeros"), jx.above(0.965)),
        jx.Claim("Ones: below .12 at all epochs.", accuracy(*range(1, 201), velocity_init="ones"), jx.below(0.12)),
        jx.Claim("Weights shifted by 1: the same.", accuracy(*range(1, 201), weight_shift=1.0), jx.below(0.12)),
        jx.Claim("Epoch 1: zeros ~ first gradient.", lead("zeros", "first_gradient"), jx.between(-0.03, 0.03)),
        jx.Claim("Epoch 1: first gradient > U(-1, 1).", lead("first_gradient", "uniform_symmetric"), jx.above(0)),
        jx.Claim("Epoch 1: U(-1, 1) > normal.", lead("uniform_symmetric", "normal"), jx.above(0)),
        jx.Claim("Epoch 1: normal >> U(0, 1).", lead("normal", "uniform_positive"), jx.above(0.2)),
        jx.Claim("Epoch 1: U(0, 1) ~ ones.", lead("uniform_positive", "ones"), jx.between(-0.03, 0.03)),
    ),
)
full = study.replace(seeds=256)

if __name__ == "__main__":
    jx.main(study, full=full)
