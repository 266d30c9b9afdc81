"""NumPy in array code whose products sum their terms in order, one after another.

BLAS splits a sum as it suits the processor, and errs more or less by that. What NumPy errs in order is the same
everywhere, and hardly less than in any other order that splits the sum.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from numpy.typing import NDArray


class NumpyInOrder:
    """An array module: matmul is our own, all else is NumPy's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(xp, name)

    @staticmethod
    def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """a (..., m, k) times b (..., k, n), each term rounded before it is added."""
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        sums = np.zeros((*shape, a.shape[-2], b.shape[-1]), np.result_type(a, b))
        for k in range(a.shape[-1]):
            sums += a[..., :, k, None] * b[..., None, k, :]
        return sums
