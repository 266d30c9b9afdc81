"""A column with a large offset costs no accuracy wherever features are standardised: Unix times, 30 s apart."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLPClassifier

RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=1500)
Y = (SIGNAL > 0).astype(int)
TIMES = {
    "float64": np.stack([1.7e9 + 30 * SIGNAL, RNG.normal(size=1500)], 1),
    "int64": np.stack([1_700_000_000 + (1000 * SIGNAL).astype(int), RNG.integers(0, 9, 1500)], 1),
    "int64 ids": np.stack([2**60 + (1e6 * SIGNAL).astype(np.int64), RNG.integers(0, 9, 1500)], 1),
    "negative": np.stack([-5e12 + 1e3 * SIGNAL, RNG.normal(size=1500)], 1),
    "float32": np.stack([1e6 + 30 * SIGNAL, RNG.normal(size=1500)], 1).astype(np.float32),
}


def head(**options: Any) -> MLPClassifier:
    return MLPClassifier(backend="numpy", max_iter=20, **options)


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("preset", ["tabular", "fast"])
def test_fit_and_predict(kind: str, preset: str, recwarn: pytest.WarningsRecorder) -> None:
    X = TIMES[kind] if preset == "tabular" else TIMES[kind][:, :1]  # fast is for features of one scale
    model = head(preset=preset).fit(X, Y)
    assert model.score(X, Y) > 0.98
    assert pickle.loads(pickle.dumps(model)).score(X, Y) > 0.98
    assert not recwarn.list


def test_every_way_to_train(tmp_path: Path) -> None:
    X = TIMES["float64"]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert head(early_stopping=True).fit(X, Y).score(X, Y) > 0.98
    assert head().fit(mapped, Y).score(mapped, Y) > 0.98
    assert head().fit(X.tolist(), Y).score(X.tolist(), Y) > 0.98
    assert head(warm_start=True).fit(X, Y).fit(X, Y).score(X, Y) > 0.98
    assert head().fit(X, Y, sample_weight=1 + Y).score(X, Y) > 0.98
    parts = head()
    for _ in range(20):
        parts.partial_fit(X, Y, classes=[0, 1])
    assert parts.score(X, Y) > 0.98


def test_a_tensor_is_scaled_on_its_device() -> None:
    torch = pytest.importorskip("torch")
    from sklearn import config_context

    X, y = torch.asarray(TIMES["float64"]), torch.asarray(Y)
    with config_context(array_api_dispatch=True):
        model = MLPClassifier(max_iter=20).fit(X, y)
        assert (model.predict(X) == y).float().mean() > 0.98


def test_a_row_that_overflows_is_an_error() -> None:
    model = head().fit(TIMES["float64"], Y)
    with pytest.raises(ValueError, match=r"^Row 1 of X is too far from the rows of training for float32: check it.$"):
        model.predict([[1.7e9, 0], [1.7e9, 1e300]])
