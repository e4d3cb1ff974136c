"""What an experiment's functions take and give, found by abstract evaluation: nothing is computed.

Also where tracing errors become messages that name the field, and where it is found which parts of the state
depend on the seed alone, or on nothing, so that the engine keeps them once for many lanes.
"""

import dataclasses
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxexp import configs, trees
from jaxexp.errors import JaxexpError, StudyError
from jaxexp.experiment import Experiment
from jaxexp.study import COORDINATES, Study

_NOT_CONCRETE = (
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)

_MOST_BYTES = 2**40

_CALLBACKS = {"pure_callback", "io_callback", "ordered_callback"}

KEYS = "threefry2x32"
"""The kind of the random keys that experiments get, whatever kind JAX makes when none is named."""

SHARED, SEED, RUN = 0, 1, 2
"""Who owns a leaf of the state: all runs together, all trials of a seed together, or each run its own."""


class Signature(NamedTuple):
    """Shapes of the state, names of the metrics, owners of the state's leaves, and a step's working set.

    Attributes:
        state: The state's structure with a shape for each leaf.
        owners: `SHARED`, `SEED` or `RUN` for each leaf of the state.
        step_metrics: Names of what `step` reports.
        eval_metrics: Names of what `evaluate` reports.
        lane_bytes: Bytes that one lane is expected to work on during a step.
        step_flops: Floating-point operations of one step of one lane, roughly.
        has_convolution: Whether a step has a convolution, which lanes make a grouped one.
        traced: The experiment's functions as they were traced: to lower them runs no line of the experiment again.
    """

    state: Any
    owners: tuple[int, ...]
    step_metrics: tuple[str, ...]
    eval_metrics: tuple[str, ...]
    lane_bytes: int
    step_flops: float
    has_convolution: bool
    traced: Experiment


def load_data(study: Study, config: Any) -> Any:
    """Returns the data of a group as host arrays (`None` where the study has none).

    Raises:
        StudyError: If the data function reads a dynamic field, raises, or returns something that is no array.
    """
    if study.data is None:
        return None
    names = [field.name for field in configs.fields(config).values() if field.dynamic]
    try:
        data = study.data(dataclasses.replace(config, **{name: _Guard(name) for name in names}))
    except JaxexpError:
        raise
    except Exception as problem:  # the experiment's own code may raise anything
        raise StudyError(f"data cannot be made: {told(problem, config)}") from problem
    for name, leaf in zip(trees.leaf_names(data), jax.tree.leaves(data), strict=True):
        if not _is_numbers(leaf):
            what = f"{leaf.dtype} array" if hasattr(leaf, "dtype") else type(leaf).__name__
            raise StudyError(f"data gave a {what} at {name or 'its root'}: give arrays of numbers")
    return jax.tree.map(_host_array, data)


def _is_numbers(leaf: Any) -> bool:
    """Whether JAX can hold a leaf as an array of numbers; keys, text and dates are none."""
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, int, float)):
        return False
    dtype = np.result_type(leaf) if isinstance(leaf, (int, float)) else leaf.dtype
    return jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)


def _host_array(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


class _Guard:
    """Stands for a dynamic field while data are loaded, since data are shared by all values of the field."""

    def __init__(self, name: str):
        self._name = name

    def _refuse(self, *_: Any) -> Any:
        raise StudyError(
            f"data(config) reads the dynamic field {self._name!r}, but all trials of a group share their data: "
            f"mark it static, `{self._name}: ... = jx.static(...)`, or use it in init or step"
        )

    __float__ = __int__ = __index__ = __bool__ = __array__ = __neg__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __abs__ = __round__ = __getattr__ = _refuse
    __eq__ = __ne__ = __hash__ = __str__ = __repr__ = __format__ = _refuse


def signature(study: Study, config: Any, data: Any) -> Signature:
    """Returns what the experiment's functions give for this config's static fields.

    Raises:
        StudyError: If a function cannot be traced (the message names the field to mark static), if the state
            changes its shape, or if metrics are not a flat dict of scalars with names of their own.
    """
    key = jax.eval_shape(lambda: jax.random.key(0, impl=KEYS))
    experiment = study.experiment
    shapes = jax.eval_shape(lambda d: d, data)
    traced = _abstract(config)
    init, state = _trace("init", experiment.init, config, (key, shapes), traced)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    step, result = _trace("step", experiment.step, config, (key, state, shapes), traced)
    after, metrics = _pair(result)
    _check_same_state(state, after)
    evaluate, evaluated = None, {}
    if experiment.evaluate is not None:
        evaluate, evaluated = _trace("evaluate", experiment.evaluate, config, (state, shapes), traced)
    taken = (*COORDINATES, *configs.fields(config))
    if trees.num_bytes(state) > _MOST_BYTES:
        raise StudyError(f"the state of one run takes {trees.num_bytes(state):,} bytes: make the model smaller")
    step_metrics, eval_metrics = (_metric_names(*pair, taken) for pair in (("step", metrics), ("evaluate", evaluated)))
    both = set(step_metrics) & set(eval_metrics)
    if both:
        raise StudyError(
            f"step and evaluate both report {sorted(both)[0]!r}: rename one, e.g. 'test_{sorted(both)[0]}'"
        )
    owners = _owners(init.jaxpr, step.jaxpr, state, shapes, traced)
    own = [leaf for leaf, owner in zip(jax.tree.leaves(state), owners, strict=True) if owner == RUN]
    return Signature(
        state,
        owners,
        step_metrics,
        eval_metrics,
        lane_bytes=2 * trees.num_bytes(own) + 4 * _largest(step.jaxpr),
        step_flops=_flops(step.jaxpr),
        has_convolution="conv_general_dilated" in _primitives(step.jaxpr),
        traced=Experiment(_replayed(init, state), _replayed(step, result), evaluate and _replayed(evaluate, evaluated)),
    )


def _replayed(made: Any, result: Any) -> Callable[..., Any]:
    """A function that does what was traced, to arguments of the same shapes, and gives what `result` is shaped like."""
    structure = jax.tree.structure(result)

    def function(*arguments: Any) -> Any:
        leaves = jax.core.eval_jaxpr(made.jaxpr, made.consts, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, leaves)

    return function


def _abstract(config: Any) -> Any:
    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((), jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))

    return jax.tree.map(shape, config)


def _trace(
    name: str, function: Callable[..., Any], config: Any, arguments: Sequence[Any], traced: Any
) -> tuple[Any, Any]:
    """A function of the experiment as a program, and the shapes of what it returns."""
    try:
        made = jax.make_jaxpr(function, return_shape=True)(*arguments, traced)
        if called := sorted(_CALLBACKS & _primitives(made[0].jaxpr)):
            raise StudyError(
                f"{name} calls Python in the middle of compiled code ({called[0]}): what that does is no part of the "
                "program by which a run is known again; compute it with jax.numpy, or before, in `data`"
            )
        return made
    except _NOT_CONCRETE as problem:
        culprits = _culprits(function, config, arguments, traced)
        if not culprits and isinstance(problem, jax.errors.TracerArrayConversionError):
            raise StudyError(
                f"{name} uses NumPy, or a library that does, on an array that is traced{_line_of(problem)}: use "
                f"jax.numpy there ({_first_line(problem)})"
            ) from problem
        if not culprits:
            raise StudyError(
                f"{name} needs a number while it is traced, and it is not a hyperparameter's: use jnp.where or "
                f"jax.lax.cond there ({_first_line(problem)})"
            ) from problem
        fields, first = " and ".join(map(repr, culprits)), culprits[0]
        raise StudyError(
            f"{name} uses the dynamic field {fields} where Python needs its value (an `if`, a shape or a range): "
            f"mark it static, `{first}: {_kind(config, first)} = jx.static({_default(config, first)!r})`, "
            "or use jnp.where"
        ) from problem
    except JaxexpError:
        raise
    except Exception as problem:  # the experiment's own code may raise anything
        raise StudyError(f"{name} cannot be traced: {told(problem, config)}") from problem


def told(problem: Exception, config: Any) -> str:
    """Returns what the experiment's own code raised, where, and with which static fields."""
    static = [f"{f.name}={getattr(config, f.name)!r}" for f in configs.fields(config).values() if not f.dynamic]
    where = f" (with {', '.join(static)})" if static else ""
    return f"{type(problem).__name__}: {_first_line(problem)}{_line_of(problem)}{where}"


def _line_of(problem: Exception) -> str:
    """Where in the experiment's own code an error comes from: the last line that is not of a package or of here."""
    packages, python = jax.__file__.removesuffix("jax/__init__.py"), traceback.__file__.removesuffix("traceback.py")
    libraries = (packages, python, __file__.removesuffix("signature.py"))
    for raised in (problem, problem.__cause__):  # JAX gives the line that was traced as the cause
        frames = traceback.extract_tb(raised.__traceback__) if raised else []
        own = [frame for frame in frames if not frame.filename.startswith(libraries)]
        if own:
            return f", line {own[-1].lineno} of {own[-1].filename}"
    return ""


def _culprits(function: Callable[..., Any], config: Any, arguments: Sequence[Any], traced: Any) -> list[str]:
    """The fewest leading dynamic fields that make the function traceable when their values are known."""
    names = [field.name for field in configs.fields(config).values() if field.dynamic]
    for chosen in [[name] for name in names] + [names[: count + 1] for count in range(1, len(names))]:
        known = {name: getattr(config, name) for name in chosen}
        rest = {name: getattr(traced, name) for name in names if name not in chosen}

        def partly(rest: Any, *args: Any, known: Any = known) -> Any:
            return function(*args, dataclasses.replace(config, **known, **rest))

        try:
            jax.eval_shape(partly, rest, *arguments)
        except Exception:  # whatever it is, these fields alone do not cure it
            continue
        return chosen
    return []


def _kind(config: Any, name: str) -> str:
    return configs.fields(config)[name].type.__name__


def _default(config: Any, name: str) -> Any:
    """The field's declared default, or else its value here."""
    declared = next(field.default for field in dataclasses.fields(config) if field.name == name)
    return getattr(config, name) if declared is dataclasses.MISSING else declared


def _first_line(problem: BaseException) -> str:
    return str(problem).strip().split("\n")[0][:200]


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise StudyError("step must return (state, metrics): end it with `return state, {'loss': loss}`")
    return result


def _check_same_state(before: Any, after: Any) -> None:
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise StudyError(
            "step returns a state of another structure than init: "
            f"{jax.tree.structure(after)} where init gives {jax.tree.structure(before)}"
        )
    pairs = zip(trees.leaf_names(before), jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    for name, old, new in pairs:
        if old.shape != new.shape or old.dtype != new.dtype:
            raise StudyError(
                f"step changes {name or 'the state'} from {old.dtype}{list(old.shape)} (init's) to "
                f"{new.dtype}{list(new.shape)}: keep shape and dtype, e.g. with `.astype(...)`"
            )


def _metric_names(function: str, metrics: Any, taken: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(metrics, dict):
        raise StudyError(f"{function} must report its metrics as a dict of scalars, not as {type(metrics).__name__}")
    for name, value in metrics.items():
        if not isinstance(name, str) or not name or name in taken:
            raise StudyError(f"{function}'s metric {name!r} needs another name: {', '.join(taken)} are taken")
        if not name.isprintable() or "::" in name:
            raise StudyError(f"{function}'s metric {name!r} needs a name of printable characters and without '::'")
        if isinstance(value, (dict, list, tuple)):
            raise StudyError(f"{function}'s metric {name!r} is a {type(value).__name__}: metrics are a dict of scalars")
        if not hasattr(value, "shape") or value.shape != ():
            shape = list(getattr(value, "shape", ()))
            raise StudyError(f"{function}'s metric {name!r} has shape {shape}, not that of a scalar: use jnp.mean(...)")
        if trees.is_key(value) or not np.isrealobj(np.zeros((), value.dtype)):
            raise StudyError(f"{function}'s metric {name!r} is {value.dtype}, not a real number: leave it out")
    return tuple(metrics)


def _inner(equation: Any) -> list[Any]:
    """The programs inside an operation: of a jit, a scan, the branches of a cond."""
    found = []
    for value in equation.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                found.append(part)
    return found


def _primitives(jaxpr: Any) -> set[str]:
    """The names of all operations of a program."""
    inner = [_primitives(part) for equation in jaxpr.eqns for part in _inner(equation)]
    return {equation.primitive.name for equation in jaxpr.eqns}.union(*inner)


def _largest(jaxpr: Any) -> int:
    """Bytes of the largest array that a program makes."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [trees.num_bytes(out.aval) for out in equation.outvars if hasattr(out.aval, "shape")]
        sizes += [_largest(part) for part in _inner(equation)]
    return max(sizes)


def _flops(jaxpr: Any) -> float:
    """Floating-point operations: matrix products and convolutions exactly, one for each element of the rest."""
    total = 0.0
    for equation in jaxpr.eqns:
        inner = sum(_flops(part) for part in _inner(equation))
        total += inner * equation.params.get("length", 1)
        out = sum(float(np.prod(v.aval.shape)) for v in equation.outvars if hasattr(v.aval, "shape"))
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            out *= 2 * float(np.prod([equation.invars[0].aval.shape[axis] for axis in contracted]))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out *= 2 * float(np.prod(kernel)) / kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        total += out
    return total


def _owners(init: Any, step: Any, state: Any, data: Any, config: Any) -> tuple[int, ...]:
    """The owner of each leaf of the state: what it depends on after init and any number of steps."""
    num_state, num_data = len(jax.tree.leaves(state)), len(jax.tree.leaves(data))
    num_config = len(jax.tree.leaves(config))
    rest = [SHARED] * num_data + [RUN] * num_config
    owners = _dependence(init, [SEED, *rest])
    while True:
        after = _dependence(step, [SEED, *owners, *rest])[:num_state]
        both = [max(pair) for pair in zip(owners, after, strict=True)]
        if both == owners:
            return tuple(owners)
        owners = both


def _dependence(jaxpr: Any, inputs: Sequence[int]) -> list[int]:
    """What each output of a program depends on, given what its inputs do: the most of any of its inputs."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(variable: Any) -> int:
        return known.get(variable, SHARED) if not hasattr(variable, "val") else SHARED

    for equation in jaxpr.eqns:
        read = [of(variable) for variable in equation.invars]
        if equation.primitive.name in ("pjit", "jit"):
            written = _dependence(equation.params["jaxpr"].jaxpr, read)
        else:
            written = [max(read, default=SHARED)] * len(equation.outvars)
        known.update(zip(equation.outvars, written, strict=True))
    return [of(variable) for variable in jaxpr.outvars]
