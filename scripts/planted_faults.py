"""How often `jaxexp reproduce` would find planted faults on another machine: the tables of docs/reproduce.md.

`python scripts/planted_faults.py [NAME ...]` trains each study at its default size (up to 32 seeds) as it is, and with
a fault that keeps every label: learning rate x 1.1, a wrong loss, inputs x 1.05, other random numbers. Then it judges
both as if trained on two machines, by n seeds that are drawn from all, 200 times: the share of draws whose verdict is
*different* is the power of a reproduction with n seeds. On the machine of the record itself any other bit is different.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    *("velocity_init", "mse_and_likelihood", "generalized_dice", "accuracy_surrogates"),
    *("lstm_recurrence", "softmax_spiral"),
)
MOST_SEEDS, DRAWS, NUM_SEEDS = 32, 200, (8, 16, 32)


def _instead(field: str, changes: dict[str, str]) -> Callable[[Any], Any]:
    """Trains some values of a static field as if they were others."""

    def change(config: Any) -> Any:
        value = getattr(config, field)
        return dataclasses.replace(config, **{field: changes.get(value, value)})

    return change


def _times(field: str, factor: float) -> Callable[[Any], Any]:
    return lambda config: dataclasses.replace(config, **{field: getattr(config, field) * factor})


WRONG_LOSS = {
    "mse_and_likelihood": _instead("loss", {"mse_of_probabilities": "mse_of_outputs"}),
    "generalized_dice": _instead("loss", {"answer": "soft_dice"}),
    "accuracy_surrogates": _instead("surrogate", {"ramp": "sigmoid_squared_error"}),
    "softmax_spiral": _times("l2", 3.0),
}


def faults(name: str, study: Any) -> Iterator[tuple[str, Any]]:
    """Yields what is wrong, and the study with it."""
    yield "learning rate x 1.1", _with_config(study, _times("learning_rate", 1.1))
    yield "wrong loss", _with_config(study, WRONG_LOSS[name]) if name in WRONG_LOSS else _with_root_of_loss(study)
    if study.data is not None:
        yield "inputs x 1.05", study.replace(data=lambda config: _louder(study.data(config)))
    yield "other random numbers", _with_keys(study)


def _with_config(study: Any, change: Callable[[Any], Any]) -> Any:
    """The study whose functions get another config than its trials say."""
    init, step, evaluate = study.experiment
    changed = study.experiment._replace(
        init=lambda key, data, config: init(key, data, change(config)),
        step=lambda key, state, data, config: step(key, state, data, change(config)),
        evaluate=evaluate and (lambda state, data, config: evaluate(state, data, change(config))),
    )
    return study.replace(experiment=changed)


def _with_root_of_loss(study: Any) -> Any:
    """The study whose steps minimize the root of its file's `loss`, where no static field chooses it."""
    import jax.numpy as jnp

    step = study.experiment.step
    loss = step.__globals__["loss"]

    def wrong(key: Any, state: Any, data: Any, config: Any) -> Any:
        step.__globals__["loss"] = lambda *args: jnp.sqrt(loss(*args) + 1e-12)  # without a slope of infinity at 0
        try:
            return step(key, state, data, config)
        finally:
            step.__globals__["loss"] = loss

    return study.replace(experiment=study.experiment._replace(step=wrong))


def _with_keys(study: Any) -> Any:
    """The study whose seeds are followed by other random numbers."""
    import jax

    init, step, _ = study.experiment
    changed = study.experiment._replace(
        init=lambda key, data, config: init(jax.random.fold_in(key, 1), data, config),
        step=lambda key, state, data, config: step(jax.random.fold_in(key, 1), state, data, config),
    )
    return study.replace(experiment=changed)


def _louder(data: Any) -> Any:
    """The data with their first array of real numbers made larger."""
    import jax

    leaves, structure = jax.tree.flatten(data)
    first = next(number for number, leaf in enumerate(leaves) if np.issubdtype(np.asarray(leaf).dtype, np.floating))
    leaves[first] = leaves[first] * np.float32(1.05)
    return jax.tree.unflatten(structure, leaves)


def measured(name: str) -> list[str]:
    """Returns the lines of a study: for each fault the share of draws in which it is found, by the number of seeds."""
    from jaxexp import catalog, plans, quantities, statistics, worker
    from jaxexp import study as studies

    study = catalog.load(str(ROOT / "experiments" / f"{name}.py")).study
    study = study.replace(seeds=tuple(map(int, studies.seeds(study)[:MOST_SEEDS])))
    tile = plans.plan(study, yes=True).tile
    before, lines, swept = worker.run(study, tile=tile, yes=True), [], list(studies.table(study).columns)
    for fault, wrong in faults(name, study):
        began = time.perf_counter()
        after = worker.run(wrong, tile=tile, yes=True)
        pairs = {label: (pair.before, pair.now) for label, pair in quantities.of_plan(before, after, swept) if pair}
        for claim in study.claims:
            old, new = (statistics.per_seed(claim, dataset) for dataset in (before, after))
            _, first, second = np.intersect1d(old["seed"], new["seed"], return_indices=True)
            pairs[claim.statement] = (old.values[first], new.values[second])
        shares = [_share(pairs, study.num_steps, n) for n in NUM_SEEDS]
        told = " | ".join("" if share is None else f"{share:.0%}" for share in shares)
        lines.append(f"| {name} | {fault} | {len(pairs)} | {told} |")
        print(f"{lines[-1]}  ({time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)
    return lines


def _share(pairs: dict[str, tuple[np.ndarray, np.ndarray]], num_steps: int, num_seeds: int) -> float | None:
    """How often a reproduction with so many seeds says *different*; None where there are fewer."""
    from jaxexp import reproduce

    there = max(len(old) for old, _ in pairs.values())
    if num_seeds > there:
        return None
    draw, found = np.random.default_rng(0), 0
    num_draws = DRAWS if num_seeds < there else 1
    for _ in range(num_draws):
        chosen = draw.permutation(there)[:num_seeds]
        some = {label: (old[chosen], new[chosen]) for label, (old, new) in pairs.items() if len(old) == there}
        found += any(judged.verdict == reproduce.DIFFERENT for judged in reproduce.compared(some, num_steps))
    return found / num_draws


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all where none is given")
    given = parser.parse_args()
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        rows = [line for lines in pool.map(measured, given.names or NAMES) for line in lines]
    print("| study | fault | quantities | " + " | ".join(f"{n} seeds" for n in NUM_SEEDS) + " |")
    print("|---|---|---|" + "---|" * len(NUM_SEEDS))
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
