"""Losses of a binary classifier with one logit: stand-ins for the share of wrong answers.

All are means over the elements of a function of the margin ``m = (2 * label - 1) * logit``, positive where
the answer is right. What matters between them is how they treat an outlier, m far below 0: hinge and focal
loss grow with it, while ramp, smoothed 0-1 and generalised cross-entropy are bounded, so its gradient
vanishes. The cross-entropy itself is `jaxexp.losses.sigmoid_cross_entropy`; where the threshold lies is not
decided here.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.losses import _inputs


def hinge(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the mean hinge loss ``max(0, 1 - m)``.

    Args:
        logits: Any shape with an element, floating.
        labels: The same shape, 0 or 1.

    Returns:
        A scalar of the logits' dtype, at least 0.

    Raises:
        StudyError: If the shapes differ, there is no example or the logits are not floating.

    Source: Cortes and Vapnik, "Support-Vector Networks" (1995); computed by `optax.losses.hinge_loss`.

    Example:
        >>> float(hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([1, 1, 1])))
        0.8333333730697632
    """
    logits, signs = _signed("hinge", logits, labels)
    return optax.losses.hinge_loss(logits, signs).mean()


def focal(logits: ArrayLike, labels: ArrayLike, *, gamma: ArrayLike = 2.0, alpha: ArrayLike | None = None) -> jax.Array:
    """Returns the mean focal loss ``-(1 - p)**gamma * log p``, with p the probability of the true side.

    Args:
        logits: Any shape with an element, floating.
        labels: The same shape, 0 or 1.
        gamma: Scalar, at least 0; 0 is the cross-entropy. May be traced.
        alpha: Scalar in (0, 1) that weights the label 1, with 1 - alpha for the label 0. None for no weights.

    Returns:
        A scalar of the logits' dtype, at least 0.

    Raises:
        StudyError: If the shapes differ, there is no example, the logits are not floating, or `gamma` or
            `alpha` is a Python number out of range.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), equations 4 and 5; computed by
    `optax.losses.sigmoid_focal_loss`.

    Example:
        >>> print(f"{focal(jnp.zeros(2), jnp.array([0, 1])):.6f}")  # log(2) / 4
        0.173287
    """
    logits, labels = _binary("focal", logits, labels)
    _inputs.at_least("focal", "gamma", gamma, 0.0)
    if isinstance(alpha, int | float) and not 0 < alpha < 1:
        raise StudyError(
            f"losses.focal: alpha={alpha!r} is out of range: one of the labels would weigh nothing. "
            "Write alpha=0.25 or another number in (0, 1), or alpha=None to weight both alike"
        )
    return optax.losses.sigmoid_focal_loss(logits, labels, gamma=gamma, alpha=alpha).mean()


def ramp(logits: ArrayLike, labels: ArrayLike, *, cutoff: ArrayLike = -1.0) -> jax.Array:
    """Returns the mean ramp loss: the hinge loss, constant where the margin is below `cutoff`.

    Args:
        logits: Any shape with an element, floating.
        labels: The same shape, 0 or 1.
        cutoff: Scalar below 1: the margin where the loss stops growing, at ``1 - cutoff``. May be traced.

    Returns:
        A scalar of the logits' dtype in ``[0, 1 - cutoff]``.

    Raises:
        StudyError: If the shapes differ, there is no example, the logits are not floating, or `cutoff` is a
            Python number that is not below 1.

    Source: Collobert, Sinz, Weston and Bottou, "Trading Convexity for Scalability" (2006).

    Example:
        >>> float(ramp(jnp.array([2.0, 0.5, -1.0, -50.0]), jnp.array([1, 1, 1, 1])))
        1.125
    """
    logits, signs = _signed("ramp", logits, labels)
    if isinstance(cutoff, int | float) and not -jnp.inf < cutoff < 1:
        raise StudyError(
            f"losses.ramp: cutoff={cutoff!r} is out of range: the loss would be 0 or the plain hinge loss. "
            "Write a finite cutoff < 1, such as -1.0"
        )
    return jnp.clip(1 - logits * signs, 0, 1 - jnp.asarray(cutoff, logits.dtype)).mean()


def smoothed_zero_one(logits: ArrayLike, labels: ArrayLike, *, temperature: ArrayLike = 1.0) -> jax.Array:
    """Returns the mean of ``sigmoid(-m / temperature)``, which tends to the share of wrong answers.

    Args:
        logits: Any shape with an element, floating.
        labels: The same shape, 0 or 1.
        temperature: Scalar above 0; the lower, the nearer to the step and the flatter away from it. May be
            traced, so that a schedule can anneal it.

    Returns:
        A scalar of the logits' dtype in ``[0, 1]``.

    Raises:
        StudyError: If the shapes differ, there is no example, the logits are not floating, or `temperature`
            is a Python number that is not positive and finite.

    Source: Nguyen and Sanner, "Algorithms for Direct 0-1 Loss Optimization in Binary Classification" (2013),
    the sigmoid loss with the precision 1 / temperature.

    Example:
        >>> logits, labels = jnp.array([3.0, -1.0, 2.0, 0.5]), jnp.array([1, 1, 0, 1])
        >>> print(f"{smoothed_zero_one(logits, labels, temperature=1e-3):.6f}")  # two of four are wrong
        0.500000
    """
    logits, signs = _signed("smoothed_zero_one", logits, labels)
    _inputs.at_least("smoothed_zero_one", "temperature", temperature, 0.0, strict=True)
    return jax.nn.sigmoid(-logits * signs / temperature).mean()


def generalized_cross_entropy(logits: ArrayLike, labels: ArrayLike, *, q: ArrayLike = 0.7) -> jax.Array:
    """Returns the mean of ``(1 - p**q) / q``, with p the sigmoid probability of the true side.

    Args:
        logits: Any shape with an element, floating.
        labels: The same shape, 0 or 1.
        q: Scalar in (0, 1]: towards 0 it is the cross-entropy, at 1 the mean absolute error ``1 - p``. May
            be traced.

    Returns:
        A scalar of the logits' dtype in ``[0, 1/q]``.

    Raises:
        StudyError: If the shapes differ, there is no example, the logits are not floating, or `q` is a Python
            number out of range.

    Source: Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
    Labels" (2018), the L_q loss, for two classes.

    Example:
        >>> print(f"{generalized_cross_entropy(jnp.zeros(2), jnp.array([0, 1]), q=1.0):.6f}")
        0.500000
        >>> print(f"{generalized_cross_entropy(jnp.zeros(2), jnp.array([0, 1]), q=1e-5):.4f}")  # log 2
        0.6931
    """
    logits, signs = _signed("generalized_cross_entropy", logits, labels)
    if isinstance(q, int | float) and not 0 < q <= 1:
        raise StudyError(
            f"losses.generalized_cross_entropy: q={q!r} is out of range. Write a q in (0, 1], or "
            "losses.sigmoid_cross_entropy(logits, labels) for its limit at 0"
        )
    # expm1 keeps the digits that 1 - p**q loses where p is near 1 or q near 0.
    return (-jnp.expm1(q * jax.nn.log_sigmoid(logits * signs)) / q).mean()


def _binary(where: str, logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns logits and 0/1 labels of one shape."""
    logits, labels = _inputs.pair(where, logits, labels)
    _inputs.examples(where, logits)
    return logits, labels


def _signed(where: str, logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns logits and the labels as -1 or 1."""
    logits, labels = _binary(where, logits, labels)
    return logits, 2 * labels - 1
