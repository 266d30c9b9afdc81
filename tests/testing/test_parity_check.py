"""Our own backends pass the public check, `fastmlp.testing.check_backend`: a test for each of its checks."""

from collections.abc import Iterator
from typing import Any

import pytest

from fastmlp.testing.check import Check
from fastmlp.testing.running import Runner
from fastmlp.testing.suite import checks
from tests.opened import BACKENDS, opened


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        each = of_every_backend(metafunc.config.getoption("--seed"))
        metafunc.parametrize(("runner", "check"), list(each), indirect=["runner"], scope="module")


def of_every_backend(seed: int) -> Iterator[Any]:
    """The name of a backend, and a check of it; a test that is skipped for one that cannot run here."""
    for name in BACKENDS:
        backend = opened(name)
        if isinstance(backend, str):
            yield pytest.param(name, None, id=name, marks=pytest.mark.skip(reason=backend))
            continue
        for check in checks(backend, seed):
            yield pytest.param(name, check, id=f"{name}, {check.name}")


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest, seed: int) -> Iterator[Runner]:
    backend = opened(request.param)
    assert not isinstance(backend, str)
    with Runner(backend, seed) as runner:
        yield runner


def test_check(runner: Runner, check: Check) -> None:
    assert not runner.is_stuck, "an earlier check did not return"
    result = runner.result_of(check)
    if result.status == "skipped":
        pytest.skip(result.message)
    assert result.passed, str(result)


def test_every_check_has_a_name_of_its_own(seed: int) -> None:
    """By which it is run alone, and which says what it checks."""
    for backend in map(opened, BACKENDS):
        if not isinstance(backend, str):
            names = [check.name for check in checks(backend, seed)]
            assert len(set(names)) == len(names)
            first_look = [check.name for check in checks(backend, seed, quick=True)]
            assert set(first_look) < set(names)
