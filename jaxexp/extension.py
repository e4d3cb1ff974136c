"""More steps: where the runs of a longer plan go on from, the final states that its folder keeps of shorter ones.

Going on gives the bits of training from the start: no bit of a run depends on its neighbours or on how its steps are
cut, and the number of steps is no part of the program.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxexp import engine, store
from jaxexp.engine import Begun
from jaxexp.plans import Plan
from jaxexp.program import NEVER, Progress
from jaxexp.results import OK, Result, positions
from jaxexp.signature import RUN, SHARED
from jaxexp.stored_plans import StoredPlan
from jaxexp.trials import aligned


@dataclasses.dataclass
class _Source:
    """What shorter plans know of a group's runs: results that fit, and where each run of the plan stands in them.

    Attributes:
        numbers: Rows of the arrays below, int64 [num_trials, num_seeds]; -1 where a run begins at the start.
        step: How many steps a run has done, int64 [n].
        first_bad: The step at which it stopped being finite, int32 [n].
        state: The state's leaves, [n, ...].
        records: For each run its metrics by name, as far as the plan wants them.
    """

    numbers: np.ndarray
    step: np.ndarray
    first_bad: np.ndarray
    state: list[np.ndarray]
    records: list[dict[str, np.ndarray]]


class Shorter:
    """The shorter plans of a folder; a group's results are read when it is first asked for.

    Attributes:
        environment: What bits depend on here and now, as chunks record it, but for the program.
    """

    def __init__(self, plan: Plan, folder: Path | None, environment: Mapping[str, Any]):
        """Looks for plans of fewer steps.

        Args:
            plan: The longer plan.
            folder: The run folder; nothing is found where None.
            environment: As the attribute.
        """
        self._plan, self._folder, self.environment = plan, folder, dict(environment)
        shorter = [stored for stored in store.plans(folder) if stored.steps[0] < plan.study.num_steps] if folder else []
        self._known = sorted(shorter, key=lambda stored: -stored.steps[0])
        self._sources: dict[int, _Source | None] = {}

    def begun(self, group: int, fingerprint: str, tiles: Sequence[tuple[np.ndarray, np.ndarray]]) -> Begun | None:
        """Returns where the first of some tiles go on.

        Args:
            group: The tiles' group.
            fingerprint: The program's, which states must come from.
            tiles: For each its trials and seeds. As many as have done equally many steps go on together.

        Returns:
            None where the first tile begins at the start.
        """
        if group not in self._sources:
            self._sources[group] = self._read(group, fingerprint) if self._known else None
        source = self._sources[group]
        if source is None:
            return None
        going, step = [], 0
        for trials, seeds in tiles:
            rows = positions(self._plan.seeds, engine.filled(seeds, self._plan.tile.seeds))
            numbers = source.numbers[engine.filled(trials, self._plan.tile.trials)][:, rows].T  # [S, T]
            done = np.unique(np.where(numbers < 0, 0, source.step[numbers]))
            if len(done) > 1 or not done[0] or (going and done[0] != step):
                break
            going.append(numbers)
            step = int(done[0])
        if not going:
            return None
        owners = self._plan.groups[group].signature.owners
        leaves = [
            np.stack([leaf[_of_owner(numbers, owner)] for numbers in going])
            for leaf, owner in zip(source.state, owners, strict=True)
        ]
        names = source.records[going[0][0, 0]]
        records = {name: np.stack([_slots(source.records, numbers, name) for numbers in going]) for name in names}
        return Begun(step, Progress(leaves, np.stack([source.first_bad[numbers] for numbers in going])), records)

    def _read(self, group: int, fingerprint: str) -> _Source | None:
        plan = self._plan
        numbers = np.full((len(plan.trials), len(plan.seeds)), -1)
        parts: list[tuple[Result, int]] = []
        records: list[dict[str, np.ndarray]] = []
        for stored in self._known:
            start = stored.steps[0]
            wanted = engine.logged_steps(plan.study, 0, start), engine.eval_steps(plan.study, 0, start)
            for result in self._results(stored, group, fingerprint):
                if not (np.isin(wanted[0], result.step).all() and np.isin(wanted[1], result.eval_step).all()):
                    break
                if not np.array_equal(result.eval_step, wanted[1]):
                    # An evaluation that the longer plan never makes may be where a run was found not to be finite.
                    result = result.at(result.status == OK)
                where = numbers[result.trial, positions(plan.seeds, result.seed)]
                numbers[result.trial, positions(plan.seeds, result.seed)] = np.where(
                    where < 0, len(records) + np.arange(len(where)), where
                )
                logged, evaluated = (
                    np.searchsorted(result.step, wanted[0]),
                    np.searchsorted(result.eval_step, wanted[1]),
                )
                for run in range(len(result.seed)):
                    of_run = {name: values[run, logged] for name, values in result.logged.items()}
                    records.append(of_run | {name: values[run, evaluated] for name, values in result.evaluated.items()})
                parts.append((result, start))
        if not records:
            return None
        bad = [np.where(result.status == OK, NEVER, result.status_step) for result, _ in parts]
        return _Source(
            numbers,
            np.concatenate([np.full(len(result.seed), start) for result, start in parts]),
            np.concatenate(bad).astype(np.int32),
            [np.concatenate(leaves) for leaves in zip(*(result.state for result, _ in parts), strict=True)],
            records,
        )

    def _results(self, stored: StoredPlan, group: int, fingerprint: str) -> Iterator[Result]:
        """Results of a stored plan with final states, of the plan's runs in a group, by the program at hand."""
        if self._folder is None:
            return
        rows = aligned(stored.trials, self._plan.trials)
        members = self._plan.groups[group].trials
        for batch in sorted(store.committed(self._folder, stored.digest)):
            result, environment = store.read_chunk_and_environment(self._folder, stored.digest, batch)
            wanted = np.isin(rows[result.trial], members) & np.isin(result.seed, self._plan.seeds)
            of_here = {**self.environment, "program": fingerprint}  # that data are equal, the folder has checked
            same = {name: value for name, value in environment.items() if name != "data"} == of_here
            if wanted.any() and result.state and same:
                yield result._replace(trial=rows[result.trial]).at(wanted)


def _of_owner(numbers: np.ndarray, owner: int) -> Any:
    """The runs [S, T] of a tile that a leaf is taken from: all, one a seed, or one."""
    return numbers if owner == RUN else numbers[0, 0] if owner == SHARED else numbers[:, 0]


def _slots(records: list[dict[str, np.ndarray]], numbers: np.ndarray, name: str) -> np.ndarray:
    """A metric of the runs [S, T] of a tile as [slots, S, T]."""
    return np.moveaxis(np.asarray([[records[run][name] for run in row] for row in numbers]), -1, 0)
