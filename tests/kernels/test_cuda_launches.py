"""What the MLP's ops launch on CUDA, seen by a driver that only takes notes; and what parity's cases are too small for.

No GPU and no compiler, but for the tests whose names end in "emulated".
"""

import inspect
import re
import sys
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import array_api_compat.numpy
import numpy as np
import pytest

from fastmlp.backends.cuda_graphs import RECORDED_STEPS
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.dense import Dense
from fastmlp.kernels.cuda.driver import CupyDriver, Device, Program
from fastmlp.kernels.cuda.sources import source
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.ops import network as mlp_ops
from fastmlp.testing.emulated import EmulatedBackend
from tests.kernels.launches import RecordingDriver

GRID_LIMIT = 2**31 - 1
DEVICE = Device("stand-in", 90, 132, 232_448)


class NotingBackend(CudaBackend):
    name = "noting"
    xp = array_api_compat.numpy

    def __init__(self):
        super().__init__(None, RecordingDriver(DEVICE))

    @classmethod
    def probe(cls):
        raise NotImplementedError

    def asarray(self, array):
        return np.array(array)

    def to_numpy(self, array):
        return array


class Placed:
    """An array on a device that nobody can read: all that a launch may ask of it."""

    def __init__(self, shape, dtype="float32", gaps=False, transposed_of=None):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = int(np.prod(np.array(shape, dtype=object)))
        self.flags = SimpleNamespace(c_contiguous=not gaps and transposed_of is None)
        self._transposed_of = transposed_of

    @property
    def T(self):  # noqa: N802  (NumPy's name)
        return self._transposed_of or Placed(self.shape[::-1], self.dtype, transposed_of=self)


@pytest.fixture
def driver():
    return RecordingDriver(DEVICE)


@pytest.fixture
def dense(driver):
    return Dense(driver, lambda array: Placed(array.shape, array.dtype))


# One op, one launch.


def floats(*shape, dtype="float32"):
    return Placed(shape, dtype)


def doubles(*shape):
    return Placed(shape, "float64")


def integers(*shape):
    return Placed(shape, "int64")


def softmax(rows, classes, dtype="float32"):
    logits = floats(rows, classes, dtype=dtype)
    return (logits, integers(rows), logits, floats(1, dtype=dtype), integers(1))


def weighted(rows, classes):
    logits, labels, *outputs = softmax(rows, classes)
    return (logits, labels, floats(rows), *outputs)


def adam(*shape, dtype="float32"):
    p, g, first, second = (floats(*shape, dtype=dtype) for _ in range(4))
    return (p, g, first, second, 0.1, Placed((1,), "float64"), 1.0, p, first, second)


def matrices(m, k, n, dtype="float32"):
    return (floats(m, k, dtype=dtype), floats(k, n, dtype=dtype), floats(m, n, dtype=dtype))


def layer(m, k, n):
    a, weight, out = matrices(m, k, n)
    return (a, weight, floats(n), out)


def backward(m, k, n):
    delta, _, out = matrices(m, k, n)
    return (delta, floats(n, k).T, floats(m, n), out)


def gradients(m, k, n):
    _, delta, weight_gradient = matrices(k, m, n)
    return (floats(m, k).T, delta, weight_gradient, floats(n))


HUGE = 2**32  # rows

# op, its arguments, and what it launches: file, bytes of shared memory, blocks, threads, its last arguments
LAUNCHES = [
    ("gather", (floats(9, 512), integers(64), floats(64, 512)), "gather.cu", 0, 16, 64, (64, 512)),
    ("gather", (floats(9, 10), integers(64), floats(64, 10)), "gather.cu", 0, 2, 64, (64, 10)),
    ("gather", (doubles(9, 10), integers(64), doubles(64, 10)), "gather.cu", 0, 1, 64, (64, 10)),
    ("gather", (integers(9), integers(64), integers(64)), "gather.cu", 0, 1, 64, (64, 1)),
    ("gather", (floats(9, 512), integers(HUGE), floats(HUGE, 512)), "gather.cu", 0, 2**30, 64, (HUGE, 512)),
    ("standardize", (floats(64, 512), floats(512), 1.5, floats(64, 512)), "dense.cu", 0, 64, 64, (64 * 512, 512)),
    ("add_bias", (floats(37, 10), floats(10), floats(37, 10)), "dense.cu", 0, 1, 64, (370, 10)),
    ("add_bias", (floats(HUGE, 64), floats(64), floats(HUGE, 64)), "dense.cu", 0, 2**29, 64, (64 * HUGE, 64)),
    ("bias_relu", (floats(64, 64), floats(64), floats(64, 64)), "dense.cu", 0, 8, 64, (4096, 64)),
    ("relu_backward", (floats(64, 64), floats(64, 64), floats(64, 64)), "dense.cu", 0, 8, 64, (4096,)),
    ("column_sum", (floats(64, 70), floats(70)), "dense.cu", 512, 3, 128, (64, 70)),
    ("column_sum", (doubles(0, 70), doubles(70)), "dense.cu", 1024, 3, 128, (0, 70)),
    ("column_sum", (floats(1, HUGE), floats(HUGE)), "dense.cu", 512, 2**27, 128, (1, HUGE)),
    ("softmax_xent", softmax(64, 10), "softmax_xent.cu", 1024, 1, 64, (64, 10, 1)),
    ("softmax_xent", softmax(0, 10), "softmax_xent.cu", 512, 1, 32, (0, 10, 1)),
    ("softmax_xent", softmax(2048, 10), "softmax_xent.cu", 8192, 1, 512, (2048, 10, 1)),
    ("softmax_xent", softmax(3, 1000, "float64"), "softmax_xent.cu", 64, 1, 96, (3, 1000, 32)),
    ("softmax_xent", softmax(HUGE, 1000), "softmax_xent.cu", 256, 1, 512, (HUGE, 1000, 32)),
    ("weighted_softmax_xent", weighted(37, 10), "softmax_xent.cu", 1024, 1, 64, (37, 10, 1)),
    ("sgd_update", (floats(512, 64), floats(512, 64), 0.1, 1.0, floats(512, 64)), "update.cu", 0, 64, 64, (32768,)),
    ("adam_update", adam(10), "update.cu", 0, 1, 64, (10,)),
    ("adam_update", adam(HUGE, 8, dtype="float64"), "update.cu", 0, 2**26, 64, (8 * HUGE,)),
    ("matmul", matrices(64, 512, 64), "matmul.cu", 32768, 16, 128, (64, 512, 64, False, False, 0)),
    ("matmul", matrices(37, 10, 7), "matmul.cu", 8192, 3, 32, (37, 10, 7, False, False, 0)),
    ("matmul", matrices(2048, 512, 64), "matmul.cu", 32768, 128, 128, (2048, 512, 64, False, False, 0)),
    ("matmul", matrices(4096, 512, 99, "float64"), "matmul.cu", 32768, 128, 256, (4096, 512, 99, False, False, 0)),
    ("matmul", matrices(64, 0, 64), "matmul.cu", 8192, 16, 32, (64, 0, 64, False, False, 0)),
    ("matmul", matrices(HUGE, 3, 2**10), "matmul.cu", 32768, 2**30, 256, (HUGE, 3, 2**10, False, False, 0)),
    ("dense", layer(64, 64, 10), "matmul.cu", 8192, 4, 32, (64, 64, 10, False, False, 1)),
    ("dense_relu", layer(64, 512, 64), "matmul.cu", 32768, 16, 128, (64, 512, 64, False, False, 2)),
    ("dense_backward", backward(64, 10, 64), "matmul.cu", 8192, 16, 32, (64, 10, 64, False, True, 3)),
    ("dense_gradients", gradients(64, 512, 64), "matmul.cu", 8192, 33 * 4, 32, (512, 64, 64, True, False, 4)),
]  # fmt: skip

KERNELS = dict.fromkeys(("dense", "dense_relu", "dense_backward", "dense_gradients"), "matmul")  # of other names
ROLES = {  # what a kernel's parameter is to an op
    "dense": {"b": "weight", "given": "bias"},
    "dense_relu": {"b": "weight", "given": "bias"},
    "dense_backward": {"a": "delta", "b": "weight", "given": "activation"},
    "dense_gradients": {"a": "inputs", "b": "delta", "out": "weight_gradient", "column_sums": "bias_gradient"},
}


def parameters(file, kernel):
    """(type, name) of each of a kernel's parameters, as its source has them."""
    (listed,) = re.findall(rf"\b{kernel}\(([^)]*)\)\s*\{{", source(file))
    return [tuple(one.removeprefix("const ").split(" ")) for one in " ".join(listed.split()).split(", ")]


def assert_fits(noted, given, roles):
    """The launch's arguments have the kernel's types, and each array that the op has under that name is that array."""
    constants = dict(option.removeprefix("-D").split("=") for option in noted.program.options)
    names = {"float": "float32", "double": "float64", "int": "int32", "int64": "int64", "bool": "bool"}
    wanted = parameters(noted.program.file, noted.program.kernel)
    assert len(wanted) == len(noted.arguments)
    for (kind, name), argument in zip(wanted, noted.arguments, strict=True):
        element = kind.removesuffix("*")
        assert argument.dtype.name == names[constants.get(element, element)], name
        assert isinstance(argument, Placed if kind.endswith("*") else np.generic), name
        expected = given.get(roles.get(name, name))
        if isinstance(expected, Placed):
            assert argument is expected or argument is expected.T, name


@pytest.mark.parametrize(("op", "arguments", "file", "shared", "blocks", "threads", "last"), LAUNCHES)
def test_an_op_is_one_launch(driver, dense, op, arguments, file, shared, blocks, threads, last):
    getattr(dense, op)(*arguments)
    (noted,) = driver.launched
    assert (noted.program.file, noted.program.kernel) == (file, KERNELS.get(op, op))
    assert noted.program.shared_memory == shared
    assert (noted.grid, noted.block) == ((blocks,), (threads,))
    names = list(inspect.signature(mlp_ops.OPS[op]).parameters)[1:]
    assert_fits(noted, dict(zip(names, arguments, strict=True)), ROLES.get(op, {}))
    assert tuple(noted.arguments[-len(last) :]) == last


def test_every_grid_is_within_the_devices_limit():
    assert all(blocks <= GRID_LIMIT for _, _, _, _, blocks, _, _ in LAUNCHES)


EMPTY = [
    ("gather", (floats(9, 512), integers(0), floats(0, 512))),
    ("bias_relu", (floats(0, 10), floats(10), floats(0, 10))),
    ("matmul", matrices(0, 5, 3)),
    ("column_sum", (floats(5, 0), floats(0))),
    ("sgd_update", (floats(0, 10), floats(0, 10), 0.1, 1.0, floats(0, 10))),
]


@pytest.mark.parametrize(("op", "arguments"), EMPTY)
def test_what_has_nothing_to_fill_launches_nothing(driver, dense, op, arguments):
    getattr(dense, op)(*arguments)
    assert not driver.launched


@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_transposed_views_are_taken_as_they_lie(driver, dense, a_transposed, b_transposed):
    stored_a, stored_b = floats(*((5, 7) if a_transposed else (7, 5))), floats(*((9, 5) if b_transposed else (5, 9)))
    dense.matmul(stored_a.T if a_transposed else stored_a, stored_b.T if b_transposed else stored_b, floats(7, 9))
    (noted,) = driver.launched
    assert noted.arguments[:2] == (stored_a, stored_b)
    assert noted.arguments[5:] == (7, 5, 9, a_transposed, b_transposed, 0)


@pytest.mark.parametrize("op", ["add_bias", "bias_relu"])
def test_arrays_with_gaps_are_refused(driver, dense, op):
    with pytest.raises(UsageError, match="contiguous"):
        getattr(dense, op)(Placed((4, 4), gaps=True), floats(4), floats(4, 4))
    assert not driver.launched


def test_numbers_of_an_update_are_placed_once_and_scalars_on_the_device_not_at_all(driver):
    placed = []

    def place(array):
        placed.append(array)
        return Placed(array.shape, array.dtype)

    dense = Dense(driver, place)
    rate = Placed((1,), "float64")
    for _ in range(3):
        dense.sgd_update(floats(8), floats(8), rate, 1.0, floats(8))
    assert [array.tolist() for array in placed] == [[1.0]]
    assert all(noted.arguments[2] is rate for noted in driver.launched)
    assert len({id(noted.arguments[3]) for noted in driver.launched}) == 1


# Epochs.

SIZES, BATCH = (6, 5, 3), 2
STEPS = RECORDED_STEPS + 7  # a whole part and another
ROWS = BATCH * STEPS - 1  # the last batch has one row


@pytest.fixture
def backend():
    return NotingBackend()


@pytest.fixture
def data():
    return np.zeros((ROWS, SIZES[0]), "f4"), np.zeros(ROWS, np.int64)


def bound(backend, tier=2):
    return Trainer(initial_parameters(SIZES), backend, BATCH, tier)


def train(network, data, epoch=0, weights=None):
    """One epoch; its order and learning rates."""
    order = np.random.default_rng(epoch).permutation(len(data[1]))
    rates = np.linspace(1, 2, -(-len(order) // BATCH)) + epoch
    features, labels = data
    train_epoch_together([network], features, labels, [order], [rates], weights)
    return order, rates


def test_an_epoch_is_recorded_once_and_repeated(backend, data):
    driver, network = backend.driver, bound(backend)
    train(network, data)
    a_step = len(driver.launched) // STEPS
    assert a_step * STEPS == len(driver.launched)  # the first epoch is launched as it is: kernels are compiled by it
    assert not driver.recordings
    for epochs in (1, 2, 3):
        train(network, data)
        assert [len(recording) for recording in driver.recordings] == [RECORDED_STEPS * a_step, 7 * a_step]
        assert len(driver.repeated) == 2 * epochs
        assert len(driver.launched) == a_step * STEPS


def of_kernel(recording, kernel):
    return [noted.arguments for noted in recording if noted.program.kernel == kernel]


def test_what_changes_from_epoch_to_epoch_is_in_memory_that_is_bound(backend, data):
    network = bound(backend)
    for epoch in range(4):
        order, rates = train(network, data, epoch)
    recording = backend.driver.recordings[0]
    features = of_kernel(recording, "gather")[::2]  # in turns with labels
    assert all(arguments[0] is data[0] for arguments in features)
    # the second, last part was sent after the first: its memory is the recording's that stayed behind
    rows = RECORDED_STEPS * BATCH
    np.testing.assert_array_equal(np.concatenate([arguments[1] for arguments in features]), order[:rows])
    updates = of_kernel(recording, "sgd_update")
    of_weights, of_biases = updates[::2], updates[1::2]
    np.testing.assert_array_equal(np.concatenate([u[2] for u in of_weights]), rates[:RECORDED_STEPS])
    np.testing.assert_array_equal(np.concatenate([u[2] for u in of_biases]), rates[:RECORDED_STEPS])
    assert all(np.shares_memory(u[0], w) for u in of_weights for w in network.weights)
    losses = [arguments[3].ctypes.data for arguments in of_kernel(recording, "softmax_xent")]
    np.testing.assert_array_equal(np.diff(losses), 4)  # a float32 a step, one after another


def test_losses_and_hits_of_all_parts_come_back(backend, data):
    network = bound(backend)
    train(network, data)
    train(network, data)
    for part, recording in enumerate(backend.driver.recordings):
        for arguments in of_kernel(recording, "softmax_xent"):
            arguments[3][...], arguments[4][...] = part + 1, 1  # as the kernel would
    loss, accuracy = network.train_epoch(*data, np.arange(ROWS), np.ones(STEPS))
    assert loss == pytest.approx((RECORDED_STEPS * 1 + 7 * 2) / ROWS)
    assert accuracy == STEPS / ROWS


def test_weights_set_between_epochs_are_set_where_the_recording_reads_them(backend, data):
    network = bound(backend)
    for _ in range(2):
        train(network, data)
    state = {**network.state, "weights": network.state["weights"] + 1}
    network.state = state
    train(network, data)
    assert len(backend.driver.recordings) == 2
    update = of_kernel(backend.driver.recordings[0], "sgd_update")[0]
    np.testing.assert_array_equal(update[0], state["weights"])


def test_what_a_recording_has_not_bound_is_recorded_anew(backend, data):
    network, driver = bound(backend), backend.driver
    short = tuple(array[: 3 * BATCH] for array in data)
    others = tuple(array.copy() for array in short)
    for expected, arguments in enumerate([(short,), (others,), (others, np.ones(len(others[1]), "f4"))], start=1):
        for _ in range(3):
            train(network, arguments[0], weights=arguments[1] if arguments[1:] else None)
        assert len(driver.recordings) == expected
    train(network, short)
    assert len(driver.recordings) == 3
    mlp_ops.standardize(np.ones(SIZES[0]), 2.0)
    for _ in range(3):
        train(network, short)
    assert len(driver.recordings) == 4
    assert of_kernel(driver.recordings[3], "standardize")[0][1] is network.mean


def test_array_code_is_not_recorded(backend, data):
    network = bound(backend, tier=1)
    for _ in range(3):
        train(network, data)
    assert not backend.driver.recordings
    assert not backend.driver.launched


def test_a_network_goes_with_its_last_name(backend, data):
    """No circle holds its device arrays until the next collection of garbage."""
    network = bound(backend)
    train(network, data)
    gone = weakref.ref(network)
    del network
    assert gone() is None


# CuPy's own recording.


class Stream:
    """CuPy's, as far as a capture goes; calls are the last stream's."""

    calls: ClassVar[list[str]] = []

    def __init__(self, non_blocking):
        self.calls[:] = ["non-blocking" if non_blocking else "blocking"]

    def __enter__(self):
        self.calls.append("enter")

    def __exit__(self, *error):
        self.calls.append("exit")

    def begin_capture(self):
        self.calls.append("begin")

    def end_capture(self):
        self.calls.append("end")
        return SimpleNamespace(launch=lambda: self.calls.append("launch"))


@pytest.fixture
def cupy_driver(monkeypatch):
    """A CupyDriver on a CuPy that has streams, and functions that do nothing."""
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Stream=Stream)))
    error = SimpleNamespace(CUDADriverError=OSError)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api.driver", error)
    driver = CupyDriver.__new__(CupyDriver)
    driver._captured = None
    driver._function = lambda program: lambda *arguments, **options: None
    return driver


def test_a_capture_is_on_a_stream_of_its_own_and_keeps_its_arrays(cupy_driver):
    array = np.zeros(3)
    alive = weakref.ref(array)
    launch = cupy_driver.load(Program("dense.cu", "add_bias", ()))
    repeat = cupy_driver.record(lambda array=array: launch((1,), (1,), (array,)))
    del array
    assert Stream.calls == ["non-blocking", "enter", "begin", "end", "exit"]
    assert alive() is not None
    repeat()
    assert Stream.calls[-1] == "launch"
    del repeat
    assert alive() is None


def test_a_capture_ends_with_an_error_in_it(cupy_driver):
    with pytest.raises(ZeroDivisionError):
        cupy_driver.record(lambda: 1 / 0)
    assert Stream.calls[-2:] == ["end", "exit"]
    assert cupy_driver._captured is None


# What parity's cases are too small for, or too tidy.


@pytest.fixture(scope="module")
def few_multiprocessors(can_emulate):
    """multiply(multiprocessors) of an emulated device: the fewer it has, the larger are the tiles."""
    from fastmlp.kernels.cuda.emulation import EmulatedDriver

    return lambda count: EmulatedBackend(EmulatedDriver(replace(DEVICE, multiprocessors=count)))


@pytest.mark.parametrize(("multiprocessors", "tile"), [(2, 64), (16, 32), (132, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_tile_emulated(few_multiprocessors, multiprocessors, tile, dtype, rng):
    backend = few_multiprocessors(multiprocessors)
    m, k, n = 70, 131, 66
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    assert Dense(backend.driver, backend.asarray)._tiling(m, n, k).tile == tile
    for left in (backend.asarray(a), backend.asarray(a.T.copy()).T):
        for right in (backend.asarray(b), backend.asarray(b.T.copy()).T):
            out = backend.empty((m, n), dtype)
            backend.kernels["matmul"](left, right, out)
            np.testing.assert_allclose(out, a @ b, rtol=0, atol=200 * np.finfo(dtype).eps)


def test_arrays_that_begin_anywhere_emulated(few_multiprocessors, rng):
    backend = few_multiprocessors(132)
    numbers = backend.asarray(rng.standard_normal(1 + 8 * 8).astype("f4"))
    shifted = numbers[1:].reshape(8, 8)
    out, product = backend.empty((3, 8), "float32"), backend.empty((8, 8), "float32")
    index = backend.asarray(np.array([7, 0, 7]))
    backend.kernels["gather"](shifted, index, out)
    np.testing.assert_array_equal(out, shifted[index])
    backend.kernels["matmul"](shifted, shifted.T, product)
    np.testing.assert_allclose(product, shifted @ shifted.T, rtol=1e-5)
