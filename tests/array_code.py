"""The array code of ops on NumPy, for planted bugs to start from."""

from typing import Any

import numpy as np

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing import CASES

ARRAY_CODE = {case.op: case.array_code for case in CASES.values()}


def run(op: str, *arguments: Any) -> None:
    with np.errstate(all="ignore"):
        ARRAY_CODE[op](NumpyBackend.xp, *arguments)
