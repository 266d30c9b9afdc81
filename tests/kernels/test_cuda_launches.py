"""What the MLP's ops launch on CUDA, seen by a driver that only takes notes; and what parity's cases are too small for.

No GPU and no compiler, but for the tests whose names end in "emulated".
"""

import inspect
import re
import sys
import weakref
from dataclasses import replace
from itertools import pairwise
from threading import Thread
from types import SimpleNamespace
from typing import ClassVar

import array_api_compat.numpy
import numpy as np
import pytest

from fastmlp.backends.cuda_graphs import RECORDED_STEPS
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.dense import CudaOps, Finish
from fastmlp.kernels.cuda.driver import CupyDriver, Device, Program, Recording
from fastmlp.kernels.cuda.fused_epoch import TASK
from fastmlp.kernels.cuda.fused_steps import LAYER, MOST_SLOTS, MOST_WORK, NETWORK, fuses_steps
from fastmlp.kernels.cuda.one_block import MANY_NETWORKS
from fastmlp.kernels.cuda.sources import source
from fastmlp.network.optimizers import OPTIMIZERS, SGD, make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.ops.network import NetworkOps
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

    def empty(self, shape, dtype):
        return np.zeros(shape, dtype)  # no kernel fills it


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
def ops(driver):
    return CudaOps(array_api_compat.numpy, driver, lambda array: Placed(array.shape, array.dtype))


# One op, one launch, however many rows.


def floats(*shape, dtype="float32"):
    return Placed(shape, dtype)


def integers(*shape):
    return Placed(shape, "int64")


def softmax(rows, classes, dtype="float32"):
    logits = floats(rows, classes, dtype=dtype)
    return (logits, integers(rows), logits, floats(1, dtype=dtype), integers(1))


def weighted(rows, classes):
    logits, labels, *outputs = softmax(rows, classes)
    return (logits, labels, floats(rows), *outputs)


def update(optimizer, count, dtype="float32"):
    slots = floats(1 + len(optimizer.moments), count, dtype=dtype)
    (row,) = optimizer.coefficients(np.full(1, 0.1), first_step=1)
    return (optimizer, slots, floats(count, dtype=dtype), tuple(row.tolist()), True, slots)


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

# op, its arguments, and what the launch's last arguments tell the kernel of them
LAUNCHES = [
    ("gather", (floats(9, 512), integers(64), floats(64, 512)), (64, 512)),
    ("gather", (floats(9, 10, dtype="float64"), integers(64), floats(64, 10, dtype="float64")), (64, 10)),
    ("gather", (integers(9), integers(64), integers(64)), (64, 1)),
    ("gather", (floats(9, 512), integers(HUGE), floats(HUGE, 512)), (HUGE, 512)),
    ("standardize", (floats(64, 512), floats(512), 1.5, floats(64, 512)), (64 * 512, 512)),
    ("add_bias", (floats(37, 10), floats(10), floats(37, 10)), (370, 10)),
    ("add_bias", (floats(HUGE, 64), floats(64), floats(HUGE, 64)), (64 * HUGE, 64)),
    ("bias_relu", (floats(64, 64), floats(64), floats(64, 64)), (4096, 64)),
    ("relu_backward", (floats(64, 64), floats(64, 64), floats(64, 64)), (4096,)),
    ("column_sum", (floats(64, 70), floats(70)), (64, 70)),
    ("column_sum", (floats(0, 70, dtype="float64"), floats(70, dtype="float64")), (0, 70)),
    ("column_sum", (floats(1, HUGE), floats(HUGE)), (1, HUGE)),
    ("softmax_xent", softmax(64, 10), (64, 10)),
    ("softmax_xent", softmax(0, 10), (0, 10)),
    ("softmax_xent", softmax(2048, 10), (2048, 10)),
    ("softmax_xent", softmax(3, 1000, "float64"), (3, 1000)),
    ("softmax_xent", softmax(HUGE, 1000), (HUGE, 1000)),
    ("weighted_softmax_xent", weighted(37, 10), (37, 10)),
    *(("update", update(make_optimizer(name), 32768), (32768,)) for name in OPTIMIZERS),
    ("update", update(make_optimizer("adam"), 8 * HUGE, "float64"), (8 * HUGE,)),
    ("matmul", matrices(64, 512, 64), (64, 512, 64, False, False, Finish.NOTHING)),
    ("matmul", matrices(4096, 512, 99, "float64"), (4096, 512, 99, False, False, Finish.NOTHING)),
    ("matmul", matrices(64, 0, 64), (64, 0, 64, False, False, Finish.NOTHING)),
    ("matmul", matrices(HUGE, 3, 2**10), (HUGE, 3, 2**10, False, False, Finish.NOTHING)),
    ("dense", layer(64, 64, 10), (64, 64, 10, False, False, Finish.BIAS)),
    ("dense_relu", layer(64, 512, 64), (64, 512, 64, False, False, Finish.BIAS_RELU)),
    ("dense_backward", backward(64, 10, 64), (64, 10, 64, False, True, Finish.ACTIVE)),
    ("dense_gradients", gradients(64, 512, 64), (512, 64, 64, True, False, Finish.COLUMN_SUMS)),
]

ROLES = {  # what a kernel's parameter is to an op
    "dense": {"b": "weight", "given": "bias"},
    "dense_relu": {"b": "weight", "given": "bias"},
    "dense_backward": {"a": "delta", "b": "weight", "given": "activation"},
    "dense_gradients": {"a": "inputs", "b": "delta", "out": "weight_gradient", "column_sums": "bias_gradient"},
}


def parameters(program):
    """(type, name) of each of a kernel's parameters, as its source has them."""
    (listed,) = re.findall(rf"\b{program.kernel}\(([^)]*)\)\s*\{{", source(program.file, program.options))
    return [tuple(one.removeprefix("const ").split(" ")) for one in " ".join(listed.split()).split(", ")]


def assert_fits(noted, given, roles):
    """The launch's arguments have the kernel's types, and each array that the op has under that name is that array."""
    names = {"float": "float32", "double": "float64", "int": "int32", "int64": "int64", "bool": "bool"}
    wanted = parameters(noted.program)
    assert len(wanted) == len(noted.arguments)
    for (kind, name), argument in zip(wanted, noted.arguments, strict=True):
        element = kind.removesuffix("*")
        assert argument.dtype.name == names[noted.constants.get(element, element)], name
        assert isinstance(argument, Placed if kind.endswith("*") else np.generic), name
        expected = given.get(roles.get(name, name))
        if isinstance(expected, Placed):
            assert argument is expected or argument is expected.T, name


@pytest.mark.parametrize(("op", "arguments", "told"), LAUNCHES)
def test_an_op_is_one_launch_within_the_devices_limits(driver, ops, op, arguments, told):
    getattr(ops, op)(*arguments)
    (noted,) = driver.launched
    (blocks,), (threads,) = noted.grid, noted.block
    assert 0 < blocks <= GRID_LIMIT
    assert 0 < threads <= 1024
    assert threads % 32 == 0
    assert noted.program.shared_memory <= DEVICE.shared_memory
    names = list(inspect.signature(getattr(NetworkOps, op)).parameters)[1:]
    assert_fits(noted, dict(zip(names, arguments, strict=True)), ROLES.get(op, {}))
    assert told in (noted.arguments[-len(told) :], noted.arguments[-len(told) - 1 : -1])


EMPTY = [
    ("gather", (floats(9, 512), integers(0), floats(0, 512))),
    ("bias_relu", (floats(0, 10), floats(10), floats(0, 10))),
    ("matmul", matrices(0, 5, 3)),
    ("column_sum", (floats(5, 0), floats(0))),
    *(("update", update(make_optimizer(name), 0)) for name in OPTIMIZERS),
]


@pytest.mark.parametrize(("op", "arguments"), EMPTY)
def test_what_has_nothing_to_fill_launches_nothing(driver, ops, op, arguments):
    getattr(ops, op)(*arguments)
    assert not driver.launched


@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_transposed_views_are_taken_as_they_lie(driver, ops, a_transposed, b_transposed):
    stored_a, stored_b = floats(*((5, 7) if a_transposed else (7, 5))), floats(*((9, 5) if b_transposed else (5, 9)))
    ops.matmul(stored_a.T if a_transposed else stored_a, stored_b.T if b_transposed else stored_b, floats(7, 9))
    (noted,) = driver.launched
    assert noted.arguments[:2] == (stored_a, stored_b)
    assert noted.arguments[5:] == (7, 5, 9, a_transposed, b_transposed, Finish.NOTHING)


@pytest.mark.parametrize("op", ["add_bias", "bias_relu"])
def test_arrays_with_gaps_are_refused(driver, ops, op):
    with pytest.raises(UsageError, match="contiguous"):
        getattr(ops, op)(Placed((4, 4), gaps=True), floats(4), floats(4, 4))
    assert not driver.launched


def test_a_steps_numbers_are_placed_once_and_those_on_the_device_not_at_all(driver):
    placed = []

    def place(array):
        placed.append(array)
        return Placed(array.shape, array.dtype)

    ops = CudaOps(array_api_compat.numpy, driver, place)
    optimizer, slots, gradient, row, _, out = update(make_optimizer("adam", 0.5), 8)
    for decays in (True, False):
        ops.update(optimizer, slots, gradient, row, decays, out)
    assert [array.tolist() for array in placed] == [list(row)]
    on_device = Placed((3,), "float64")
    ops.update(optimizer, slots, gradient, on_device, True, out)
    assert len(placed) == 1
    weights, biases, recorded = (noted.arguments for noted in driver.launched)
    assert weights[2] is biases[2]
    assert recorded[2] is on_device
    assert [bool(arguments[3]) for arguments in (weights, biases, recorded)] == [True, False, True]


def test_the_step_of_an_optimizer_without_a_kernel_is_array_code(driver):
    class Halving(SGD):
        name = "halving"

        def step(self, xp, gradient, moments, coefficients):
            return gradient / 2, ()

    slots = np.ones((1, 4))
    CudaOps(array_api_compat.numpy, driver, np.array).update(Halving(), slots, np.ones(4), (1.0, 0.1), True, slots)
    assert slots.tolist() == [[0.5] * 4]
    assert not driver.launched


# Epochs.

SIZES, BATCH = (6, 5, 3), 2
STEPS = RECORDED_STEPS + 7  # a whole part and another
ROWS = BATCH * STEPS - 1  # the last batch has one row


@pytest.fixture(params=["fused steps", "steps op by op"])
def backend(request):
    (way,) = (way for way in NotingBackend().step_ways() if way.way == request.param)
    return way


@pytest.fixture
def op_by_op(backend):
    return backend.fused_work == 0


@pytest.fixture
def data():
    return np.zeros((ROWS, SIZES[0]), "f4"), np.zeros(ROWS, np.int64)


def bound(backend, tier=Tier.FUSED_OPS):
    return Trainer(initial_parameters(SIZES), backend, BATCH, tier)


def train(trainer, data, epoch=0, weights=None):
    """One epoch; its order and learning rates."""
    order = np.random.default_rng(epoch).permutation(len(data[1]))
    rates = np.linspace(1, 2, -(-len(order) // BATCH)) + epoch
    features, labels = data
    train_epoch_together([trainer], features, labels, [order], [rates], weights)
    return order, rates


def test_an_epoch_is_recorded_once_and_repeated(backend, data):
    driver, trainer = backend.driver, bound(backend)
    train(trainer, data)
    a_step = len(driver.launched) // STEPS
    assert a_step * STEPS == len(driver.launched)  # the first epoch is launched as it is: kernels are compiled by it
    assert not driver.recordings
    for epochs in (1, 2, 3):
        train(trainer, data)
        assert [len(recording) for recording in driver.recordings] == [RECORDED_STEPS * a_step, 7 * a_step]
        assert len(driver.repeated) == 2 * epochs
        assert len(driver.launched) == a_step * STEPS


def of_kernel(recording, kernel):
    """The arguments of each of its launches, by name."""
    launches = [noted for noted in recording if noted.program.kernel == kernel]
    return [
        dict(zip((name for _, name in parameters(noted.program)), noted.arguments, strict=True)) for noted in launches
    ]


def test_what_changes_from_epoch_to_epoch_is_in_memory_that_is_bound(backend, op_by_op, data):
    trainer = bound(backend)
    for epoch in range(4):
        order, rates = train(trainer, data, epoch)
    recording = backend.driver.recordings[0]
    # the second, last part was sent after the first: its memory is the recording's that stayed behind
    rows = RECORDED_STEPS * BATCH
    if op_by_op:
        gathered = of_kernel(recording, "gather")[::2]  # in turns with labels
        assert all(arguments["source"] is data[0] for arguments in gathered)
        orders = [arguments["index"] for arguments in gathered]
        updates = of_kernel(recording, "update")
        groups = (trainer.network.weights, trainer.network.biases)
        for group, of_group in zip(groups, (updates[::2], updates[1::2]), strict=True):
            assert all(u["slots"] is group.slots and u["out"] is group.slots for u in of_group)
            assert all(u["gradient"] is group.gradient for u in of_group)
        updates, losses = updates[::2], of_kernel(recording, "softmax_xent")
    else:
        orders, updates = [], of_kernel(recording, "descend")
        for kernel in ("gather_forward", "descend"):
            assert all(arguments["features"] is data[0] for arguments in of_kernel(recording, kernel))
        for kernel in ("gather_forward", "head", "descend"):
            orders = [arguments["orders"] for arguments in of_kernel(recording, kernel)]
            np.testing.assert_array_equal(np.concatenate(orders), order[:rows])
        losses = updates
    np.testing.assert_array_equal(np.concatenate(orders), order[:rows])
    np.testing.assert_array_equal([u["coefficients"].ravel()[1] for u in updates], rates[:RECORDED_STEPS])
    # a float32 a step, one after another
    np.testing.assert_array_equal(np.diff([arguments["loss"].ctypes.data for arguments in losses]), 4)


def test_losses_and_hits_of_all_parts_come_back(backend, op_by_op, data):
    trainer = bound(backend)
    train(trainer, data)
    train(trainer, data)
    for part, recording in enumerate(backend.driver.recordings):
        for arguments in of_kernel(recording, "softmax_xent" if op_by_op else "descend"):
            arguments["loss"][...], arguments["hits"][...] = part + 1, 1  # as the kernel would
    loss, accuracy = trainer.train_epoch(*data, np.arange(ROWS), np.ones(STEPS))
    assert loss == pytest.approx((RECORDED_STEPS * 1 + 7 * 2) / ROWS)
    assert accuracy == STEPS / ROWS


def test_weights_set_between_epochs_are_set_where_the_recording_reads_them(backend, op_by_op, data):
    trainer = bound(backend)
    for _ in range(2):
        train(trainer, data)
    state = {**trainer.state, "weights": trainer.state["weights"] + 1}
    trainer.state = state
    train(trainer, data)
    assert len(backend.driver.recordings) == 2
    recording, first = backend.driver.recordings[0], trainer.network.weights.values[0]
    if op_by_op:
        np.testing.assert_array_equal(of_kernel(recording, "update")[0]["slots"], state["weights"][None])
    else:
        table = of_kernel(recording, "descend")[0]["table"].view(LAYER)
        assert table["weights"][0, 0] == first.ctypes.data
        assert of_kernel(recording, "gather_forward")[0]["table"] is of_kernel(recording, "descend")[0]["table"]
    np.testing.assert_array_equal(first.ravel(), state["weights"][: first.size])


def test_what_a_recording_has_not_bound_is_recorded_anew(backend, op_by_op, data):
    trainer, driver = bound(backend), backend.driver
    short = tuple(array[: 3 * BATCH] for array in data)
    others = tuple(array.copy() for array in short)
    for expected, arguments in enumerate([(short,), (others,), (others, np.ones(len(others[1]), "f4"))], start=1):
        for _ in range(3):
            train(trainer, arguments[0], weights=arguments[1] if arguments[1:] else None)
        assert len(driver.recordings) == expected
    train(trainer, short)
    assert len(driver.recordings) == 3
    trainer.standardize(np.ones(SIZES[0]), 2.0)
    for _ in range(3):
        train(trainer, short)
    assert len(driver.recordings) == 4
    arguments = of_kernel(driver.recordings[3], "standardize" if op_by_op else "gather_forward")[0]
    if op_by_op:
        assert arguments["mean"] is trainer.network.mean
    else:
        (network,) = arguments["networks"].view(NETWORK)
        assert network["mean"] == trainer.network.mean.ctypes.data


LAUNCHES_OF_A_STEP = [
    ((6, 5, 3), ["gather_forward", "head", "descend"]),
    ((6, 3), ["gather_forward", "softmax_rows", "descend"]),
    ((6, 5, 40), ["gather_forward", "forward", "softmax_rows", "backward", "descend"]),
    ((6, 2000, 10), ["gather_forward", "forward", "softmax_rows", "backward", "descend"]),  # the head has no room
    ((6, 5, 4, 7, 3), ["gather_forward", "forward", "forward", "head", "backward", "backward", "descend"]),
]


@pytest.mark.parametrize(("sizes", "kernels"), LAUNCHES_OF_A_STEP)
@pytest.mark.parametrize("batch", [64, 4096])
def test_a_step_is_few_launches(sizes, kernels, batch):
    """Of L layers 2 L - 1 with few classes, 2 L + 1 otherwise, with the memory that each block may take."""
    backend = NotingBackend()
    trainer = Trainer(initial_parameters(sizes), backend, batch, Tier.FUSED_OPS)
    rows = batch + 1
    train_epoch_together(
        [trainer], np.zeros((rows, sizes[0]), "f4"), np.zeros(rows, np.int64), [np.arange(rows)], [np.ones(2)]
    )
    driver = backend.driver
    assert isinstance(driver, RecordingDriver)
    launched = driver.launched
    assert [noted.program.kernel for noted in launched] == 2 * kernels
    for noted in launched:
        assert noted.block == (256,)
        assert noted.program.shared_memory <= 48 * 1024
        assert [type(argument) for argument in noted.arguments if isinstance(argument, int)] == []
    table = launched[-1].arguments[3].view(LAYER)
    blocks = [
        -(-k // int(tile)) * -(-n // int(tile)) for k, n in pairwise(sizes) for tile in [launched[-1].constants["TILE"]]
    ]
    assert table["first_block"].tolist() == [sum(blocks[:layer]) for layer in range(len(blocks))]
    assert launched[-1].grid == (sum(blocks) + 1, 1)


def test_large_products_and_what_has_no_fused_step_run_op_by_op():
    class Halving(SGD):
        name = "halving"

    class Many(SGD):
        moments = ("a",) * MOST_SLOTS

    def fuses(batch, optimizer):
        backend = NotingBackend()
        return fuses_steps(Trainer(initial_parameters(SIZES), backend, batch, None, optimizer).task(), MOST_WORK)

    most = MOST_WORK // (SIZES[0] * SIZES[1])
    assert fuses(most, SGD())
    assert not fuses(most + 1, SGD())
    assert not fuses(2, Halving())
    assert not fuses(2, Many())


@pytest.mark.parametrize(
    ("count", "kernel", "blocks"), [(MANY_NETWORKS - 1, "train_epoch", 8), (MANY_NETWORKS, "train_head", 1)]
)
def test_many_networks_have_a_block_each_and_those_of_one_seed_share_their_order(count, kernel, blocks):
    class Placing(NotingBackend):
        placed: ClassVar[list[np.ndarray]] = []

        def asarray(self, array):
            self.placed.append(array)
            return super().asarray(array)

    backend = Placing()
    orders = np.arange(130), np.arange(130)[::-1].copy()
    task = Trainer(initial_parameters((512, 64, 10)), backend, 64).task(orders[0], np.ones((3, 2)))
    tasks = [replace(task, order=orders[min(number, 1)], memory={}) for number in range(count)]
    backend.fused_epoch(tasks, np.zeros((130, 512), "f4"), np.zeros(130, np.int64))
    driver = backend.driver
    assert isinstance(driver, RecordingDriver)
    (noted,) = driver.launched
    assert noted.program.kernel == kernel
    assert noted.grid == (blocks * count,)
    assert len([array for array in backend.placed if any(array is order for order in orders)]) == len(orders)
    backend.fused_epoch(tasks[:3], np.zeros((130, 512), "f4"), np.zeros(130, np.int64))
    assert driver.launched[1].program == noted.program  # though others have ended
    table = noted.arguments[2].view(TASK)
    assert len(set(table["order"].tolist())) == len(orders)
    assert set(table["order"][1:].tolist()) == {table["order"][1]}


def test_array_code_is_not_recorded(backend, data):
    trainer = bound(backend, tier=Tier.ARRAY_CODE)
    for _ in range(3):
        train(trainer, data)
    assert not backend.driver.recordings
    assert not backend.driver.launched


def test_a_network_goes_with_its_last_name(backend, data):
    """No circle holds its device arrays until the next collection of garbage."""
    trainer = bound(backend)
    train(trainer, data)
    gone = weakref.ref(trainer)
    del trainer
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
    driver._recording = Recording()
    monkeypatch.setattr(driver, "_function", lambda program: lambda *arguments, **options: None)
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
    assert cupy_driver._recording.launches is None


def beside(work):
    """Do the work in another thread, to its end."""
    thread = Thread(target=work)
    thread.start()
    thread.join()


def test_a_capture_keeps_nothing_of_another_threads_launches(cupy_driver):
    array = np.zeros(3)
    alive = weakref.ref(array)
    launch = cupy_driver.load(Program("dense.cu", "add_bias", ()))
    repeat = cupy_driver.record(lambda array=array: beside(lambda: launch((1,), (1,), (array,))))
    del array
    assert alive() is None
    repeat()


def test_what_another_thread_launches_during_a_recording_runs_at_once_emulated(emulated):
    z, out = emulated.asarray(np.ones((2, 3), "f4")), emulated.asarray(np.zeros((2, 3), "f4"))
    bias = emulated.asarray(np.ones(3, "f4"))
    repeat = emulated.driver.record(lambda: beside(lambda: emulated.network_ops.add_bias(z, bias, out)))
    np.testing.assert_array_equal(out, 2)
    out[...] = 0
    repeat()
    np.testing.assert_array_equal(out, 0)


# What parity's cases are too small for, or too tidy.


@pytest.fixture(scope="module")
def few_multiprocessors(can_emulate):
    """multiply(multiprocessors) of an emulated device: the fewer it has, the larger are the tiles."""
    from fastmlp.kernels.cuda.emulation import EmulatedDriver

    return lambda count: EmulatedBackend(EmulatedDriver(replace(DEVICE, multiprocessors=count)))


@pytest.mark.parametrize(("multiprocessors", "tile"), [(2, 64), (16, 32), (132, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_tile_emulated(few_multiprocessors, multiprocessors, tile, dtype, rng, monkeypatch):
    backend = few_multiprocessors(multiprocessors)
    m, k, n = 70, 131, 66
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    load, loaded = backend.driver.load, []

    def noted(program):
        loaded.append(program)
        return load(program)

    monkeypatch.setattr(backend.driver, "load", noted)
    for left in (backend.asarray(a), backend.asarray(a.T.copy()).T):
        for right in (backend.asarray(b), backend.asarray(b.T.copy()).T):
            out = backend.empty((m, n), dtype)
            backend.network_ops.matmul(left, right, out)
            np.testing.assert_allclose(out, a @ b, rtol=0, atol=200 * np.finfo(dtype).eps)
    assert all(f"-DTILE={tile}" in program.options for program in loaded)
    assert loaded


def test_arrays_that_begin_anywhere_emulated(few_multiprocessors, rng):
    backend = few_multiprocessors(132)
    numbers = backend.asarray(rng.standard_normal(1 + 8 * 8).astype("f4"))
    shifted = numbers[1:].reshape(8, 8)
    out, product = backend.empty((3, 8), "float32"), backend.empty((8, 8), "float32")
    index = backend.asarray(np.array([7, 0, 7]))
    backend.network_ops.gather(shifted, index, out)
    np.testing.assert_array_equal(out, shifted[index])
    backend.network_ops.matmul(shifted, shifted.T, product)
    np.testing.assert_allclose(product, shifted @ shifted.T, rtol=1e-5)
