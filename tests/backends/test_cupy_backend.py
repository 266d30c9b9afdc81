"""The cupy backend itself, all but CuPy: its calls go to a stand-in for CuPy whose GPU is emulated."""

import time

import numpy as np
import pytest

from fastmlp import augment
from fastmlp.backends.cupy import CupyBackend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common import clock
from fastmlp.kernels.cuda.driver import CupyDriver, Program
from fastmlp.kernels.cuda.sources import define
from fastmlp.network.optimizers import OPTIMIZERS, SGD, make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.compare import assert_close, assert_levels
from tests.backends import fake_cupy

ROWS, BATCH = 50, 16
SIZES = {"fused": (24, 16, 5), "recorded": (24, 16, 12, 5)}
TOLERANCE = 1e-4  # as an epoch's


@pytest.fixture
def gpu(can_emulate, monkeypatch):
    return fake_cupy.install(monkeypatch)


def train(backend, sizes, dtype, optimizer, epochs=4):
    """The losses, a test's figures, and the state after that many epochs."""
    rng = np.random.default_rng(0)
    features = backend.asarray(rng.standard_normal((ROWS, sizes[0])).astype(dtype))
    labels = backend.asarray(rng.integers(0, sizes[-1], ROWS))
    trainer = Trainer(initial_parameters(sizes, "he", dtype=dtype), backend, BATCH, optimizer=optimizer)
    rates = np.linspace(0.1, 0.05, -(-ROWS // BATCH)) * (0.1 if optimizer.moments else 1)
    seen = [trainer.train_epoch(features, labels, rng.permutation(ROWS), rates) for _ in range(epochs)]
    return trainer.tier.tier, seen, trainer.evaluate(features, labels), trainer.state


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", SIZES)
def test_training_through_cupy_emulated(gpu, kind, name):
    optimizer = make_optimizer(name, 0.0 if name == SGD.name else 0.3)
    tier, seen, tested, state = train(CupyBackend(), SIZES[kind], "float32", optimizer)
    _, exact_seen, exact_tested, exact_state = train(NumpyBackend(), SIZES[kind], "float64", optimizer)
    assert tier == {"fused": Tier.FUSED_EPOCH, "recorded": Tier.FUSED_OPS}[kind]
    assert_close("losses and accuracies", np.array(seen), np.array(exact_seen), TOLERANCE)
    assert_close("test", np.array(tested), np.array(exact_tested), TOLERANCE)
    for array, values in exact_state.items():
        assert_close(array, state[array], values, TOLERANCE)


def test_an_epoch_is_launched_once_or_repeated_as_a_graph_emulated(gpu):
    """Neither takes the host a launch for each step, after the first epoch."""
    backend = CupyBackend()
    counts = {}
    for kind, sizes in SIZES.items():
        launched = []
        for epochs in (2, 3, 4):
            before = gpu.launched
            train(backend, sizes, "float32", SGD(), epochs)
            launched.append(gpu.launched - before)
        counts[kind] = np.diff(launched)
    assert (counts["fused"] == 1).all()
    assert (counts["recorded"] <= 1).all()


def test_augmentation_through_cupy_emulated(gpu):
    rng = np.random.default_rng(0)
    images = noise(rng, (60, 3, 32, 32))
    plan = augment.draw(rng, len(images))
    backend, sent = CupyBackend(), []
    send = backend._gpu.send

    def counted(source):
        sent.append(source.nbytes)
        return send(source)

    backend._staging._send = counted
    assert_levels("augmented", augment.apply(backend, images, plan), augment.apply(NumpyBackend(), images, plan))
    assert len(sent) == 1  # the parameters of all kinds, by one copy


def test_a_device_names_what_its_kernels_depend_on(gpu):
    device = CupyDriver().device
    assert (device.name, device.driver, device.compiler) == ("NVIDIA H100", "13000", "13.1")


def test_compiling_is_no_work(gpu, monkeypatch):
    """NVRTC takes seconds for a kernel, which the stage that first launches it does not."""
    jumped = 0.0
    monotonic, compile_kernel = time.monotonic, fake_cupy.RawKernel

    def slowly(function):
        nonlocal jumped
        jumped += 1000
        return compile_kernel(function)

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + jumped)
    monkeypatch.setattr(fake_cupy, "RawKernel", slowly)
    work, compiled = clock.work_seconds(), clock.compile_seconds()
    CupyDriver().load(Program("dense.cu", "add_bias", define(REAL="float")))
    assert jumped >= 1000
    assert clock.work_seconds() - work < 500
    assert clock.compile_seconds() - compiled == pytest.approx(jumped, abs=100)


def test_the_probe_tries_a_kernel_emulated(gpu):
    availability = CupyBackend.probe()
    assert availability.usable, availability
    assert availability.details["gpu"] == "NVIDIA H100"
    assert gpu.launched > 0
