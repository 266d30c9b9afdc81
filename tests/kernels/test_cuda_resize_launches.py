"""How the resizing is launched: grids, blocks, shared memory, arguments."""

import numpy as np
import pytest

from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.resize import Resize
from tests.kernels.launches import BLOCKS_A_MULTIPROCESSOR, RecordingDriver

AT_ONCE = 132 * BLOCKS_A_MULTIPROCESSOR


@pytest.fixture
def driver():
    return RecordingDriver()


@pytest.mark.parametrize(
    ("size", "dtype", "threads"),
    [(224, "float32", 192), (224, "uint16", 96), (1, "float32", 32), (2000, "float32", 256)],
)
def test_resizing_takes_a_block_a_row(driver, size, dtype, threads):
    images, out = np.zeros((2, 3, 5, 6), np.uint8), np.empty((2, size, size, 3), dtype)
    scale, shift = np.ones(3, "f4"), np.zeros(3, "f4")
    Resize(driver)(images, scale, shift, out)
    (launched,) = driver.launched
    assert launched.block == (threads,)
    assert launched.grid == (min(2 * size, AT_ONCE),)
    assert launched.program.shared_memory == 3 * 6 * 4
    assert launched.constants == {"BFLOAT16": "1" if dtype == "uint16" else "0"}
    assert all(got is given for got, given in zip(launched.arguments, (images, scale, shift, out), strict=False))
    assert [(type(value), int(value)) for value in launched.arguments[4:]] == [
        (np.int32, number) for number in (2 * size, 5, 6, size)
    ]


def test_resizing_no_images_is_no_launch(driver):
    Resize(driver)(np.zeros((0, 3, 5, 6), np.uint8), np.ones(3, "f4"), np.zeros(3, "f4"), np.empty((0, 8, 8, 3), "f4"))
    assert driver.launched == []


def test_arrays_with_gaps_are_refused(driver):
    images, scale, shift = np.zeros((2, 3, 4, 8), np.uint8), np.ones(3, "f4"), np.zeros(3, "f4")
    out = np.empty((2, 8, 8, 6), "f4")
    for pictures, result in ((images[..., ::2], out[..., :3].copy()), (images, out[..., ::2])):
        with pytest.raises(UsageError, match="contiguous"):
            Resize(driver)(pictures, scale, shift, result)
    assert driver.launched == []
