"""Whether what is asked now is what a run folder was made with: hyperparameters, code, data, kind of machine."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxexp import store
from jaxexp.errors import MismatchError
from jaxexp.stored_plans import StoredPlan

_OF_BITS = ("versions", "device", "threads", "xla_flags", "compiler_options", "x64", "settings")
_OF_VERSIONS = ("jax", "jaxlib")


def bits_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns of an environment what the bits of a run can depend on, beside its program."""
    found = {name: environment.get(name) for name in _OF_BITS}
    found["settings"] = environment.get("settings") or {}  # records of before have none
    found["versions"] = {name: (environment.get("versions") or {}).get(name) for name in _OF_VERSIONS}
    found["device"] = {name: (environment.get("device") or {}).get(name) for name in ("platform", "kind")}
    return found


def lowers_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Returns whether the same code may be another program in another environment: elsewhere it is the same one."""
    old, new = bits_environment(before), bits_environment(now)
    same_platform = old["device"]["platform"] == new["device"]["platform"]
    return not same_platform or any(old[name] != new[name] for name in ("versions", "x64", "settings"))


def check_fields(folder: Path, fields: Mapping[str, str], known: Sequence[StoredPlan]) -> None:
    """Checks that an experiment has the hyperparameters that a folder knows, each static or dynamic as it was.

    Args:
        folder: The run folder.
        fields: The experiment's, by name, as a record says them.
        known: The plans.

    Raises:
        MismatchError: If one is new, gone or renamed: it could not be said which runs are the same; or if one is static
            that was dynamic, or the other way round: no program could be compared with the folder's.
    """
    for stored in known:
        changed = sorted((stored.trials.base.keys() | stored.trials.columns.keys()) ^ set(fields))
        if changed:
            raise MismatchError(
                f"{folder} was trained with other hyperparameters ({', '.join(changed)} came or went): use another "
                "--name, or --fresh to start over beside it"
            )
    before = store.record(folder).get("fields", {}) if store.exists(folder) else {}
    turned = [
        f"{name} is {kind} and was {before[name]}" for name, kind in fields.items() if before.get(name, kind) != kind
    ]
    if turned:
        raise MismatchError(
            f"{folder} was trained by another program ({', '.join(turned)}): use another --name, or --fresh to start "
            "over beside it"
        )


def check_same(
    folder: Path,
    now: Mapping[str, Any],
    programs: Mapping[str, Mapping[str, str]],
    allow_mixed: bool = False,
    hint: str = "use another --name, or --fresh to start over beside it",
) -> None:
    """Checks that a folder's results come from the code, the data and the kind of machine at hand.

    Args:
        folder: The run folder.
        now: The record that a new folder would get.
        programs: For each group at hand the digests of its program and data.
        allow_mixed: Whether results of another machine or JAX version may join; each chunk says where it was trained.
        hint: What to do where they differ.

    Raises:
        MismatchError: If code or data differ; the message says what changed.
    """
    before = store.record(folder) if store.exists(folder) else {**now, **_of_a_chunk(folder)}
    old, new = bits_environment(before), bits_environment(now)
    changed = [f"{name}: {old[name]} -> {new[name]}" for name in _OF_BITS if old[name] != new[name]]
    lines = "\n".join(changed)
    stored_plans = store.plans(folder)
    ours = {(digests["program"], digests["data"]) for digests in programs.values()}
    for name, environment in () if stored_plans else store.environments(folder):  # what was asked for is lost
        if (environment.get("program"), environment.get("data")) not in ours:
            raise MismatchError(f"{folder} was trained by another program or on other data (chunk {name}): {hint}")
    for stored in stored_plans:
        for group in sorted(programs.keys() & stored.programs.keys()):
            there, here = stored.programs[group], programs[group]
            if there["data"] != here["data"]:
                raise MismatchError(f"{folder} was trained on other data (group {group}): {hint}")
            excused = allow_mixed and lowers_otherwise(before, now) and _same_code(before, now)
            if there["program"] != here["program"] and not excused:
                difference = _difference(before, now)
                raise MismatchError(f"{folder} was trained by another program (group {group}): {hint}\n{difference}")
    if changed and not allow_mixed:
        raise MismatchError(
            f"{folder} was trained where other bits come out: {hint}"
            + (f", or set NPROC={old['threads']}" if old["threads"] != new["threads"] else "")
            + f"; or go on with --allow-mixed, and each chunk says where it was trained\n{lines}"
        )


def _of_a_chunk(folder: Path) -> dict[str, Any]:
    """The environment of one of a folder's chunks, whose record is lost."""
    return next((found for _, found in store.environments(folder)), {})


def _same_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return bool(before.get("source")) and not changed_texts(before, now)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two records: versions, settings, and the lines of the experiment file and its modules."""
    changed = [
        f"{name}: {before.get(name)} -> {now.get(name)}"
        for name in _OF_BITS
        if (before.get(name) or None) != (now.get(name) or None)
    ]
    texts = [{"": record.get("source") or "", **(record.get("modules") or {})} for record in (before, now)]
    for name in changed_texts(before, now):
        old, new = (text.get(name, "").splitlines() for text in texts)
        changed += difflib.unified_diff(old, new, f"recorded {name}".strip(), f"now {name}".strip(), lineterm="", n=1)
    return "\n".join(changed) or (
        "the experiment file is the same: something that it reads, or imports from elsewhere, has changed"
    )


def changed_texts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the names of what two records know other texts of; that of the experiment file is empty.

    Modules that only one of them knows are left out: records of before know none, and who looks may have loaded more.
    """
    there, here = ({"": record.get("source") or "", **(record.get("modules") or {})} for record in (before, now))
    return [name for name in there if name in here and there[name] != here[name]]
