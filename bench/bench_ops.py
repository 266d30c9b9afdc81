"""Each op of the network by itself, at the sizes of the paper's network: each backend's kernel, and the array code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from fastmlp.backends.base import Backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing import CASES, OpCase, Trial, assert_trial

from . import ours
from .contenders import Bound, Contender, Problem

LOGITS, HIDDEN, PRODUCT = (64, 10), (64, 64), (64, 512, 64)
ACTIVATIONS = ("logistic", "tanh", "exponential", "logistic_backward", "tanh_backward")
LOSSES = ("softmax", "squared_error", "log_loss", "binary_log_loss", "poisson_deviance", "residual", "weigh_rows")
PRODUCTS = ("matmul", "dense", "dense_relu", "dense_backward", "dense_gradients")
SHAPES = {
    **dict.fromkeys(("add_bias", "softmax_xent", "weighted_softmax_xent", "smooth_labels"), LOGITS),
    **dict.fromkeys(("standardize", "bias_relu", "relu_backward", "column_sum"), HIDDEN),
    **dict.fromkeys(ACTIVATIONS, HIDDEN),
    **dict.fromkeys(LOSSES, LOGITS),
    **dict.fromkeys(PRODUCTS, PRODUCT),
    "gather": (64, 512),
    "update": (32_768,),
    "penalized_mean": (32_768,),
}


@dataclass(frozen=True, kw_only=True)
class OneOp(Problem):
    """One call of an op on float32 inputs of that shape."""

    case: OpCase
    shape: tuple[int, ...]


def kernel(backend: Backend, problem: OneOp, kernels: bool = True) -> Bound:
    """The op as the backend runs it, on arrays that lie on its device; checked by the op's own case."""
    case, inputs = problem.case, Trial(problem.case, problem.shape, "float32").inputs()
    compiled = case.kernel(backend) if kernels else None
    op = compiled or partial(case.array_code, backend.xp)
    outputs = [backend.empty(shape, dtype) for shape, dtype in case.outputs(inputs).values()]
    placed = [backend.asarray(value) if isinstance(value, np.ndarray) else value for value in inputs.values()]

    def run() -> None:
        op(*placed, *outputs)
        backend.synchronize()

    def check(what: str) -> None:
        assert_trial(Trial(case, problem.shape, "float32"), backend, kernels=kernels)

    return Bound(run, check=check, facts={"code": "kernel" if compiled else "array code"})


def array_code(problem: OneOp) -> Bound:
    return kernel(NumpyBackend(), problem, kernels=False)


@pytest.fixture(
    params=[case.name for case in CASES.values() if case.family == "network" and not case.hazard], scope="module"
)
def problem(request: pytest.FixtureRequest, threads: int) -> OneOp:
    case = CASES[request.param]
    shape = SHAPES[case.op]
    title = f"{case.name}, {' x '.join(map(str, shape))}"
    return OneOp(suite="ops", threads=threads, title=title, unit="call", units=1, case=case, shape=shape)


@pytest.mark.contenders(*ours.contenders(kernel), Contender("array code on NumPy", "ours", array_code))
def bench_ops(measure: Callable[[OneOp], None], problem: OneOp) -> None:
    measure(problem)
