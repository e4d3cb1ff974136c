"""What machine this is, and JAX's persistent compile cache. Changes nothing unless asked.

Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

import contextlib
import functools
import os
import platform
import re
import resource
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from jaxexp.errors import StudyError

_ENOUGH_BYTES = 2**50
"""What is taken to be there where nothing says how much memory there is."""

_USUAL = {
    "jax_default_matmul_precision": None,
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_threefry_partitionable": True,
}
"""Settings of JAX on which bits depend, and what they are where nobody sets them."""

_ENDING = ("jax_debug_nans", "jax_debug_infs")
"""Settings with which JAX raises an error where a number is not finite."""

_VARIABLES = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")

_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "jaxexp")


def use_compile_cache() -> None:
    """Turns JAX's persistent compile cache on, where the user has not chosen one or turned it off.

    Programs are kept under `$XDG_CACHE_HOME/jaxexp` (or `~/.cache/jaxexp`); set JAX_COMPILATION_CACHE_DIR for
    another place, or JAX_ENABLE_COMPILATION_CACHE=0 for none.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxexp"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def check() -> None:
    """Checks that JAX finds a device.

    Raises:
        StudyError: If it does not.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as problem:  # of JAX_PLATFORMS=cuda without a plugin it asserts
        asked = os.environ.get("JAX_PLATFORMS")
        hint = f"; JAX_PLATFORMS={asked} asks for it: unset it, or write JAX_PLATFORMS=cpu" if asked else ""
        raise StudyError(
            f"JAX finds no device to train on: {str(problem) or 'its backend is not there'}{hint}"
        ) from problem


def check_settings() -> None:
    """Checks that JAX lets a run diverge.

    Raises:
        StudyError: If it does not.
    """
    for name in _ENDING:
        if jax.config.values[name]:
            raise StudyError(
                f"{name.upper()} is set: JAX would end all runs of a program where one of them diverges; unset it, and "
                "`jaxexp replay` names the step and what was not finite"
            )


def environment() -> dict[str, Any]:
    """Returns what a run's results may depend on beside its code: versions, device, flags and precision."""
    device = jax.devices()[0]
    return {
        "versions": _versions() | {"python": platform.python_version()},
        "device": {"platform": device.platform, "kind": _kind(device), "count": jax.device_count()},
        "threads": num_threads() if device.platform == "cpu" else None,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compiler_options": compiler_options(),
        "x64": bool(jax.config.values["jax_enable_x64"]),
        "settings": _settings(),
    }


def _settings() -> dict[str, str]:
    """What else of JAX's settings and of the environment the compiler goes by, where it is not as usual."""
    known = {name: jax.config.values.get(name, usual) for name, usual in _USUAL.items()}
    found = {name: str(known[name]) for name, usual in _USUAL.items() if known[name] != usual}
    return found | {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}


@functools.cache
def _versions() -> dict[str, str]:
    """The packages' versions, read once: metadata are files."""
    return {name: metadata.version(name) for name in _PACKAGES}


def _kind(device: Any) -> str:
    """The device's name; for a CPU, which JAX just calls cpu, that of the processor."""
    return device.device_kind if device.platform != "cpu" else processor_name()


def processor_name() -> str:
    """Returns the processor's name, family and model: virtual machines call several of them just AMD EPYC."""
    known = processor()
    numbers = {"family": known.get("cpu family"), "model": known.get("model")}
    name = known.get("model name") or platform.machine()
    return ", ".join([name, *(f"{which} {number}" for which, number in numbers.items() if number)])


@functools.cache
def processor() -> Mapping[str, str]:
    """Returns what the kernel says of the first processor, by name, read once; empty where it says nothing.

    Source: proc(5) for `/proc/cpuinfo`.
    """
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    return {}


_WIDE = (
    {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17"},  # Zen 4
    {"vendor_id": "AuthenticAMD", "cpu family": "26"},  # Zen 5
    {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "207"},  # Emerald Rapids
    {"vendor_id": "GenuineIntel", "model": "167", "model name": "Intel(R) Xeon(R) Processor"},  # has AMX; in a cloud
)
"""Processors, as the kernel names them, that were measured to be faster with vectors of 512 bits than of 256."""


def compiler_options() -> dict[str, Any]:
    """Returns what XLA is told for this processor: on some, vectors of 512 bits and not of 256.

    Hand-written W1 runs 1.3 times as fast on AMD's Zen 5, 1.1 to 1.3 times on Intel's Xeons and 1.05 times on Zen 4;
    W2 1.1 to 1.2 times on Zen 5 and the later Xeon; all else within 4 % (`benchmarks.compare`). Elsewhere, where it was
    not measured, XLA decides. It also does where the environment's XLA_FLAGS choose a width.
    """
    if jax.default_backend() != "cpu" or "xla_cpu_prefer_vector_width" in os.environ.get("XLA_FLAGS", ""):
        return {}
    known = processor()
    wide = "avx512f" in known.get("flags", "").split() and any(one.items() <= known.items() for one in _WIDE)
    return {"xla_cpu_prefer_vector_width": 512} if wide else {}


def num_threads() -> int:
    """Returns the threads that XLA's CPU backend computes with: the bits of long sums depend on it."""
    given = os.environ.get("NPROC", "")
    return int(given) if given.isdecimal() else len(os.sched_getaffinity(0))


def num_cores() -> int:
    """Returns how many worker processes a job may have here: one a CPU core, one alone on an accelerator."""
    return len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1


def available_bytes() -> int:
    """Returns the memory that this process can still take on the device: a CPU's is what the host has left.

    Source: proc(5) for `MemAvailable` and `statm`; getrlimit(2) for what `ulimit -v` leaves.
    """
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return int(statistics["bytes_limit"]) - int(statistics.get("bytes_in_use", 0))
    left = [_ENOUGH_BYTES]
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        left += [int(told[1]) * 1024] if told else []
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        left += [limit - taken] if limit != resource.RLIM_INFINITY else []
    return max(0, min(left))


def git_state(folder: Path) -> dict[str, Any]:
    """Returns the git commit of a folder and whether any file but results is not committed, or None for both."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ":(top)", ":(top,exclude)results")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]  # else `status` writes the index, which others may wait for
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
