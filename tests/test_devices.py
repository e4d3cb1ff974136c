"""Processors that compute other bits have other names, and those that were measured have wide vectors."""

import pytest

from jaxexp import devices

ZEN4 = {
    "vendor_id": "AuthenticAMD",
    "cpu family": "25",
    "model": "17",
    "model name": "AMD EPYC",
    "flags": "avx2 avx512f",
}
ZEN3 = ZEN4 | {"model": "1", "flags": "avx"}
ZEN5 = ZEN4 | {"cpu family": "26", "model": "2"}
XEON = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "167", "flags": "avx512f amx_tile"}
CLOUD, DESKTOP = (XEON | {"model name": name} for name in ("Intel(R) Xeon(R) Processor", "Intel(R) Xeon(R) E-2388G"))
WIDE = {"xla_cpu_prefer_vector_width": 512}


@pytest.fixture
def on(monkeypatch):
    """Makes this machine's processor another."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return lambda known: monkeypatch.setattr(devices, "processor", lambda: known)


def test_processors_of_one_name_have_names_of_their_own(on):
    names = []
    for known in (ZEN3, ZEN4, ZEN5):
        on(known)
        names.append(devices.environment()["device"]["kind"])
    assert names == [f"AMD EPYC, family {numbers}" for numbers in ("25, model 1", "25, model 17", "26, model 2")]


def test_a_processor_that_says_nothing_has_the_name_of_its_kind(on, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    on({})
    assert devices.processor_name() == "riscv64"


@pytest.mark.parametrize(
    ("known", "options"),
    [
        *((ZEN4, WIDE), (ZEN5, WIDE), (ZEN3, {}), (ZEN4 | {"model": "97"}, {}), (ZEN5 | {"flags": "avx"}, {})),
        *((CLOUD, WIDE), (DESKTOP, {}), ({}, {})),
    ],
)
def test_only_processors_that_were_measured_get_wide_vectors(on, known, options):
    on(known)
    assert devices.compiler_options() == options


def test_a_width_in_xla_flags_is_left_alone(on, monkeypatch):
    on(ZEN5)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert devices.compiler_options() == {}


def test_git_is_asked_without_a_lock_on_the_repository(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(devices.subprocess, "run", lambda command, **options: asked.append(command) or failed)
    failed = devices.subprocess.CompletedProcess((), 1, "", "")
    assert devices.git_state(tmp_path) == {"commit": None, "dirty": None}
    assert {tuple(command[:2]) for command in asked} == {("git", "--no-optional-locks")}
