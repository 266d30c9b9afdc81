"""The whole check of a backend: what it reports, how it goes on, what it leaves behind."""

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from threading import Event
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from fastmlp.backends import Backend, open_backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.ops import overridden
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps
from fastmlp.testing import (
    CASES,
    Report,
    Result,
    assert_signature,
    check_backend,
    epochs,
    hazards,
    image_checks,
    op_checks,
    running,
    suite,
    whole_runs,
)
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.check import Check

BackendWith = Callable[..., Backend]

array_code = NetworkOps(NumpyBackend.xp)
SIZES = (24, 16, 10)


def add_bias_subtracts(z: Array, bias: Array, out: Array) -> None:
    array_code.add_bias(z, -bias, out)


def test_a_kernel_must_have_the_arguments_of_its_array_code() -> None:
    def swapped(bias: Array, z: Array, out: Array) -> None: ...

    def renamed(z: Array, biases: Array, out: Array) -> None: ...

    for kernel in (swapped, renamed):
        with pytest.raises(AssertionError, match=r"kernel add_bias has the arguments .*, but its array code"):
            assert_signature(CASES["add_bias"], kernel)


class Dispatcher:
    """As Numba's: it takes anything, and keeps the Python function."""

    def __init__(self, py_func: Kernel) -> None:
        self.py_func = py_func

    def __call__(self, *arguments: Any) -> None:
        self.py_func(*arguments)


def test_a_dispatchers_own_function_gives_the_arguments() -> None:
    assert_signature(CASES["add_bias"], Dispatcher(add_bias_subtracts))
    with pytest.raises(AssertionError):
        assert_signature(CASES["add_bias"], Dispatcher(array_code.softmax_xent))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of few cases, for tests of the report: of every op that NumPy has of its own, and two more."""
    numpy = NumpyBackend()
    own = (*overridden(numpy.network_ops, NetworkOps), *overridden(numpy.patch_ops, PatchOps))
    few = {*own, "add_bias", "hflip"}
    cases = {name: case for name, case in CASES.items() if case.op in few and not case.hazard}
    monkeypatch.setattr(op_checks, "CASES", cases)
    monkeypatch.setattr(image_checks, "AUGMENT_CASES", AUGMENT_CASES[-1:])
    for module in (epochs, hazards, whole_runs):
        monkeypatch.setattr(module, "CASES", module.CASES[-1:])


def test_a_sound_backend_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    seen: list[Result] = []
    report = check_backend("numpy", on_result=seen.append)
    report.raise_for_failures()
    assert report.ok
    assert report.exit_status == 0
    assert seen == report.results
    assert str(report) == f"numpy: {len(seen)} passed, 0 failed, 0 skipped (seed 0)"


def test_a_broken_backend_fails_by_name(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    report = check_backend(backend_with(add_bias=add_bias_subtracts, blur=lambda images, out: None))
    failed = {result.name for result in report.having("failed")}
    assert {"kernel blur has a case", "add_bias, kernel, float32", "add_bias, kernel, float64"} <= failed
    assert not any("array code" in name or "tier 1" in name for name in failed)
    assert not report.ok
    assert report.exit_status == 1
    with pytest.raises(AssertionError, match=r"no case in fastmlp.testing.cases covers the kernel 'blur'"):
        report.raise_for_failures()


def test_a_backend_that_raises_fails_and_the_check_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(NumpyBackend):
        name = "dead"

        def to_numpy(self, array: Array) -> Array:
            raise RuntimeError("the device is gone")

    quick(monkeypatch)
    report = check_backend(Dead())
    assert len(report.having("failed")) > 5
    assert any("the device is gone" in result.message for result in report.having("failed"))


def test_a_dtype_that_the_device_lacks_is_skipped_and_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Single(NumpyBackend):
        name = "single"

        def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
            if dtype == "float64":
                raise TypeError("no float64 on this device")
            return super().empty(shape, dtype)

    quick(monkeypatch)
    report = check_backend(Single())
    assert report.ok
    assert {result.name for result in report.having("skipped")} >= {"add_bias, array code, float64"}
    assert all("no float64 on this device" in result.message for result in report.having("skipped"))
    assert f"{len(report.having('skipped'))} skipped" in str(report)


def test_nothing_checked_is_a_failure() -> None:
    report = Report("none", 0, [Result("all", "skipped", "not today")])
    assert not report.ok
    assert report.exit_status == 1
    with pytest.raises(AssertionError, match="none: 0 passed, 0 failed, 1 skipped"):
        report.raise_for_failures()


# A part of it, and what a failure says.


def test_only_a_part_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    every, part = check_backend("numpy"), check_backend("numpy", only="gather, ")
    assert [result.name for result in part.results] == [one.name for one in every.results if "gather, " in one.name]
    first = check_backend("numpy", quick=True)
    assert {result.name for result in first.results} < {result.name for result in every.results}


def test_a_part_that_no_check_has_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with pytest.raises(UsageError, match=r"No check of numpy has 'matmull' in its name, did you mean matmul: leave"):
        check_backend("numpy", only="matmull")


def test_a_failed_check_says_how_to_run_it_alone(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    planted = backend_with(add_bias=add_bias_subtracts)
    (failed,) = check_backend(planted, only="add_bias, kernel, float32", seed=5).having("failed")
    assert failed.rerun == 'check_backend(Planted(), only="add_bias, kernel, float32", seed=5)'
    assert failed.rerun in str(failed)
    monkeypatch.setattr(type(planted), "name", "numpy")  # a registered one
    (failed,) = check_backend(planted, only="add_bias, kernel, float32", quick=True).having("failed")
    assert failed.rerun == 'fastmlp backends --check numpy --only "add_bias, kernel, float32" --seed 0 --quick'


def test_the_header_names_backend_seed_versions_and_threads() -> None:
    started: list[str] = []
    report = check_backend("numpy", only="hflip", seed=7, on_start=lambda report: started.append(report.header))
    assert started == [report.header]
    assert report.header.startswith(f"numpy, seed 7; numpy {np.__version__}, fastmlp ")
    assert report.header.endswith(f"threads {open_backend('numpy').threads}")
    assert all(result.seconds > 0 for result in report.results)


# What kernels may not do to the process.


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """check_backend on NumPy with these checks only."""

    def of(*runs: Callable[[], Any], backend: str | Backend = "numpy") -> Report:
        own = [Check(f"check {number}", run) for number, run in enumerate(runs)]
        monkeypatch.setattr(suite, "checks", lambda backend, seed, *, quick: own)
        return check_backend(backend)

    return of


def test_a_check_that_never_returns_ends_the_check(one_check: Callable[..., Report], monkeypatch: Any) -> None:
    monkeypatch.setattr(running, "TIME_LIMIT", 0.2)
    forever = Event()
    report = one_check(lambda: None, forever.wait, lambda: None)
    forever.set()
    assert [result.status for result in report.results] == ["passed", "failed"]
    assert report.results[1].message == "did not return within 0.2 s; nothing after it was checked"
    assert not report.ok


NEVER_RETURNS = """
import threading
from fastmlp.testing import check_backend, running, suite
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.check import Check
running.TIME_LIMIT = 0.2
suite.checks = lambda backend, seed, *, quick: [Check("forever", threading.Event().wait)]
print(check_backend("numpy"))
"""


def test_the_process_ends_though_a_check_never_does() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NEVER_RETURNS], check=True, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "numpy: 0 passed, 1 failed, 0 skipped (seed 0)\n"


def test_global_state_of_numpy_is_held_and_set_back(one_check: Callable[..., Report]) -> None:
    state, errors = str(np.random.get_state()), np.geterr()
    report = one_check(np.random.rand, lambda: np.seterr(all="ignore"), lambda: None)
    assert [result.status for result in report.results] == ["failed", "failed", "passed"]
    assert "changed NumPy's global random state" in report.results[0].message
    assert "set NumPy's error handling" in report.results[1].message
    assert str(np.random.get_state()) == state
    assert np.geterr() == errors


def test_threads_and_warnings_are_set_back(one_check: Callable[..., Report]) -> None:
    backend, before = open_backend("numpy"), (threadpool_info(), list(warnings.filters))
    threads = backend.threads

    def changes() -> None:
        warnings.simplefilter("ignore")
        backend.set_threads(threads + 1)

    assert one_check(changes, backend=backend).ok
    assert backend.threads == threads
    assert (threadpool_info(), warnings.filters) == before


def test_checks_run_by_the_callers_error_handling(one_check: Callable[..., Report]) -> None:
    with np.errstate(over="raise"):
        report = one_check(lambda: np.float32(1e38) * np.float32(1e38))
    assert "FloatingPointError" in report.results[0].message


# A failure of each part says all that a debugger needs.

VALUES = r"(worst|first) at \(.*\): got \S+, expected \S+|off by .* at \(.*\): got"
PARTS: dict[str, tuple[str, str, str]] = {
    "op": (
        "add_bias",
        "add_bias, kernel, float32",
        r"planted kernel add_bias \(plain, contiguous, float32, shape \(.*\), ",
    ),
    "epoch": ("add_bias", "sgd decay 0.3 epoch, 33-5-2", r"planted \(33-5-2 .* by sgd decay 0.3, .*float\d\d, "),
    "run": ("add_bias", "sgd run, 24-10", r"planted run \(24-10 .* by sgd, .*float\d\d, "),
    "image": ("hflip", "hflip, kernel, uint8", r"planted kernel hflip \(plain, contiguous, uint8, shape \(.*\), "),
}


def hflip_darkens(images: Array, rows: Array, flip: Array, out: Array) -> None:
    out[rows] = np.where(flip[:, None, None, None], images[rows][..., ::-1], images[rows]) & 0xF0


def add_bias_halves(z: Array, bias: Array, out: Array) -> None:
    np.add(z, bias / 2, out=out)


@pytest.mark.parametrize("part", PARTS)
def test_a_failure_says_all_that_a_debugger_needs(backend_with: BackendWith, part: str) -> None:
    op, only, opening = PARTS[part]
    planted = backend_with(**{op: {"hflip": hflip_darkens, "add_bias": add_bias_halves}[op]})
    failed = check_backend(planted, only=only, seed=4).having("failed")
    assert failed
    for result in failed:
        assert re.search(opening + ".*seed 4", result.message), result.message
        assert re.search(VALUES, result.message), result.message
        if op != "hflip":
            assert "is over the tolerance" in result.message
