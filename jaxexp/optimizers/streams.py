"""One random stream for each array of a pytree, named by the array's path.

Private to this package. A stream depends on the key and the path alone, so adding or masking other arrays changes
no draw (a split by position would change all that follow).
"""

import zlib
from typing import Any

import jax


def path_name(path: Any) -> str:
    """Returns a path of `jax.tree_util` as text, ``"layers/0/kernel"``.

    Args:
        path: A key path, as `jax.tree_util.tree_map_with_path` passes it.

    Example:
        >>> jax.tree_util.tree_map_with_path(lambda path, leaf: path_name(path), {"layers": [{"kernel": 1}]})
        {'layers': [{'kernel': 'layers/0/kernel'}]}
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_key(key: jax.Array, path: Any) -> jax.Array:
    """Returns the random key of the array at `path`.

    Args:
        key: One JAX random key.
        path: A key path, as `jax.tree_util.tree_map_with_path` passes it.

    Example:
        >>> keys = jax.tree_util.tree_map_with_path(
        ...     lambda path, leaf: leaf_key(jax.random.key(0), path), {"a": 1, "b": 2}
        ... )
        >>> bool(jax.random.normal(keys["a"]) == jax.random.normal(keys["b"]))
        False
    """
    return jax.random.fold_in(key, zlib.crc32(path_name(path).encode()))
