"""Why does generalized Dice loss teach a network to predict background only, and what repairs it?

Digits of 28 x 28 pixels in 11 classes (below .4 background, else the digit's class), of which an image has two. A net
with a local 3 x 3 and a global view, minibatches of 16, Adam 3e-3, 400 steps; that cross-entropy learns the task shows
that they suffice. Judged on 500 test images by foreground Dice (all objects together), Dice averaged over the classes,
and the share predicted / true foreground: below .05 is a collapse. Losses: the question's as its TensorFlow 1 graph ran
(`tensor == 1` is False, so every class counts 0 pixels and weighs 1e5: equal weights over the minibatch); its formula
per image, where absent classes weigh 1e5; the public answer, where they weigh eps = 1e-6; soft Dice per image and over
the minibatch. A class of N pixels weighs 1 / N^2, so that what counts is eps N^2: eps is swept. At full size also
volumes of 12^3 in 4 classes: a local net, minibatches of 2, Adam 5e-3, 800 steps. Comparisons are paired by seed.

Source: Sudre et al., Generalised Dice overlap, 2017; https://github.com/keras-team/keras/issues/9395 and its answer.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxexp as jx

NETS = {"digits": jx.models.segmenter(11), "volumes": jx.models.segmenter(4, num_hidden=16, num_context=None)}
BATCH_SIZES = {"digits": 16, "volumes": 2}
DIGIT_PIXELS = 112  # of a digit on average: its class weighs 1 / 112^2

ANSWER, QUESTION, PER_IMAGE = {"loss": "answer"}, {"loss": "question"}, {"loss": "question_per_image"}
CROSS_ENTROPY, SOFT = {"loss": "cross_entropy"}, {"loss": "soft_dice"}
SOFT_PER_IMAGE, PER_IMAGE_TINY = {"loss": "soft_dice_per_image"}, PER_IMAGE | {"adam_eps": 1e-15}
VOLUMES = {"task": "volumes", "learning_rate": 5e-3}
COLLAPSED = jx.below(0.05)


@jx.config
class Config:
    """The hyperparameters of a trial."""

    loss: Literal["cross_entropy", "question", "question_per_image", "answer", "soft_dice", "soft_dice_per_image"] = (
        "answer"
    )
    task: Literal["digits", "volumes"] = "digits"
    eps: float = jx.dynamic(1e-6, minimum=0)  # what absent classes weigh in the answer
    learning_rate: float = jx.dynamic(3e-3, minimum=0)
    adam_eps: float = jx.dynamic(1e-8, minimum=0)


def loss(params, inputs, labels, config):
    """The loss of a minibatch."""
    logits = NETS[config.task].apply(params, inputs)
    match config.loss:
        case "cross_entropy":
            return jx.losses.softmax_cross_entropy(logits, labels)
        case "question":
            return jx.losses.generalized_dice(logits, labels, class_weights="uniform", batch_wide=True)
        case "question_per_image":
            return jx.losses.generalized_dice(logits, labels, class_weights="added_eps", eps=1e-5)
        case "answer":
            return jx.losses.generalized_dice(logits, labels, class_weights="absent_eps", eps=config.eps)
        case _:
            return jx.losses.soft_dice(logits, labels, batch_wide=config.loss == "soft_dice")


def optimizer(config):
    """Adam."""
    return optax.adam(config.learning_rate, eps=config.adam_eps)


def init(key, data, config):
    """Draws the parameters."""
    params = NETS[config.task].init(key, data.train_inputs[:1])
    return params, optimizer(config).init(params), jx.minibatches.start(len(data.train_inputs))


def step(key, state, data, config):
    """One update on a minibatch."""
    params, opt_state, cursor = state
    chosen, cursor = jx.minibatches.draw(key, cursor, BATCH_SIZES[config.task])
    value, gradient = jax.value_and_grad(loss)(params, data.train_inputs[chosen], data.train_labels[chosen], config)
    updates, opt_state = optimizer(config).update(gradient, opt_state, params)
    metrics = {"train_loss": value, "gradient_norm": optax.tree.norm(gradient)}
    return (optax.apply_updates(params, updates), opt_state, cursor), metrics


def evaluate(state, data, config):
    """Dice and the predicted share of foreground on the test images."""
    logits, labels = NETS[config.task].apply(state[0], data.test_inputs), data.test_labels
    predicted = logits.argmax(-1)

    def dice(label):
        right, voxels = ((predicted == label) & (labels == label)).sum(), (predicted == label).sum()
        return 2 * right / (voxels + (labels == label).sum())

    return {
        "foreground_dice": jx.losses.foreground_dice(logits, labels),
        "class_dice": jax.vmap(dice)(jnp.arange(1, logits.shape[-1])).mean(),
        "predicted_share": jnp.count_nonzero(predicted) / jnp.count_nonzero(labels),
    }


def measured(dataset, metric, steps, **trial):
    """A metric [seed] of a trial after some steps; NaN where a run is not finite, or nothing was run."""
    chosen = dataset.status == 0
    for name, value in ({"task": "digits", "eps": 1e-6, "adam_eps": 1e-8} | trial).items():
        chosen = chosen & (dataset[name] == value)
    values = dataset[metric].where(chosen).mean("trial")
    return values.reindex({values.dims[-1]: [steps]}).isel({values.dims[-1]: 0}, drop=True)


def share(trial, steps=400):
    """Estimates predicted / true foreground."""
    return lambda d: measured(d, "predicted_share", steps, **trial)


def lead(first, second, steps=400):
    """Estimates by how much the foreground Dice of one trial is above that of another."""
    return lambda d: measured(d, "foreground_dice", steps, **first) - measured(d, "foreground_dice", steps, **second)


def moved(d):
    """Estimates by how much foreground Dice changes when the question is trained per image."""
    return abs(measured(d, "foreground_dice", 400, **PER_IMAGE) - measured(d, "foreground_dice", 0, **PER_IMAGE))


def ranked(first, second):
    """The claim that one loss is ahead of another on the volumes, one of three such: at 1 - .05 / 3 (Bonferroni)."""
    statement = f"Volumes: {first} is ahead of {second}, at 98.3 %.".replace("_", " ")
    return jx.Claim(
        statement, lead(VOLUMES | {"loss": first}, VOLUMES | {"loss": second}, 800), jx.above(0), 1 - 0.05 / 3
    )


def dots(axes, dataset, steps, trials):
    """Draws the foreground Dice of each seed, and the mean with its 95 % t interval, a row a trial that was run."""
    from jaxexp.statistics import mean_interval

    found = {label: measured(dataset, "foreground_dice", steps, **trial) for label, trial in trials.items()}
    shown = {label: values for label, values in found.items() if values.notnull().sum() > 1}
    for row, values in enumerate(shown.values()):
        mean, low, high, n, _ = mean_interval(values)
        axes.plot(values, [row] * values.size, "o", color="#0072B2", fillstyle="none", markersize=5)
        axes.plot([low, high], [row - 0.25] * 2, color="#D55E00", linewidth=2)
        axes.plot(mean, row - 0.25, "D", color="#D55E00", markersize=5)
        axes.text(1.03, row, f"{mean:.3f}, n = {n}", va="center", fontsize=8)
    axes.set(yticks=range(len(shown)), yticklabels=shown, xlim=(-0.05, 1.27), ylim=(len(shown) - 0.5, -0.6))
    axes.set(xlabel="foreground Dice on the test images", xticks=np.linspace(0, 1, 6))


def curve(axes, dataset, steps, label, color):
    """Draws mean foreground Dice of the answer against eps / w(digit), with its 95 % t interval over seeds."""
    from jaxexp.statistics import mean_interval

    values = {eps: measured(dataset, "foreground_dice", steps, **ANSWER, eps=eps) for eps in np.unique(dataset.eps)}
    found = {eps: mean_interval(seeds) for eps, seeds in values.items() if seeds.notnull().sum() > 1}
    mean, low, high = np.array([estimate[:3] for estimate in found.values()]).reshape(-1, 3).T
    ratio = np.array(list(found)) * DIGIT_PIXELS**2
    axes.fill_between(ratio, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(ratio, mean, ".-", color=color, label=label)


def foreground_dice(dataset):
    """Draws foreground Dice by loss on the digits, against eps, and (where they were run) on the volumes."""
    from matplotlib.figure import Figure

    digits = {"cross-entropy": CROSS_ENTROPY, "soft Dice,\nminibatch": SOFT, "soft Dice,\nper image": SOFT_PER_IMAGE}
    digits |= {"answer": ANSWER, "question,\nas its graph ran": QUESTION, "question,\nper image": PER_IMAGE}
    volumes = {label: VOLUMES | trial for label, trial in digits.items()}
    both = bool((dataset.task == "volumes").any())
    figure = Figure(figsize=(15 if both else 10.5, 4.5), layout="constrained")
    left, middle, *right = figure.subplots(1, 2 + both)
    dots(left, dataset, 400, digits | {"question, per\nimage, Adam\neps 1e-15": PER_IMAGE_TINY})
    left.set_title("digits, 400 steps")
    for axes in right:
        dots(axes, dataset, 800, volumes)
        axes.set_title("volumes, 800 steps")
    curve(middle, dataset, 400, "400 steps", "#0072B2")
    if 800 in dataset.eval_step:
        curve(middle, dataset, 800, "800 steps", "#E69F00")
    for ratio, name in ((1e-6 * DIGIT_PIXELS**2, "a digit here"), (440, "1 % of 128$^3$ voxels")):
        middle.axvline(ratio, color="black", linestyle=":", linewidth=1)
        middle.text(ratio, 1.02, f" eps 1e-6,\n {name}", va="bottom", ha="center", fontsize=8)
    middle.set(xscale="log", xlabel="eps / w(present) = eps N$^2$", ylabel="foreground Dice, digits", ylim=(-0.05, 1))
    middle.legend(fontsize=8, loc="lower left")
    lost = int((dataset.status == 1).sum())
    n = dataset.sizes["seed"]
    figure.suptitle(f"n = {n} seeds (circles), their mean and its 95 % interval; {lost} runs not finite, left out")
    return figure


study = jx.Study(
    experiment=jx.Experiment(init, step, evaluate),
    config=Config(),
    sweep=jx.cases(CROSS_ENTROPY, QUESTION, PER_IMAGE, PER_IMAGE_TINY) + jx.grid(eps=(1e-6, 1e-4, 1e-2)),
    seeds=6,
    num_steps=400,
    evaluate_every=400,
    data=lambda config: jx.datasets.digit_segmentation() if config.task == "digits" else jx.datasets.volumes(),
    figures=(foreground_dice,),
    claims=(
        jx.Claim(
            "Cross-entropy: Dice above .8.",
            lambda d: measured(d, "foreground_dice", 400, **CROSS_ENTROPY),
            jx.above(0.8),
        ),
        jx.Claim("The question as its graph ran collapses.", share(QUESTION), COLLAPSED),
        jx.Claim(
            "The question per image: the first gradient is below Adam's eps.",
            lambda d: measured(d, "gradient_norm", 0, **PER_IMAGE),
            jx.below(1e-8),
        ),
        jx.Claim("The question per image is frozen: Dice moves by less than .001.", moved, jx.below(1e-3)),
        jx.Claim("The question per image with Adam's eps 1e-15 collapses.", share(PER_IMAGE_TINY), COLLAPSED),
        jx.Claim("The answer does not: it predicts above half the foreground.", share(ANSWER), jx.above(0.5)),
        jx.Claim("The answer is .3 ahead of the question.", lead(ANSWER, QUESTION), jx.above(0.3)),
        jx.Claim("Cross-entropy is ahead of the answer.", lead(CROSS_ENTROPY, ANSWER), jx.above(0)),
        jx.Claim(
            "Absent classes that weigh as much as the digit cost .3.",
            lead(ANSWER, ANSWER | {"eps": 1e-4}),
            jx.above(0.3),
        ),
        jx.Claim("Absent classes that weigh 100 times as much: collapse.", share(ANSWER | {"eps": 1e-2}), COLLAPSED),
    ),
)
full = study.replace(
    sweep=jx.cases(CROSS_ENTROPY, QUESTION, PER_IMAGE, PER_IMAGE_TINY, SOFT, SOFT_PER_IMAGE)
    + jx.grid(eps=(1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1))
    + jx.cases(*(VOLUMES | trial for trial in (CROSS_ENTROPY, SOFT, SOFT_PER_IMAGE, ANSWER, QUESTION))),
    seeds=8,
    num_steps=800,
    claims=(
        *study.claims,
        jx.Claim("Soft Dice per image collapses.", share(SOFT_PER_IMAGE), COLLAPSED),
        jx.Claim("Soft Dice over the minibatch is ahead of the answer.", lead(SOFT, ANSWER), jx.above(0)),
        jx.Claim("Volumes: the question collapses.", share(VOLUMES | QUESTION, 800), COLLAPSED),
        ranked("answer", "cross_entropy"),
        ranked("answer", "soft_dice"),
        ranked("soft_dice", "cross_entropy"),
    ),
)

if __name__ == "__main__":
    jx.main(study, full=full)
