"""Hand-written C on one thread, for W1 and W3: what a machine can do where nothing is general.

The sources in `benchmarks/c/` are compiled for this machine when a task is prepared, into a temporary folder.
"""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.task import Task

SOURCES = Path(__file__).resolve().parents[1] / "c"
_MATHS = ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math")
"""What `-ffast-math` allows, without what it links in: that would flush subnormal numbers in the whole process."""

COMMAND = ("cc", "-O3", "-march=native", "-mprefer-vector-width=512", *_MATHS, "-shared", "-fPIC")


def sweep(task: Task, compiler: str = COMMAND[0]) -> Callable[[], np.ndarray]:
    """Returns the function that trains a task of W1 or W3 and returns final losses [num_seeds, num_trials].

    Raises:
        ImportError: There is no C compiler, or it knows no such options.
    """
    source = SOURCES / f"{task.workload.lower()}.c"
    defines = [f"-DNUM_POINTS={len(task.inputs)}"]
    with tempfile.TemporaryDirectory(prefix="jaxexp-c-") as folder:
        library = Path(folder) / "train.so"
        command = [compiler, *COMMAND[1:], *defines, str(source), "-o", str(library), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise ImportError(f"no C compiler `{compiler}`") from None
        except subprocess.CalledProcessError as problem:
            raise ImportError(f"{' '.join(command)}: {problem.stderr.strip()}") from None
        train = ctypes.CDLL(str(library)).train
    arrays = [task.inputs, task.labels, task.hyperparameters]
    arrays += [part for layer in zip(task.kernels, task.biases, strict=True) for part in layer]
    given = [np.ascontiguousarray(array) for array in arrays]
    rest = [np.ascontiguousarray(array) for array in (task.table, task.eval_inputs, task.eval_labels)]
    sizes = [ctypes.c_int(size) for size in (task.num_seeds, task.num_trials, task.num_steps)]
    after = [_pointer(rest[0]), ctypes.c_int(len(rest[1])), *map(_pointer, rest[1:])] if task.workload == "W3" else []

    def run() -> np.ndarray:
        final = np.empty((task.num_seeds, task.num_trials), np.float32)
        train(*sizes, *map(_pointer, given), _pointer(final), *after)
        return final

    return run


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
