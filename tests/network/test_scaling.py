"""Standardisation loses no digits to an offset, whatever the dtype, the blocks and the order the rows come in."""

from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.network import scaling
from fastmlp.network.scaling import Moments, Scaling
from fastmlp.training.samples import ChunkedSamples, Samples

OFFSETS = {
    "float64": 1.7e9,
    "longdouble": 1.7e9,
    "int64": 1.7e9,
    "uint32": 1.7e9,
    "float32": 1e5,
    "float16": 16,
    "uint8": 99,
}


def rows(dtype: str, count: int = 3000) -> np.ndarray:
    """(n, 3): one with an offset and a spread of 30 (float16: 0.5), a plain one, a constant one."""
    rng = np.random.default_rng(0)
    spread = 0.5 if dtype == "float16" else 30
    columns = (
        OFFSETS[dtype] + spread * rng.normal(size=count).clip(-3, 3),
        50 + 9 * rng.normal(size=count),
        np.full(count, 7),
    )
    return np.stack(columns, 1).astype(dtype)


def exact(X: np.ndarray) -> np.ndarray:
    wide = X.astype(np.longdouble)
    return (wide - wide.mean(axis=0)) / np.where(wide.std(axis=0) > 0, wide.std(axis=0), 1)


@pytest.mark.parametrize("dtype", OFFSETS)
@pytest.mark.parametrize("block", [1, 7, 1024])
def test_any_dtype_with_any_offset(dtype: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK", block)
    X = rows(dtype, 500)
    scaled = Moments.of(X).scaling(each=True).applied(X, "float32")
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, exact(X), atol=1e-5)
    assert not scaled[:, 2].any(), "a constant only loses its mean"


def test_together_keeps_the_features_relative_spreads() -> None:
    X = rows("float64")
    scaled = Moments.of(X).scaling(each=False).applied(X, "float64")
    np.testing.assert_allclose(
        np.ptp(scaled[:, 0]) / np.ptp(scaled[:, 1]), np.ptp(X[:, 0]) / np.ptp(X[:, 1]), rtol=1e-6
    )
    assert np.mean(scaled**2) == pytest.approx(1)


def test_weights_count_rows() -> None:
    X, weights = rows("float64", 60), np.random.default_rng(1).integers(1, 4, 60)
    weighted, repeated = Moments.of(X, weights.astype(float)), Moments.of(np.repeat(X, weights, axis=0))
    assert weighted.weight == repeated.weight
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-15)
    np.testing.assert_allclose(weighted.squares, repeated.squares, rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e-300, 1.7e9, -3e38])
def test_a_constant_feature_has_no_deviation_to_divide_by(value: float) -> None:
    X = np.full((2500, 2), value, np.float32 if value == 0.1 else np.float64)
    assert Moments.of(X).scaling(each=True).scale.tolist() == [1, 1]


def test_noise_of_rounding_is_not_blown_up() -> None:
    ulps = np.random.default_rng(0).integers(-2, 3, 400)
    X = (np.float32(0.1) + ulps.astype(np.float32) * np.spacing(np.float32(0.1)))[:, None]
    assert np.abs(Moments.of(X).scaling(each=True).applied(X, "float64")).max() < 1e-6


class Small(type(open_backend("numpy"))):  # type: ignore[misc]
    """A device with room for few rows."""

    def memory_budget(self) -> int:
        return 5000


@pytest.mark.parametrize("backend", [open_backend("numpy"), Small()], ids=["placed", "chunked"])
@pytest.mark.parametrize("mapped", [False, True])
def test_samples_are_scaled_before_they_are_rounded(backend: Any, mapped: bool, tmp_path: Any) -> None:
    X, y = rows("float64"), np.zeros(3000, np.int64)
    if mapped:
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    samples = Samples.place(backend, X, y, "float32", Moments.of(X).scaling(each=True))
    assert isinstance(samples, ChunkedSamples) == isinstance(backend, Small)
    chunks = samples._in_order() if isinstance(samples, ChunkedSamples) else [(samples.features, None, None)]
    given = np.concatenate([features.copy() for features, _, _ in chunks])
    np.testing.assert_allclose(given, exact(X), atol=1e-5)


def test_infinity_stays_infinite() -> None:
    scaling = Scaling(np.zeros(1), np.ones(1))
    assert np.isinf(scaling.applied(np.array([[1e300]]), "float32")).all()


@pytest.mark.parametrize("dtype", OFFSETS)
@pytest.mark.parametrize("compiled", [True, False])
def test_rows_taken_are_those_that_apply_writes_to_the_last_bit(
    dtype: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(scaling, "_compiled", lambda *_: None)
    X, places = rows(dtype, 300), np.array([3, 3, 299, 0, *range(40, 200, 3)])
    X[7, 1] = np.nan if X.dtype.kind == "f" else 0
    for stored in (X, np.asfortranarray(X), X.astype(X.dtype.newbyteorder())):
        for found in (Moments.of(rows(dtype)).scaling(each=True), Scaling.to_unit_length(3)):
            out = np.empty((len(places), 3), np.float32)
            found.take(stored, places, out)
            np.testing.assert_array_equal(out, found.applied(X[places], "float32"))
