"""Small questions about pytrees of arrays: names, bytes, digests, and random keys as plain integers.

Knows nothing of experiments; never computes on a device.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Leaf = Any


def is_key(leaf: Leaf) -> bool:
    """Returns whether a leaf (array or shape) holds typed JAX random keys.

    Example:
        >>> is_key(jax.eval_shape(lambda: jax.random.key(0)))
        True
    """
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_to_integers(leaf: Leaf) -> Leaf:
    """Returns the integers behind a leaf of random keys, and any other leaf as it is."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def integers_to_key(leaf: Leaf, shape: jax.ShapeDtypeStruct) -> Leaf:
    """Returns random keys again, where `shape` (from before `key_to_integers`) says that they were keys."""
    if not is_key(shape):
        return leaf
    known: list[str] = []  # JAX names the implementation of keys, and not of their shapes
    jax.eval_shape(lambda key: known.append(str(jax.random.key_impl(key))), shape)
    return jax.random.wrap_key_data(leaf, impl=known[0])


def leaf_names(tree: Any) -> list[str]:
    """Returns one readable path for each leaf, in flattening order.

    Example:
        >>> leaf_names({"w": 1, "layers": [2, 3]})
        ['layers/0', 'layers/1', 'w']
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def num_bytes(tree: Any) -> int:
    """Returns the bytes that the leaves of a tree of arrays or shapes take.

    Example:
        >>> num_bytes({"w": np.zeros((2, 3), np.float32)})
        24
    """
    return sum(int(np.prod(leaf.shape)) * _item_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _item_bytes(leaf: Leaf) -> int:
    return 8 if is_key(leaf) else np.dtype(leaf.dtype).itemsize


def digest(tree: Any) -> str:
    """Returns a SHA-256 over structure, dtypes, shapes and bytes of a tree of host arrays.

    Example:
        >>> digest({"w": np.zeros(2)}) == digest({"w": np.zeros(2)})
        True
        >>> digest({"w": np.zeros(2)}) == digest({"w": np.ones(2)})
        False
    """
    leaves, structure = jax.tree.flatten(tree)
    total = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        array = np.ascontiguousarray(leaf)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
