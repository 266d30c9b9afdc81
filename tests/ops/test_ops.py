"""Ops as methods: what an op is, what overrides it, and that a composite takes what was overridden."""

import numpy as np
import pytest

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.ops import names_of, overridden
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps

A, B = np.full((3, 2), 2.0), np.full((2, 4), 5.0)


class Doubled(NetworkOps):
    """Its products are twice what they should be."""

    def matmul(self, a, b, out):
        super().matmul(a, b, out)
        out *= 2


def test_an_override_is_named():
    assert list(overridden(Doubled(NumpyBackend.xp), NetworkOps)) == ["matmul"]
    assert not list(overridden(NetworkOps(NumpyBackend.xp), NetworkOps))


@pytest.mark.parametrize("array_code", [NetworkOps, PatchOps])
def test_ops_are_the_public_methods(array_code):
    names = names_of(array_code)
    assert names
    assert all(callable(getattr(array_code, name)) and not name.startswith("_") for name in names)


@pytest.mark.parametrize(("op", "extra"), [("dense", [np.zeros(4)]), ("dense_relu", [np.zeros(4)])])
def test_a_composite_calls_what_was_overridden(op, extra):
    plain, doubled = np.empty((3, 4)), np.empty((3, 4))
    getattr(NetworkOps(NumpyBackend.xp), op)(A, B, *extra, plain)
    getattr(Doubled(NumpyBackend.xp), op)(A, B, *extra, doubled)
    np.testing.assert_array_equal(plain, 20.0)
    np.testing.assert_array_equal(doubled, 40.0)


def test_an_op_changes_no_input():
    a, b = A.copy(), B.copy()
    a.flags.writeable = b.flags.writeable = False
    out = np.empty((3, 4))
    NetworkOps(NumpyBackend.xp).matmul(a, b, out)
    np.testing.assert_array_equal(out, A @ B)
