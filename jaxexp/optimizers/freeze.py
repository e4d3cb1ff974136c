"""Training a part of the parameters only, the rest not moving at all.

Which part is fixed when the program is compiled: a mask that changes during training, or from lane to lane, is
refused by construction, since the question is asked of names and not of values.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxexp.errors import StudyError
from jaxexp.optimizers.streams import path_name

_FROZEN, _TRAINED = "frozen", "trained"


def freeze(
    optimizer: optax.GradientTransformation, is_frozen: Callable[[str], bool]
) -> optax.GradientTransformationExtraArgs:
    """Returns `optimizer` for the parameters that are not frozen, and updates of exactly 0 for those that are.

    This is `optax.partition` with the parts chosen by name. Freezing here is more than zeroing gradients before an
    optimizer: neither weight decay nor a velocity can move a frozen parameter, nothing is kept for it in the
    optimizer's state, and it does not count in a global norm that `optimizer` clips.

    Args:
        optimizer: Any optax optimizer; it sees the trained parameters alone.
        is_frozen: Given the path of an array in the parameters, such as ``"lstm/hf/kernel"`` or ``"0/bias"``,
            whether the array is frozen.

    Returns:
        An optax optimizer.

    Raises:
        StudyError: From its ``init``: `is_frozen` is true of no array, so that a misspelt name would go unnoticed.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"lstm": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
        >>> optimizer = freeze(optax.adam(0.1), lambda path: path.startswith("lstm/"))
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates["lstm"]["kernel"]
        Array([0., 0.], dtype=float32)
        >>> bool((updates["head"]["kernel"] < 0).all())
        True
    """

    def labels(params: Any) -> Any:
        def label(path, _):
            return _FROZEN if is_frozen(path_name(path)) else _TRAINED

        labelled = jax.tree_util.tree_map_with_path(label, params)
        if _FROZEN not in jax.tree.leaves(labelled):
            paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise StudyError(
                "optimizers.freeze: is_frozen is true of no parameter, so nothing would be frozen; the paths are "
                f"{', '.join(paths) or '(none)'}; type lambda path: path.startswith({paths[0] if paths else 'lstm'!r})"
            )
        return labelled

    return optax.partition({_TRAINED: optimizer, _FROZEN: optax.set_to_zero()}, labels)
