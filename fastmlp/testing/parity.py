"""One op of one backend against the array code on NumPy in float64."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import array_api_compat.numpy
import numpy as np

from fastmlp.backends.base import Array, Backend, Kernel
from fastmlp.common.errors import FastMLPError
from fastmlp.testing.compare import HostArray, assert_close, assert_equal, assert_rounded, assert_same_kind, error
from fastmlp.testing.op_case import Inputs, OpCase, Shape, Trial
from fastmlp.testing.tolerances import OP_FLOOR, limit

GUARD = 8  # rows before and after every output
POISON = {"float32": np.nan, "float64": np.nan, "uint8": 170, "int64": -7_777_777}
REFUSALS = (TypeError, ValueError, FastMLPError)


def assert_parity(
    case: OpCase, backend: Backend, *, kernels: bool = True, dtype: str | None = None, seed: int = 0
) -> None:
    """Run every shape of the case in every variant on the backend and compare with float64 truth.

    kernels=True runs the backend's kernel where it has one, False the array code on the backend's arrays; dtype is one
    of `case.dtypes`, None for all of them. Raises AssertionError, naming the case, shape, dtype, seed, the worst index,
    both values and the tolerance, unless
    - outputs have their dtype and shape, and error e <= 1e-5 in float32 and at most twice NumPy's own (1e-12 in
      float64), NaN and infinities where they belong; integers are equal, and bytes the exact level rounded
      (`compare.assert_rounded`);
    - every element of every output is written, and none outside;
    - inputs, which are read-only where the backend has that, are unchanged.
    A kernel may refuse inputs that are not contiguous with a TypeError, ValueError or FastMLPError, transposed views
    of `case.transposed` excepted; it may never compute something else from them.
    """
    for one in case.dtypes if dtype is None else (dtype,):
        for trial in case.trials(one, seed):
            assert_trial(trial, backend, kernels=kernels)


def assert_trial(trial: Trial, backend: Backend, *, kernels: bool = True) -> None:
    """One trial of `assert_parity`."""
    case = trial.case
    kernel = case.kernel(backend) if kernels else None
    what = f"{backend} {'kernel' if kernel else 'array code'} {trial}"
    inputs = {name: _place(backend, name, value, trial.variant) for name, value in trial.inputs().items()}
    outputs = _place_outputs(backend, trial)
    inputs |= {source: outputs[name].array for name, source in trial.aliases.items()}
    op = kernel or partial(case.array_code, backend.xp)
    try:
        with np.errstate(all="ignore"):
            op(*inputs.values(), *(output.array for output in outputs.values()))
        backend.synchronize()
    except Exception as failure:
        if kernel and trial.variant == "strided" and isinstance(failure, REFUSALS):
            return
        raise AssertionError(f"{what}: raised {type(failure).__name__}: {failure}") from failure
    _assert_unchanged(what, backend, trial, inputs)
    _assert_outputs(what, trial, outputs)


def assert_signature(case: OpCase, kernel: Kernel) -> None:
    """The kernel has the array code's arguments, by name and in order, less the namespace."""
    function = getattr(kernel, "py_func", kernel)  # Numba's dispatchers keep the Python function there
    expected = list(inspect.signature(case.array_code).parameters)[1:]
    found = list(inspect.signature(function).parameters)
    if found != expected:
        raise AssertionError(f"kernel {case.op} has the arguments {found}, but its array code {expected}")


def truth(trial: Trial) -> dict[str, HostArray]:
    """Every output in float64."""
    widened = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value
        for name, value in trial.inputs().items()
    }
    if trial.case.truth is not None:
        with np.errstate(all="ignore"):
            return dict(trial.case.truth(**widened))
    return _run_on_numpy(trial.case, _Float64Namespace(), widened)


class _Float64Namespace:
    """NumPy's namespace, but what calls itself float32 is float64: array code for images names its precision."""

    float32 = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(array_api_compat.numpy, name)


def _run_on_numpy(case: OpCase, xp: Any, inputs: Inputs) -> dict[str, HostArray]:
    outputs = {name: np.full(shape, POISON[dtype], dtype) for name, (shape, dtype) in case.outputs(inputs).items()}
    with np.errstate(all="ignore"):
        case.array_code(xp, *inputs.values(), *outputs.values())
    return outputs


# Placing arrays on the device.


def _place(backend: Backend, name: str, value: Any, variant: str) -> Any:
    """The input on the backend's device: read-only if it has that, and laid out as the variant says."""
    if not isinstance(value, np.ndarray):
        return value
    if variant == f"transposed {name}":
        return backend.asarray(_read_only(value.T.copy())).T
    if variant == "strided":
        return backend.asarray(_read_only(np.repeat(value, 2, axis=-1)))[..., ::2]
    return backend.asarray(_read_only(value))


def _read_only(array: HostArray) -> HostArray:
    array.flags.writeable = False
    return array


class _Guarded:
    """An output on the device, full of poison (or of an input's values), between two guard zones of poison."""

    def __init__(self, backend: Backend, shape: Shape, dtype: str, content: HostArray | None) -> None:
        self._backend, self._rows = backend, slice(GUARD, GUARD + shape[0])
        self.shape, self.dtype = shape, dtype
        whole = np.full((shape[0] + 2 * GUARD, *shape[1:]), POISON[dtype], dtype)
        if content is not None:
            whole[self._rows] = content
        self._whole = backend.asarray(whole)
        self.array: Array = self._whole[self._rows, ...]

    def read(self, what: str) -> HostArray:
        """The output on the host, once its guard zones are found intact."""
        whole = self._backend.to_numpy(self._whole)
        guards = np.concatenate([whole[:GUARD], whole[self._rows.stop :]])
        assert_equal(f"{what}: written outside, guard zones", guards, np.full_like(guards, POISON[self.dtype]))
        return whole[self._rows]


def _place_outputs(backend: Backend, trial: Trial) -> dict[str, _Guarded]:
    inputs = trial.inputs()
    return {
        name: _Guarded(backend, shape, dtype, inputs[trial.aliases[name]] if name in trial.aliases else None)
        for name, (shape, dtype) in trial.case.outputs(inputs).items()
    }


# Judging what came out.


def _assert_unchanged(what: str, backend: Backend, trial: Trial, inputs: Inputs) -> None:
    for name, original in trial.inputs().items():
        if isinstance(original, np.ndarray) and name not in trial.aliases.values():
            assert_equal(f"{what}: changed its input {name}", backend.to_numpy(inputs[name]), original)


def _assert_outputs(what: str, trial: Trial, outputs: dict[str, _Guarded]) -> None:
    exact = truth(trial)
    by_numpy = _run_on_numpy(trial.case, array_api_compat.numpy, trial.inputs())
    for name, output in outputs.items():
        got = output.read(f"{what}: {name}")
        assert_same_kind(f"{what}: {name}", got, output.shape, output.dtype)
        if output.dtype == "uint8":
            assert_rounded(f"{what}: {name}", got, exact[name], POISON["uint8"])
        elif trial.case.exact or output.dtype == "int64":
            assert_equal(f"{what}: {name}", got, exact[name])
        else:
            tolerance = limit(trial.dtype, error(by_numpy[name], exact[name]), OP_FLOOR)
            assert_close(f"{what}: {name}", got, exact[name], tolerance)
