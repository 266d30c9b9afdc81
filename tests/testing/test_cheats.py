"""Kernels that cheat fail the public check, every one of them; the honest ones here, which are NumPy, pass it."""

import re
from collections.abc import Callable
from functools import partial
from threading import Event, Timer
from typing import Any

import numpy as np
import pytest

from fastmlp.augment.kinds.contrast import hflip as hflip_in_array_code
from fastmlp.augment.running import on_rows
from fastmlp.backends import Backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.ops.network import NetworkOps
from fastmlp.testing import CASES, check_backend, running

BackendWith = Callable[..., Backend]

xp = NumpyBackend.xp
array_code = NetworkOps(xp)


# Honest kernels.


def column_sum(values: Array, out: Array) -> None:
    np.sum(values, axis=0, out=out)


def matmul(a: Array, b: Array, out: Array) -> None:
    np.matmul(a, b, out=out)


def softmax_xent(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    rows, largest = np.arange(len(logits)), logits.max(axis=1)
    hits[...] = np.sum((logits.argmax(axis=1) == labels) & ~np.isnan(largest))
    at_label = logits[rows, labels] - largest
    np.exp(np.subtract(logits, largest[:, None], out=gradient), out=gradient)
    sums = gradient.sum(axis=1)
    loss[...] = np.sum(np.log(sums) - at_label)
    gradient /= sums[:, None]
    gradient[rows, labels] -= 1
    gradient /= max(len(rows), 1)


def hflip(images: Array, rows: Array, flip: Array, out: Array) -> None:
    some = images[rows]
    out[rows] = np.where(flip[:, None, None, None], some[..., ::-1], some)


HONEST: dict[str, Kernel] = {
    "column_sum": column_sum,
    "matmul": matmul,
    "softmax_xent": softmax_xent,
    "hflip": hflip,
}
OUTPUTS = {"column_sum": 1, "matmul": 1, "softmax_xent": 3, "hflip": 1}


def check_kernel(backend: Backend, op: str) -> str:
    """The messages of what the check of its kernel for that op finds wrong."""
    return "\n".join(result.message for result in check_backend(backend, only=f"{op}, kernel, ").having("failed"))


@pytest.mark.parametrize("op", HONEST)
def test_honest_kernels_pass(backend_with: BackendWith, op: str) -> None:
    check_backend(backend_with(**HONEST), only=f"{op}, ").raise_for_failures()


# Kernels that cheat: made of the honest kernel, which fills the last `count` of its arguments.


def zeros(kernel: Kernel, count: int, *arguments: Array) -> None:
    for out in arguments[-count:]:
        out[...] = 0


def nothing(kernel: Kernel, count: int, *arguments: Array) -> None:
    pass


class Memory:
    """Answers again what it has answered to inputs of the same shapes: the first of its answers, or the last."""

    def __init__(self, which: int) -> None:
        self.which = which
        self.answers: dict[tuple[Any, ...], list[list[Array]]] = {}

    def __call__(self, kernel: Kernel, count: int, *arguments: Array) -> None:
        known = self.answers.setdefault(tuple(np.shape(array) for array in arguments), [])
        kernel(*arguments)
        known.append([out.copy() for out in arguments[-count:]])
        for out, answer in zip(arguments[-count:], known[self.which if len(known) > 1 else 0], strict=True):
            out[...] = answer


def changes_its_inputs(kernel: Kernel, count: int, *arguments: Array) -> None:
    kernel(*arguments)
    changed = arguments[0]
    if changed.base is None:  # an array that may be made writable again
        changed.flags.writeable = True
    changed += 1


def truncated(mask: int, kernel: Kernel, count: int, *arguments: Array) -> None:
    """Inputs that lose the last bits of their float32."""
    whole = [np.asarray(array, np.float32) if _is_float(array) else array for array in arguments[:-count]]
    cut = [(array.view(np.uint32) & mask).view(np.float32) if _is_float(array) else array for array in whole]
    kernel(*cut, *arguments[-count:])


def half(kernel: Kernel, count: int, *arguments: Array) -> None:
    with np.errstate(all="ignore"):
        given = [array.astype(np.float16) if _is_float(array) else array for array in arguments[:-count]]
        outs = [np.empty(out.shape, np.float16) if _is_float(out) else out for out in arguments[-count:]]
        kernel(*given, *outs)
    for out, rounded in zip(arguments[-count:], outs, strict=True):
        out[...] = rounded


def _is_float(array: Array) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


def returns_before_it_writes(kernel: Kernel, count: int, *arguments: Array) -> None:
    Timer(0.05, kernel, [array.copy() for array in arguments[:-count]] + list(arguments[-count:])).start()


class FirstCallsOnly:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, kernel: Kernel, count: int, *arguments: Array) -> None:
        self.calls += 1
        (kernel if self.calls <= 4 else partial(zeros, kernel, count))(*arguments)


def small_shapes_only(kernel: Kernel, count: int, *arguments: Array) -> None:
    (kernel if np.size(arguments[0]) <= 400 else partial(zeros, kernel, count))(*arguments)


def adds_to_what_was_there(kernel: Kernel, count: int, *arguments: Array) -> None:
    before = [out.copy() for out in arguments[-count:]]
    kernel(*arguments)
    for out, old in zip(arguments[-count:], before, strict=True):
        np.add(out, old, out=out)


def draws_from_numpys_own_state(kernel: Kernel, count: int, *arguments: Array) -> None:
    kernel(*arguments)
    np.random.rand()


def never_returns(kernel: Kernel, count: int, *arguments: Array) -> None:
    Event().wait()


IN_FLOATS: dict[str, Callable[[], Callable[..., None]]] = {
    "half precision": lambda: half,
    "bfloat16's bits": lambda: partial(truncated, 0xFFFF0000),
    "TF32's bits": lambda: partial(truncated, 0xFFFFE000),
}
CHEATS: dict[str, Callable[[], Callable[..., None]]] = {
    "zeros": lambda: zeros,
    "nothing": lambda: nothing,
    "the last answer": lambda: Memory(-2),
    "memoises by shape": lambda: Memory(0),
    "changes its inputs": lambda: changes_its_inputs,
    "returns before it writes": lambda: returns_before_it_writes,
    "first calls only": FirstCallsOnly,
    "small shapes only": lambda: small_shapes_only,
    "adds to what was there": lambda: adds_to_what_was_there,
    "NumPy's own random state": lambda: draws_from_numpys_own_state,
    **IN_FLOATS,
}


@pytest.mark.parametrize("op", HONEST)
@pytest.mark.parametrize("cheat", CHEATS)
def test_a_kernel_that_cheats_fails(backend_with: BackendWith, cheat: str, op: str) -> None:
    if op == "hflip" and cheat in IN_FLOATS:
        pytest.skip("it only moves bytes")

    cheats, kernel = CHEATS[cheat](), HONEST[op]

    def cheating(*arguments: Array) -> None:
        cheats(kernel, OUTPUTS[op], *arguments)

    assert check_kernel(backend_with(**{op: cheating}), op)


def test_a_kernel_that_never_returns_fails(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TIME_LIMIT", 0.5)
    cheating = partial(never_returns, column_sum, 1)
    assert "did not return within 0.5 s" in check_kernel(backend_with(column_sum=cheating), "column_sum")


# Kernels that are none: their numbers are right, for others compute them.


def the_references_numbers(values: Array, out: Array) -> None:
    case = CASES["column_sum"]
    assert case.truth is not None
    out[...] = case.truth(values=values)["out"]


NO_KERNELS: dict[str, tuple[str, Kernel, str]] = {
    "array code": (
        "column_sum",
        array_code.column_sum,
        "the array code of column_sum",
    ),
    "array code within another op": (
        "softmax_xent",
        lambda logits, labels, *out: array_code.weighted_softmax_xent(logits, labels, np.ones(len(labels), "f4"), *out),
        "the array code of softmax_xent",
    ),
    "the case's array code": (
        "matmul",
        lambda a, b, out: CASES["matmul"].array_code(xp, a, b, out),
        "(the array code of matmul|fastmlp.testing)",
    ),
    "NumPy's backend": (
        "matmul",
        NumpyBackend().network_ops.matmul,
        r"NumpyOps\.matmul",
    ),
    "the case's reference": ("column_sum", the_references_numbers, r"fastmlp\.testing"),
    "an optimizer's step": (
        "update",
        array_code.update,
        "the array code of update",
    ),
    "an augmentation's array code": (
        "hflip",
        lambda images, rows, flip, out: on_rows(hflip_in_array_code)(xp, images, rows, flip, out),
        "the array code of hflip",
    ),
}


@pytest.mark.parametrize("name", NO_KERNELS)
def test_a_kernel_that_is_none_fails_in_one_sentence(backend_with: BackendWith, name: str) -> None:
    op, kernel, culprit = NO_KERNELS[name]
    case = "sgd update" if op == "update" else op
    report = check_backend(backend_with(**{op: kernel}), only=f"{case}, kernel, ")
    failed = report.having("failed")
    assert len(failed) == len(report.results) >= len(CASES[case].dtypes)
    sentence = rf"^planted's kernel of {op} calls {culprit}.*: compute it there, or leave the kernel out$"
    for result in failed:
        assert re.match(sentence, result.message), result.message


def test_kernels_may_call_other_ops_and_leave_optimizers_to_the_array_code() -> None:
    class Ops(NetworkOps):
        optimizers = frozenset({"sgd"})

        def dense_relu(self, a: Array, weight: Array, bias: Array, out: Array) -> None:
            self.dense(a, weight, bias, out)
            np.maximum(out, 0, out=out)

        def update(self, optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
            if optimizer.name == "sgd":
                np.subtract(row[0] * slots[0] if decays else slots[0], row[1] * gradient, out=out[0])
            else:
                super().update(optimizer, slots, gradient, row, decays, out)

    class Own(NumpyBackend):
        name = "own"
        network_ops = Ops(xp)

    for part in ("dense_relu, ", "update, ", "adam "):
        check_backend(Own(), only=part, quick=True).raise_for_failures()
