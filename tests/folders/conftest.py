"""What tests of run folders share: a study of walks, whose programs are compiled once for all of them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import pytest
from walks import load

import jaxexp as jx
from jaxexp import engine

programs: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def compile_each_program_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def compiler(plan: Any, lowered: Any, needed: Any) -> Iterator[Any]:
        def program(index: int) -> engine.Compiled:
            made, group = lowered[index], plan.groups[index]
            name = f"{made.fingerprint} {made.shape}"
            if name not in programs:
                programs[name] = made.compile()
            return engine.ready(group, made, programs[name], jax.device_put(group.data))

        yield program

    monkeypatch.setattr(engine, "compiler", compiler)


@pytest.fixture
def study(tmp_path_factory: pytest.TempPathFactory) -> jx.Study:
    return load(tmp_path_factory.mktemp("experiments")).study
