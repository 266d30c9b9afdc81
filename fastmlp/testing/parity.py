"""One op of one backend against its reference in float64."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from fastmlp.backends.base import Backend, Kernel
from fastmlp.common.errors import FastMLPError
from fastmlp.testing.compare import HostArray, assert_close, assert_equal, assert_rounded, assert_same_kind, error
from fastmlp.testing.in_order import NumpyInOrder
from fastmlp.testing.layouts import WITH_GAPS, Placed, full, layout_of, lies
from fastmlp.testing.op_case import Inputs, OpCase, Trial
from fastmlp.testing.tolerances import OP_FLOOR, limit

# What outputs are full of, and what lies around all arrays: NaN shows in sums; numbers far above and below all results
# show where a maximum or a minimum is taken with them.
POISON: Mapping[str, tuple[float, ...]] = {"f": (np.nan,), "u": (170,), "i": (-7_777_777,)}
FAR: Mapping[str, tuple[float, ...]] = {**POISON, "f": (1e30, -1e30), "i": (7_777_777,)}
AROUND_INPUTS: Mapping[str, tuple[float, ...]] = {**POISON, "i": (0,), "b": (False,)}  # no index to run away with
REFUSALS = (TypeError, ValueError, FastMLPError)


def assert_parity(
    case: OpCase, backend: Backend, *, kernels: bool = True, dtype: str | None = None, seed: int = 0
) -> None:
    """Run every shape of the case, with every draw, in every layout on the backend and compare with float64 truth.

    kernels=True runs the backend's kernel where it has one, False the array code on the backend's arrays; dtype is one
    of `case.dtypes`, None for all of them. Raises AssertionError, naming the case, draw, layout, dtype, shape, seed,
    the worst index, both values and the tolerance, unless
    - outputs have their dtype and shape, and error e <= 1e-5 in float32 and at most twice NumPy's own (1e-12 in
      float64), NaN and infinities where they belong; integers are equal, and bytes the exact level rounded
      (`compare.assert_rounded`);
    - every element of every output is written, and none outside;
    - inputs, which are read-only where the backend has that, are unchanged.
    A kernel may refuse arrays that are not contiguous with a TypeError, ValueError or FastMLPError, transposed views
    of `case.transposed` excepted; it may never compute something else from them.
    """
    for one in case.dtypes if dtype is None else (dtype,):
        for trial in case.trials(one, seed):
            assert_trial(trial, backend, kernels=kernels)


def assert_trial(trial: Trial, backend: Backend, *, kernels: bool = True) -> None:
    """One trial of `assert_parity`; misaligned arrays, and gaps that a kernel refuses, are then tried one by one."""
    kernel = trial.case.kernel(backend) if kernels else None
    taken = _assert_one(trial, backend, kernel)
    alone = {"misaligned": ("misaligned",), "mixed": () if taken else WITH_GAPS}.get(trial.layout, ())
    for how in alone if kernel else ():
        for name in _arrays(trial):
            _assert_one(replace(trial, layout=f"{how} {name}"), backend, kernel)


def _assert_one(trial: Trial, backend: Backend, kernel: Kernel | None) -> bool:
    """The op on new arrays; False if the kernel refuses them, as it may."""
    what = f"{backend} {'kernel' if kernel else 'array code'} {trial}"
    inputs, outputs = _place_inputs(trial, backend), _place_outputs(trial, backend)
    arguments = {name: placed.array if isinstance(placed, Placed) else placed for name, placed in inputs.items()}
    arguments |= {source: outputs[name].array for name, source in trial.aliases.items()}
    op = kernel or partial(trial.case.array_code, backend.xp)
    given = (*arguments.values(), *(output.array for output in outputs.values()))
    if not takes(what, backend, op, given, may_refuse=kernel is not None and _may_refuse(trial)):
        return False
    _assert_unchanged(what, trial, inputs)
    _assert_outputs(what, trial, outputs)
    return True


def takes(what: str, backend: Backend, kernel: Kernel, arguments: Sequence[Any], *, may_refuse: bool) -> bool:
    """Call the kernel and wait for it; False if it refuses its arguments, where it may."""
    try:
        with np.errstate(all="ignore"):
            kernel(*arguments)
        backend.synchronize()
    except Exception as failure:
        if may_refuse and isinstance(failure, REFUSALS):
            return False
        raise AssertionError(f"{what}: raised {type(failure).__name__}: {failure}") from failure
    return True


def _may_refuse(trial: Trial) -> bool:
    how, _, name = trial.layout.partition(" ")
    required = how == "transposed" and name in trial.case.transposed
    return how in ("mixed", *WITH_GAPS) and not required


def assert_signature(case: OpCase, kernel: Kernel) -> None:
    """The kernel has the array code's arguments, by name and in order, less the namespace."""
    function = getattr(kernel, "py_func", kernel)  # Numba's dispatchers keep the Python function there
    expected = list(inspect.signature(case.array_code).parameters)[1:]
    found = list(inspect.signature(function).parameters)
    if found != expected:
        raise AssertionError(f"kernel {case.op} has the arguments {found}, but its array code {expected}")


# What to expect.


@dataclass(frozen=True)
class Expectation:
    """Inputs on the host, every output in float64, and what NumPy makes of them in the trial's own dtype."""

    inputs: Inputs
    exact: Mapping[str, HostArray]
    by_numpy: Mapping[str, HostArray]


def expectation(trial: Trial) -> Expectation:
    """The same for all layouts, so kept for the next."""
    return _expectation(replace(trial, layout="contiguous"))


@lru_cache(maxsize=64)
def _expectation(trial: Trial) -> Expectation:
    inputs = trial.inputs()
    return Expectation(inputs, truth(trial), _run_on_numpy(trial.case, inputs))


def truth(trial: Trial) -> dict[str, HostArray]:
    """Every output in float64."""
    widened = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value
        for name, value in trial.inputs().items()
    }
    with np.errstate(all="ignore"):
        return dict(trial.case.truth(**widened))


def _run_on_numpy(case: OpCase, inputs: Inputs) -> dict[str, HostArray]:
    outputs = {
        name: full(prod(shape), _poison(POISON, dtype)).reshape(shape)
        for name, (shape, dtype) in case.outputs(inputs).items()
    }
    with np.errstate(all="ignore"):
        case.array_code(NumpyInOrder(), *inputs.values(), *outputs.values())
    return outputs


# Placing arrays on the device.


def _arrays(trial: Trial) -> list[str]:
    """The names of the op's arrays, inputs first."""
    inputs = expectation(trial).inputs
    return [*(name for name, value in inputs.items() if isinstance(value, np.ndarray)), *trial.case.outputs(inputs)]


def _place_inputs(trial: Trial, backend: Backend) -> dict[str, Any]:
    """The inputs on the backend's device: read-only if it has that, and laid out as the trial says."""
    how, placed = lies(trial.layout, _arrays(trial)), dict(expectation(trial).inputs)
    for name, value in placed.items():
        if isinstance(value, np.ndarray):
            layout, poison = layout_of(how[name], value.shape), _poison(AROUND_INPUTS, value.dtype.name)
            placed[name] = Placed(backend, value.shape, layout, poison, value, writable=False)
    return placed


def _place_outputs(trial: Trial, backend: Backend) -> dict[str, Placed]:
    """The outputs, full of poison, or of the input whose memory they share."""
    how, inputs, placed = lies(trial.layout, _arrays(trial)), expectation(trial).inputs, {}
    kinds = FAR if trial.layout.startswith("misaligned") else POISON
    for name, (shape, dtype) in trial.case.outputs(inputs).items():
        layout, shared = layout_of(how[name], shape), inputs.get(trial.aliases.get(name, ""))
        placed[name] = Placed(backend, shape, layout, _poison(kinds, dtype), shared, writable=True)
    return placed


def _poison(kinds: Mapping[str, tuple[float, ...]], dtype: str) -> HostArray:
    return np.array(kinds[np.dtype(dtype).kind], dtype)


# Judging what came out.


def _assert_unchanged(what: str, trial: Trial, inputs: Mapping[str, Any]) -> None:
    for name, placed in inputs.items():
        if isinstance(placed, Placed) and name not in trial.aliases.values():
            placed.assert_unchanged(
                f"{what}: changed its input {name}", f"{what}: written outside, around its input {name}"
            )


def _assert_outputs(what: str, trial: Trial, outputs: Mapping[str, Placed]) -> None:
    expected = expectation(trial)
    dtypes = trial.case.outputs(expected.inputs)
    for name, output in outputs.items():
        here, exact = f"{what}: {name}", expected.exact[name]
        got = output.read(f"{here}: written outside, around it")
        assert_same_kind(here, got, *dtypes[name])
        if got.dtype.name == "uint8":
            assert_rounded(here, got, exact, *POISON["u"])
        elif trial.case.exact or got.dtype.kind == "i":
            assert_equal(here, got, exact)
        else:
            _assert_floats(here, trial, got, exact, expected.by_numpy[name], trial.case.groups.get(name))


def _assert_floats(
    what: str, trial: Trial, got: HostArray, exact: HostArray, by_numpy: HostArray, groups: int | None
) -> None:
    """Floats within the op's tolerance, as a whole, or each group by itself: every index along that axis is one."""
    if groups is None or exact.size == 0:
        assert_close(what, got, exact, limit(trial.dtype, error(by_numpy, exact), OP_FLOOR))
        return
    for k in range(exact.shape[groups]):
        one, expected, numpys = (np.take(array, k, axis=groups) for array in (got, exact, by_numpy))
        tolerance = limit(trial.dtype, error(numpys, expected), OP_FLOOR)
        assert_close(f"{what}[{':, ' * groups}{k}]", one, expected, tolerance)
