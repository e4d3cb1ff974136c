"""Dice losses of segmentations over any number of spatial dimensions, from logits.

The gradient is finite wherever the loss is: also for classes that are absent, predicted nowhere, or alone.
Nothing here chooses a weighting: why one collapses to background is the experiment's question.
"""

import enum
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxexp.errors import StudyError
from jaxexp.losses import _inputs


class ClassWeights(enum.StrEnum):
    """How generalized Dice weights a class that has `count` voxels; present classes weigh 1 / count**2.

    Example:
        >>> ClassWeights("absent_zero")
        <ClassWeights.ABSENT_ZERO: 'absent_zero'>
    """

    UNIFORM = "uniform"
    """Every class weighs 1. From softmax the loss is then 1 minus the mean probability of the true class."""
    ADDED_EPS = "added_eps"
    """1 / (count**2 + eps): an absent class weighs 1 / eps, far more than any present one."""
    ABSENT_EPS = "absent_eps"
    """1 / count**2; absent classes weigh eps. Not scale-free: present weights fall as the image grows."""
    ABSENT_ZERO = "absent_zero"
    """1 / count**2; absent classes are left out."""
    ABSENT_LARGEST = "absent_largest"
    """1 / count**2; absent classes weigh as much as the heaviest present class of the whole minibatch."""
    ABSENT_ROW_LARGEST = "absent_row_largest"
    """1 / count**2; absent classes weigh as much as the heaviest present class of their own example."""


def generalized_dice(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ClassWeights | str = ClassWeights.ABSENT_EPS,
    batch_wide: bool = False,
    eps: ArrayLike = 1e-6,
    smoothing: ArrayLike = 0.0,
    independent: bool = False,
) -> jax.Array:
    """Returns the generalized Dice loss, ``1 - 2 sum_c(w_c overlap_c) / sum_c(w_c (predicted_c + true_c))``.

    `overlap`, `predicted` and `true` are sums over voxels of probability times label, probability, and label.
    Where nothing carries weight (no class is present and the rest weigh 0) the loss is 0, and so its
    gradient.

    Args:
        logits: ``[batch, *spatial, num_classes]``, floating; sums are taken in float32 or wider.
        labels: Integers ``[batch, *spatial]`` in ``[0, num_classes)``, or one-hot of the logits' shape.
        class_weights: See `ClassWeights`; static. With ABSENT_ROW_LARGEST per sample this is MONAI's
            `GeneralizedDiceLoss`, with ABSENT_LARGEST batch-wide it is that of Sudre et al.
        batch_wide: Whether the minibatch is taken as one large image; otherwise the losses of its examples
            are averaged. Static.
        eps: Scalar above 0, used by ADDED_EPS and ABSENT_EPS; may be traced.
        smoothing: Scalar, at least 0, added to numerator and denominator; may be traced.
        independent: Whether classes are masks that may overlap (sigmoid), not alternatives (softmax). Static.

    Returns:
        A scalar in ``[0, 1]``.

    Raises:
        StudyError: If the shapes do not match, there is no voxel, `class_weights` is unknown, or `eps` or
            `smoothing` is a Python number out of range.

    Source: Sudre, Li, Vercauteren, Ourselin and Cardoso, "Generalised Dice overlap as a deep learning loss
    function for highly unbalanced segmentations" (2017).

    Example:
        >>> labels = jnp.array([[0, 0, 0, 1], [0, 0, 2, 2]])
        >>> logits = 9.0 * jax.nn.one_hot(jnp.zeros_like(labels), 3)  # background everywhere
        >>> for weights in (ClassWeights.UNIFORM, ClassWeights.ABSENT_ZERO, ClassWeights.ADDED_EPS):
        ...     print(f"{weights} {generalized_dice(logits, labels, class_weights=weights):.3f}")
        uniform 0.375
        absent_zero 0.563
        added_eps 0.998
    """
    probabilities, truth = _voxels("generalized_dice", logits, labels, batch_wide, independent)
    class_weights = _inputs.choice("generalized_dice", "class_weights", ClassWeights, class_weights)
    _inputs.at_least("generalized_dice", "eps", eps, 0.0, strict=True)
    _inputs.at_least("generalized_dice", "smoothing", smoothing, 0.0)
    weights = _weights(truth.sum(axis=1), class_weights, jnp.asarray(eps, truth.dtype))
    # The quotient does not change when all its terms are divided by the largest weight. Without that, weights
    # of 1 / eps or 1 / count**2 leave the range of float32 when the gradient squares the denominator.
    largest = weights.max(axis=-1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    weights, smoothing = weights / largest, jnp.asarray(smoothing, truth.dtype) / largest[:, 0]
    overlap = (weights * (probabilities * truth).sum(axis=1)).sum(axis=-1)
    total = (weights * (probabilities + truth).sum(axis=1)).sum(axis=-1)
    return (1 - _quotient(2 * overlap + smoothing, total + smoothing)).mean()


def soft_dice(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    batch_wide: bool = False,
    smoothing: ArrayLike = 1e-5,
    independent: bool = False,
) -> jax.Array:
    """Returns 1 minus the Dice coefficient ``2 overlap / (predicted + true)``, averaged over the classes.

    Every class counts alike, however small; an absent one counts too, with a loss of almost 1 until its total
    probability falls to about `smoothing`.

    Args:
        logits: ``[batch, *spatial, num_classes]``, floating; sums are taken in float32 or wider.
        labels: Integers ``[batch, *spatial]`` in ``[0, num_classes)``, or one-hot of the logits' shape.
        batch_wide: Whether the minibatch is taken as one large image; otherwise the losses of its examples
            are averaged. Static.
        smoothing: Scalar, at least 0, added to numerator and denominator; may be traced. At 0, a class that
            is absent and predicted nowhere has a loss of 0.
        independent: Whether classes are masks that may overlap (sigmoid), not alternatives (softmax). Static.

    Returns:
        A scalar in ``[0, 1]``.

    Raises:
        StudyError: If the shapes do not match, there is no voxel, or `smoothing` is a Python number out of
            range.

    Source: Milletari, Navab and Ahmadi, "V-Net" (2016), the Dice loss layer, without the squares in its
    denominator, as in Sudre et al. (2017); MONAI's `DiceLoss`.

    Example:
        >>> labels = jnp.array([[0, 0, 0, 1]])
        >>> logits = 99.0 * jax.nn.one_hot(jnp.zeros_like(labels), 2)  # background everywhere: 6/7 and 0
        >>> print(f"{soft_dice(logits, labels):.4f}")
        0.5714
    """
    probabilities, truth = _voxels("soft_dice", logits, labels, batch_wide, independent)
    _inputs.at_least("soft_dice", "smoothing", smoothing, 0.0)
    smoothing = jnp.asarray(smoothing, truth.dtype)
    overlap, total = (probabilities * truth).sum(axis=1), (probabilities + truth).sum(axis=1)
    return (1 - _quotient(2 * overlap + smoothing, total + smoothing)).mean()


def foreground_dice(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Returns the Dice coefficient of the predicted classes, all classes but 0 taken together: for judging.

    ``2 * right / (predicted + true)``, counted over the whole minibatch: `right` are the voxels of a class
    other than 0 that is predicted there, the others the voxels predicted to be, or truly, of any such class.
    A voxel with a logit that is not finite counts as predicted wrongly. Without any foreground, it is 1.

    Args:
        logits: ``[batch, *spatial, num_classes]``, floating.
        labels: Integers ``[batch, *spatial]``; 0 is background.

    Returns:
        A float32 scalar in ``[0, 1]``.

    Raises:
        StudyError: If the labels are not integers, the shapes do not match or there is no voxel.

    Source: Dice, "Measures of the Amount of Ecologic Association Between Species" (1945): the micro-averaged
    F1 score of the foreground classes.

    Example:
        >>> logits, labels = jax.nn.one_hot(jnp.array([[0, 1, 1, 2]]), 3), jnp.array([[0, 0, 1, 2]])
        >>> float(foreground_dice(logits, labels))
        0.800000011920929
    """
    logits, labels = _inputs.class_labels("foreground_dice", logits, labels)
    predicted = jnp.where(jnp.isfinite(logits).all(axis=-1), logits.argmax(axis=-1), -1)
    right = ((predicted == labels) & (labels != 0)).sum(dtype=jnp.float32)
    total = (predicted != 0).sum(dtype=jnp.float32) + (labels != 0).sum(dtype=jnp.float32)
    return _quotient(2 * right, total)


def _voxels(
    where: str, logits: ArrayLike, labels: ArrayLike, batch_wide: bool, independent: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns probabilities and labels [images, voxels, num_classes]; one image where `batch_wide`."""
    logits, labels = _inputs.class_distributions(where, logits, labels)
    if logits.ndim < 2:
        raise StudyError(
            f"losses.{where}: logits have shape {logits.shape}, but a segmentation has (batch, *spatial, "
            "num_classes). Write logits[None] and labels[None] for a single image"
        )
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    logits, labels = logits.astype(dtype), labels.astype(dtype)
    probabilities = jax.nn.sigmoid(logits) if independent else jax.nn.softmax(logits, axis=-1)
    shape = (1 if batch_wide else logits.shape[0], -1, logits.shape[-1])
    return probabilities.reshape(shape), labels.reshape(shape)


def _weights(counts: jax.Array, class_weights: ClassWeights, eps: jax.Array) -> jax.Array:
    """Returns the weights of the classes of each image, given their counts [images, num_classes]."""
    if class_weights is ClassWeights.UNIFORM:
        return jnp.ones_like(counts)
    if class_weights is ClassWeights.ADDED_EPS:
        return 1 / (counts**2 + eps)
    present = counts**2 >= jnp.finfo(counts.dtype).tiny  # where 1 / count**2 is finite
    inverse = jnp.where(present, 1 / jnp.where(present, counts, 1) ** 2, 0)
    if class_weights is ClassWeights.ABSENT_ZERO:
        return inverse
    if class_weights is ClassWeights.ABSENT_EPS:
        return jnp.where(present, inverse, eps)
    per_image = class_weights is ClassWeights.ABSENT_ROW_LARGEST
    return jnp.where(present, inverse, inverse.max(axis=-1 if per_image else None, keepdims=True))


def _quotient(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns part / whole, or 1 without a gradient where the whole is nothing.

    Nothing is what is too small to be squared, as the gradient does: its inverse would be infinite.
    """
    something = whole > math.sqrt(jnp.finfo(whole.dtype).tiny)
    return jnp.where(something, part / jnp.where(something, whole, 1), 1)
