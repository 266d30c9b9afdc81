"""The augmentations' CUDA kernels, emulated, equal NumPy's array code to the bit, staged or not, and in plans."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import running
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda import augment as cuda
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.testing.op_case import Inputs, OpCase, Trial

Images = NDArray[np.uint8]


def run_on_numpy(case: OpCase, inputs: Inputs) -> Images:
    out = np.full(inputs["images"].shape, 170, np.uint8)
    case.array_code(NumpyBackend.xp, *inputs.values(), out)
    return out


def run_emulated(emulated: EmulatedBackend, case: OpCase, inputs: Inputs) -> Images:
    out = emulated.asarray(np.full(inputs["images"].shape, 170, np.uint8))
    emulated.image_kernels[case.op](*map(emulated.asarray, inputs.values()), out)
    return emulated.to_numpy(out)


@pytest.mark.usefixtures("can_emulate")
@pytest.mark.parametrize("case", AUGMENT_CASES, ids=lambda case: case.op)
@pytest.mark.parametrize("shape", [(67, 3, 4, 4), (67, 3, 5, 5)], ids=str)
def test_a_block_takes_many_images_emulated(
    case: OpCase, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged or not, sixteen bytes at a time or one; each image gets its own arguments and its own mean."""
    inputs = Trial(case, shape, "uint8", "part").inputs()
    expected = run_on_numpy(case, inputs)
    for staged_bytes in (cuda.STAGED_BYTES, 0):
        monkeypatch.setattr(cuda, "STAGED_BYTES", staged_bytes)
        one = EmulatedBackend(EmulatedDriver(Device("one of a multiprocessor", 90, 1, 232_448)))
        np.testing.assert_array_equal(run_emulated(one, case, inputs), expected)


def test_arrays_with_gaps_are_refused_emulated(emulated: EmulatedBackend) -> None:
    images, rows, flip = np.zeros((2, 3, 4, 8), np.uint8), np.arange(2), np.array([True, False])
    wide, narrow = images[..., ::2], images[..., :4].copy()
    for pictures, out in ((wide, narrow), (narrow, wide)):
        with pytest.raises(UsageError, match="contiguous"):
            emulated.image_kernels["hflip"](pictures, rows, flip, out)


def test_images_beyond_32_bit_places_are_refused_emulated(emulated: EmulatedBackend) -> None:
    class Huge:
        """One image of 2.7 GB that takes no memory."""

        shape, size, flags = (1, 3, 30_000, 30_000), 2_700_000_000, np.zeros(1).flags

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> "Huge":
            return self

    with pytest.raises(UsageError, match=r"up to 2,147,483,647 bytes each, not 2,700,000,000: scale them down"):
        emulated.image_kernels["hflip"](Huge(), np.arange(1), np.array([True]), np.empty(0))


# Plans.


def test_a_plan_equals_its_kinds_emulated(
    emulated: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one for more images than fit at once."""
    images = rng.integers(0, 256, (60, 3, 12, 10), dtype=np.uint8)
    plan = augment.draw(rng, 60, height=12, width=10)
    assert set(plan.kind) == set(range(4))
    expected = augment.apply(NumpyBackend(), images, plan)
    np.testing.assert_array_equal(augment.apply(emulated, images, plan), expected)
    monkeypatch.setattr(running, "BYTES_AT_ONCE", 25 * images[0].nbytes)
    np.testing.assert_array_equal(augment.apply(emulated, images, plan), expected)


def test_kernels_run_all_of_a_plan_emulated(emulated: EmulatedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind of the paper's falls back to array code: there is none to fall back to here."""
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    plan = augment.draw(np.random.default_rng(0), 40, height=8, width=8)
    monkeypatch.delattr(running, "on_rows")
    assert (augment.apply(emulated, images, plan) != images).any()
