"""Strict settings for every test, made before JAX starts; child processes of the tests inherit them.

Ranks never promote silently, figures need no screen, and compiled programs are kept for one session only: a test
neither reads nor fills the user's cache. There is one CPU device, since XLA takes a thread for each and the bits of
long sums depend on them.
"""

import os
import tempfile

_compiled = tempfile.TemporaryDirectory(prefix="jaxexp-tests-", ignore_cleanup_errors=True)
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": _compiled.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    "MPLBACKEND": "agg",
}

import hypothesis  # noqa: E402

import jaxexp  # noqa: E402, F401  (before any test starts JAX: it asks XLA for one thread)

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")
