"""How patch features are launched, and what their blocks find of the images before."""

import numpy as np
import pytest

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver
from fastmlp.kernels.cuda.patches import CudaPatchOps
from fastmlp.testing.compare import assert_close
from fastmlp.testing.emulated import DEVICES, EmulatedBackend
from fastmlp.testing.patch_cases import draw_patch_features
from fastmlp.testing.tolerances import STEP
from tests.kernels.launches import BLOCKS_A_MULTIPROCESSOR, RecordingDriver

SMALL = (5, 1, 8, 7, 6)  # images, channels, height, width, centroids


def drawn(shape, dtype="float32"):
    """The op's arrays for that shape, the last of them to be filled."""
    inputs = draw_patch_features(np.random.default_rng(0), shape, dtype)
    return *inputs.values(), np.empty((shape[0], 4 * shape[4]), dtype)


@pytest.mark.parametrize(
    ("memory", "dtype", "warps"),
    [(232_448, "float32", 8), (65_536, "float32", 4), (65_536, "float64", 2), (20_000, "float32", 1)],
)
def test_a_block_has_the_warps_for_which_there_is_memory(memory, dtype, warps):
    driver = RecordingDriver()
    driver.device = Device("small", 75, 2, memory)
    arrays = drawn((3, 3, 32, 32, 128), dtype)
    CudaPatchOps(np, driver).patch_features(*arrays)
    (launched,) = driver.launched
    assert launched.block == (32 * warps,)
    assert launched.program.shared_memory <= memory
    assert launched.constants == {"REAL": {"float32": "float", "float64": "double"}[dtype]}
    assert all(got is given for got, given in zip(launched.arguments, arrays, strict=False))
    assert [int(value) for value in launched.arguments[6:]] == [3, 3, 32, 32, 128]


def test_there_are_as_many_blocks_as_run_at_once():
    for n in (0, 7, 1000):
        driver = RecordingDriver()
        CudaPatchOps(np, driver).patch_features(*drawn((n, 1, 7, 7, 2)))
        at_once = driver.device.multiprocessors * BLOCKS_A_MULTIPROCESSOR
        assert [launched.grid for launched in driver.launched] == ([(min(n, at_once),)] if n else [])


@pytest.mark.parametrize("shape", [(1, 4, 8, 8, 6), (1, 1, 8, 8, 129), (1, 3, 300, 300, 6)])
def test_what_the_kernel_has_no_room_for_is_array_code(shape):
    driver = RecordingDriver()
    driver.device = Device("small", 75, 2, 65_536)
    got, expected = drawn(shape), drawn(shape)
    CudaPatchOps(NumpyBackend.xp, driver).patch_features(*got)
    NumpyBackend().patch_ops.patch_features(*expected)
    assert driver.launched == []
    np.testing.assert_array_equal(got[-1], expected[-1])


def test_arrays_with_gaps_are_refused():
    arrays = list(drawn(SMALL))
    arrays[-1] = np.empty((*arrays[-1].shape, 2), "float32")[..., 0]
    with pytest.raises(UsageError, match="contiguous"):
        CudaPatchOps(np, RecordingDriver()).patch_features(*arrays)


@pytest.mark.parametrize("device", [Device("tiny", 90, 1, 12_000), *DEVICES], ids=lambda device: device.name)
@pytest.mark.usefixtures("can_emulate")
def test_blocks_take_several_images_on_every_device(device):
    backend = EmulatedBackend(EmulatedDriver(device))
    got, expected = drawn(SMALL), drawn(SMALL, "float64")
    placed = [backend.asarray(array) for array in got]
    backend.patch_ops.patch_features(*placed)
    NumpyBackend().patch_ops.patch_features(*expected)
    assert_close("features", placed[-1], expected[-1], STEP["float32"])
