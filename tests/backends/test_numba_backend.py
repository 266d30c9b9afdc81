"""What only Numba has: how kernels are compiled, cached, run without the JIT, shared between threads, and in place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import numba
import numpy as np
import pytest
from numba.core import caching

from fastmlp.backends import numba as numba_module
from fastmlp.backends import open_backend
from fastmlp.kernels import EpochKind, cpu
from fastmlp.kernels.cpu import dense, jit, optimizers, parallel
from fastmlp.network.optimizers import OPTIMIZERS, make_optimizer
from fastmlp.testing import CASES
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.op_case import Trial
from fastmlp.training.sklearn_steps import Velocity

KERNELS = Path(jit.__file__).parent
BARE_JIT = re.compile(
    r"\b(njit|prange|vectorize|guvectorize|stencil|cfunc|fastmath|parallel=)|^\s*(import numba|from numba import jit)",
    re.MULTILINE,
)
compiled_only = pytest.mark.skipif(not jit.is_compiled(dense.add_bias), reason="the JIT is off")


def kernels_of(backend):
    """What it has in place of array code, by the names of their cases; updates with all given but the arrays."""
    found = {name: case.kernel(backend) for name, case in CASES.items() if case.kernel(backend)}
    for name in OPTIMIZERS:
        found[f"{name} update"] = partial(update, backend.network_ops, make_optimizer(name, 0.1))
    return found


def update(ops, optimizer, slots, gradient, out):
    (coefficients,) = optimizer.coefficients(np.full(1, 0.3), first_step=5)
    ops.update(optimizer, slots, gradient, tuple(coefficients.tolist()), True, out)


@pytest.fixture(scope="module")
def kernels():
    return kernels_of(open_backend("numba"))


def dispatcher(op):
    """The compiled function behind an op."""
    return op if hasattr(op, "signatures") else op.__wrapped__


def elementwise_inputs(dtype, shape=(7, 5)):
    """Inputs by op; the first of them may also be the output."""
    rng = np.random.default_rng(0)
    z, other = rng.standard_normal((2, *shape)).astype(dtype)
    bias = rng.standard_normal(shape[1]).astype(dtype)
    return {
        "add_bias": (z, bias),
        "bias_relu": (z, bias),
        "relu_backward": (z, other),
        "standardize": (z, bias, 1.7),
        **{f"{name} update": update_inputs(kind, z, other) for name, kind in OPTIMIZERS.items()},
    }


def update_inputs(optimizer, values, gradient):
    """Slots (1 + moments, n), the moments above zero as squares are, and a gradient (n,)."""
    moments = [np.abs(values.ravel()) for _ in optimizer.moments]
    return np.stack([values.ravel(), *moments]), gradient.ravel()


def image_inputs(n, side):
    """Images, rows and arguments by op."""
    return {case.op: Trial(case, (n, 3, side, side), "uint8").inputs().values() for case in AUGMENT_CASES}


def answers(kernels):
    """What every kernel makes of a small case, by op and dtype."""
    found = {}
    for dtype in ("float32", "float64"):
        for op, inputs in elementwise_inputs(dtype).items():
            found[f"{op} {dtype}"] = np.full_like(inputs[0], np.nan)
            kernels[op](*inputs, found[f"{op} {dtype}"])
        values = elementwise_inputs(dtype)["add_bias"][0]
        found[f"column_sum {dtype}"] = np.full(values.shape[1], np.nan, dtype)
        kernels["column_sum"](values, found[f"column_sum {dtype}"])
        outputs = np.full_like(values, np.nan), np.full(1, np.nan, dtype), np.full(1, -1)
        kernels["softmax_xent"](values, np.arange(len(values)) % values.shape[1], *outputs)
        found |= {f"softmax_xent {dtype} {k}": output for k, output in enumerate(outputs)}
    for op, inputs in image_inputs(n=3, side=9).items():
        found[op] = np.full((3, 3, 9, 9), 170, np.uint8)
        kernels[op](*inputs, found[op])
    return found


def run_python(code, *arguments, **environment):
    """The last line that a fresh interpreter prints, as JSON."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Compiling.


def bare_jit(folder):
    """The files, but jit.py, that reach for Numba themselves."""
    return [
        path.name
        for path in sorted(folder.rglob("*.py"))
        if path.name != "jit.py" and BARE_JIT.search(path.read_text())
    ]


def test_only_one_file_compiles():
    assert len(list(KERNELS.glob("*.py"))) > 5
    assert bare_jit(KERNELS) == []


@pytest.mark.parametrize("line", ["@njit", "for i in prange(n):", "from numba import jit", "@jit(fastmath=True)"])
def test_a_file_that_compiles_by_itself_is_found(tmp_path, line):
    (tmp_path / "planted.py").write_text(f"x = 1\n{line}\n")
    assert bare_jit(tmp_path) == ["planted.py"]


def compiled_functions():
    """All that Numba compiles in the modules of kernels, by module and name."""
    modules = [import_module(info.name) for info in walk_packages(cpu.__path__, f"{cpu.__name__}.")]
    functions = [value for module in modules for value in vars(module).values() if hasattr(value, "targetoptions")]
    return {f"{function.__module__}.{function.__name__}": function for function in functions}


@compiled_only
def test_every_kernel_is_compiled_without_the_gil_and_without_fast_math():
    found = compiled_functions()
    assert {f"fastmlp.kernels.cpu.optimizers.{name}.step" for name in optimizers.NAMES} <= set(found)
    assert {"fastmlp.kernels.cpu.dense.bias_relu", "fastmlp.kernels.cpu.softmax_xent.softmax_xent"} <= set(found)
    for name, function in found.items():
        assert function.targetoptions["nogil"], name
        assert not function.targetoptions["fastmath"], name


@compiled_only
def test_read_only_images_and_broadcast_parameters_compile_nothing_new(kernels):
    images, rows = np.zeros((2, 3, 4, 4), np.uint8), np.arange(2)
    kernels["cutout"](images, rows, np.zeros(2, np.int64), np.zeros(2, np.int64), np.ones(2, np.int64), images.copy())
    before = len(dispatcher(kernels["cutout"]).signatures)
    images.flags.writeable = False
    zeros = np.broadcast_to(np.int64(0), 2)
    kernels["cutout"](images, np.r_[1, 0][::-1], zeros, zeros, zeros, images.copy())
    assert len(dispatcher(kernels["cutout"]).signatures) == before


COUNT_CACHE = """
import json, numpy as np
from fastmlp.backends import open_backend
kernel = open_backend("numba").network_ops.add_bias
kernel(np.ones((2, 2)), np.ones(2), np.ones((2, 2)))
print(json.dumps([sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())]))
"""


@compiled_only
def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    assert run_python(COUNT_CACHE, NUMBA_CACHE_DIR=str(tmp_path)) == [0, 1]
    assert run_python(COUNT_CACHE, NUMBA_CACHE_DIR=str(tmp_path)) == [1, 0]


COUNT_SAID = """
import contextlib, io, json
said = io.StringIO()
with contextlib.redirect_stderr(said):
    from fastmlp.backends import open_backend
    open_backend("numba").network_ops.column_sum(*map(__import__("numpy").ones, ((2, 2), 2)))
from fastmlp.common.clock import compile_seconds
print(json.dumps([said.getvalue().count("Compiling kernels"), compile_seconds() > 0.001]))
"""


@compiled_only
def test_compiling_is_said_once_and_counted_and_loading_is_not(tmp_path):
    assert run_python(COUNT_SAID, NUMBA_CACHE_DIR=str(tmp_path)) == [1, True]
    assert run_python(COUNT_SAID, NUMBA_CACHE_DIR=str(tmp_path)) == [0, False]


@compiled_only
def test_a_kernel_is_compiled_anew_when_any_kernels_file_changes(tmp_path):
    changed = 'from fastmlp.kernels.cpu import jit\njit._sources = lambda: "another time and size"\n'
    assert run_python(COUNT_CACHE, NUMBA_CACHE_DIR=str(tmp_path)) == [0, 1]
    assert run_python(changed + COUNT_CACHE, NUMBA_CACHE_DIR=str(tmp_path)) == [0, 1]


@compiled_only
def test_a_kernel_still_compiles_where_no_cache_can_be_written(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    double = jit.jit(lambda x: 2 * x)
    assert double(3) == 6
    assert "NUMBA_CACHE_DIR" in jit.cache_folder(double)


ANSWERS_WITHOUT_JIT = """
import json, runpy, sys, numpy as np
module = runpy.run_path(sys.argv[1])
backend = module["open_backend"]("numba")
np.savez(sys.argv[2], **module["answers"](module["kernels_of"](backend)))
print(json.dumps(backend.probe().details["cache"]))
"""


def test_kernels_give_the_same_answers_without_the_jit(kernels, tmp_path):
    saved = tmp_path / "answers.npz"
    said = run_python(ANSWERS_WITHOUT_JIT, __file__, saved, NUMBA_DISABLE_JIT="1")
    assert said == "none, NUMBA_DISABLE_JIT is set"
    with np.load(saved) as plain:
        for case, answer in answers(kernels).items():
            if case.startswith("softmax_xent float"):  # NumPy's exp and log are not the C library's to the last bit
                bound = 8 * np.finfo(case.split()[1]).eps
                np.testing.assert_allclose(answer, plain[case], rtol=bound, atol=bound, err_msg=case)
            else:
                np.testing.assert_array_equal(answer, plain[case], err_msg=case)


# Threads.


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_no_bit(kernels, monkeypatch, threads):
    for op, inputs in image_inputs(n=323, side=8).items():
        outputs = []
        for count in (1, threads):
            monkeypatch.setattr(parallel._setting, "threads", count)
            outputs.append(np.full((323, 3, 8, 8), 170, np.uint8))
            kernels[op](*inputs, outputs[-1])
        np.testing.assert_array_equal(outputs[1], outputs[0], err_msg=op)


def shares_of(n, threads, monkeypatch):
    """For n of 2 n images on so many threads: the thread and the rows of each share."""
    shares = []

    @parallel.over_images
    def record(images, rows, weights, out):
        shares.append((threading.get_ident(), rows.tolist()))
        out[rows] = images[rows] + weights[:, None]

    monkeypatch.setattr(parallel._setting, "threads", threads)
    images, rows, out = np.arange(2 * n)[:, None], np.arange(n), np.full((2 * n, 1), -1)
    record(images, rows, rows, out)
    np.testing.assert_array_equal(out[:, 0], np.r_[2 * np.arange(n), np.full(n, -1)])
    return shares


def test_a_large_batch_is_shared_out_evenly(monkeypatch):
    shares = shares_of(1001, 3, monkeypatch)
    assert sorted(len(images) for _, images in shares) == [333, 334, 334]
    assert sorted(image for _, images in shares for image in images) == list(range(1001))
    assert len([thread for thread, _ in shares if thread == threading.get_ident()]) == 1


@pytest.mark.parametrize("n", [0, 1, 2 * parallel.IMAGES_PER_THREAD - 1])
def test_a_small_batch_stays_on_the_calling_thread(monkeypatch, n):
    assert shares_of(n, 4, monkeypatch) == [(threading.get_ident(), list(range(n)))]


def test_an_error_on_another_thread_reaches_the_caller(monkeypatch):
    @parallel.over_images
    def fail_in_the_middle(images, rows, out):
        if rows[0] > 0:
            raise ValueError("no such image")

    monkeypatch.setattr(parallel._setting, "threads", 2)
    images = np.arange(1000)[:, None]
    with pytest.raises(ValueError, match="no such image"):
        fail_in_the_middle(images, np.arange(1000), images.copy())


SET_THREADS = """
import json
from threadpoolctl import threadpool_info
from fastmlp.backends import open_backend
from fastmlp.kernels.cpu import parallel
open_backend("numba", threads=3)
blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
print(json.dumps([parallel._setting.threads, blas]))
"""


def test_set_threads_holds_for_kernels_and_for_matrix_products():
    threads, blas = run_python(SET_THREADS)
    assert threads == 3
    assert max(blas) <= 3


FORK = """
import json, os, numpy as np, warnings
from fastmlp.backends import open_backend
from fastmlp.testing import CASES
flip = CASES["hflip"].kernel(open_backend("numba", threads=2))
images = np.arange(500 * 3 * 4 * 4, dtype=np.uint8).reshape(500, 3, 4, 4)
def flipped():
    out = np.zeros_like(images)
    flip(images, np.arange(500), np.ones(500, bool), out)
    return bool((out == images[..., ::-1]).all())
assert flipped()
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    os._exit(0 if flipped() else 1)
print(json.dumps(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    assert run_python(FORK) == 0


# Arrays.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(64, 64), (7, 5), (1, 1), (0, 3)])
def test_elementwise_kernels_work_in_place(kernels, dtype, shape):
    for op, (first, *rest) in elementwise_inputs(dtype, shape).items():
        apart, in_place = np.full_like(first, np.nan), first.copy()
        kernels[op](first, *rest, apart)
        kernels[op](in_place, *rest, in_place)
        np.testing.assert_array_equal(in_place, apart, err_msg=op)
        strided = np.repeat(first, 2, axis=0)[::2]  # the generic layout, in place
        kernels[op](strided, *rest, strided)
        np.testing.assert_array_equal(strided, apart, err_msg=op)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_may_overwrite_the_logits(kernels, dtype):
    logits = np.random.default_rng(0).standard_normal((9, 10)).astype(dtype)
    labels = np.arange(9)
    outputs = []
    for gradient in (np.full_like(logits, np.nan), logits.copy()):
        source = logits if np.isnan(gradient).any() else gradient
        outputs.append((gradient, np.full(1, np.nan, dtype), np.full(1, -1)))
        kernels["softmax_xent"](source, labels, *outputs[-1])
    for apart, in_place in zip(*outputs, strict=True):
        np.testing.assert_array_equal(in_place, apart)


def test_the_loss_of_a_large_batch_is_summed_in_float64(kernels):
    rows = 200_000
    logits = np.zeros((rows, 10), np.float32)
    loss, hits = np.zeros(1, np.float32), np.zeros(1, np.int64)
    kernels["softmax_xent"](logits, np.zeros(rows, np.int64), logits, loss, hits)
    assert abs(float(loss[0]) / rows / np.log(10) - 1) < 2 * np.finfo(np.float32).eps
    assert hits[0] == rows


# The fused epoch, and where it is left to BLAS.


@pytest.mark.skipif(not jit.is_compiled(dense.add_bias), reason="fused epochs only run compiled")
@pytest.mark.parametrize(
    ("sizes", "batch_size", "reason"),
    [
        ((512, 64, 10), 50_000, ""),
        ((768, 1000), 4096, ""),
        ((512, 128, 64, 10), 64, ""),
        ((768, 512, 10), 4096, ""),
        ((768, 1024, 10), 256, ""),
        ((768, 1024, 10), 257, "more than 512 hidden units"),
        ((512, 64, 513, 10), 4096, "more than 512 hidden units"),
        ((512, 2048, 1024, 10), 64, "more than 2,097,152 weights"),
    ],
)
def test_the_fused_epoch_is_left_to_blas_where_that_is_faster(
    sizes: tuple[int, ...], batch_size: int, reason: str
) -> None:
    backend = open_backend("numba")
    for weighted, smoothing in ((False, 0.0), (True, 0.1)):
        kind = EpochKind(sizes, "float32", batch_size, make_optimizer("sgd"), weighted, smoothing)
        refusal = backend.fused_epoch_refusal(kind)
        assert reason in refusal
        assert bool(refusal) == bool(reason)


# The doctor.


def test_probe_compiles_a_kernel_and_names_versions_and_cache():
    availability = numba_module.NumbaBackend.probe()
    assert availability.usable
    assert set(availability.details) == {"numba", "llvmlite", "numpy", "cache"}
    if jit.is_compiled(dense.add_bias):
        assert Path(availability.details["cache"]).is_dir()


@pytest.mark.parametrize("kernel", [lambda values, out: None, lambda values, out: 1 / 0])
def test_probe_finds_a_kernel_that_does_nothing_or_fails(monkeypatch, kernel):
    monkeypatch.setattr(dense, "column_sum", kernel)
    availability = numba_module.NumbaBackend.probe()
    assert not availability.usable
    assert "cannot compile" in availability.reason
    assert "pip install" in availability.fix


def test_numba_is_imported_when_the_backend_is_opened_and_not_before():
    code = (
        "import json, sys, fastmlp, fastmlp.augment, fastmlp.network.network, fastmlp.backends as b;"
        "b.open_backend('numpy'); before = 'numba' in sys.modules; b.open_backend('numba');"
        "print(json.dumps([before, 'numba' in sys.modules]))"
    )
    assert run_python(code) == [False, True]


def test_no_optimizers_kernel_is_taken_for_anothers():
    """As it is where two types have one name, a process each has compiled for them, and a third loads both."""
    rules = [import_module(f"fastmlp.kernels.cpu.optimizers.{name}").Rule for name in optimizers.NAMES]
    assert len({rule.__name__ for rule in rules}) == len(rules) == len(optimizers.NAMES) > 3


def test_fused_epochs_are_given_all_optimizers_in_one_type():
    """So that they are compiled once."""
    rules = [optimizers.any_rule_of(optimizer) for optimizer in (*map(make_optimizer, OPTIMIZERS), Velocity())]
    assert {rule.place for rule in rules} == set(range(len(optimizers.NAMES)))
    assert len({numba.typeof(rule) for rule in rules}) == 1
