"""What threads may share: every answer is the one that a single thread gets."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastmlp
from fastmlp import Augmenter, MLPClassifier, augment
from fastmlp.backends import open_backend
from fastmlp.cli.main import main
from fastmlp.extractors.patches import SHAPES, Codebook, Patches

PARTS, TIMES, THREADS = 6, 60, 4
Answer = Callable[[NDArray[Any]], NDArray[Any]]


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def assert_the_same_in_threads(answer: Answer, X: NDArray[Any]) -> None:
    parts = np.array_split(X, PARTS)
    alone = [answer(part) for part in parts]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = [pool.submit(answer, parts[time % PARTS]) for time in range(TIMES)]
    wrong = [time for time, got in enumerate(answers) if not np.array_equal(got.result(), alone[time % PARTS])]
    assert not wrong


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 40)).astype(np.float32)
    return X, (X @ rng.normal(size=(40, 5))).argmax(axis=1)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)


def opened(backend: str) -> str:
    if backend == "torch":
        pytest.importorskip("torch")
    return backend


BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])


@BACKENDS
def test_a_loaded_model(backend: str, rows: Any, tmp_path: Path) -> None:
    X, y = rows
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    assert main(["train", "--features", str(tmp_path / "rows.npz"), "--epochs", "2", "--out", str(tmp_path), "-q"]) == 0
    model = fastmlp.load_model(tmp_path / "head", opened(backend), threads=2)
    assert_the_same_in_threads(model.predict_proba, X)


@BACKENDS
def test_a_fitted_classifier(backend: str, rows: Any) -> None:
    classifier = MLPClassifier(backend=opened(backend), max_iter=2).fit(*rows)
    assert_the_same_in_threads(classifier.predict_proba, rows[0])


@BACKENDS
def test_an_extractor(backend: str, images: Any) -> None:
    rng = np.random.default_rng(0)
    codebook = Codebook(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()})
    assert_the_same_in_threads(Patches(codebook, open_backend(opened(backend), threads=2)), images[:24])


@BACKENDS
def test_augmentations(backend: str, images: Any) -> None:
    augmenter = Augmenter(backend=opened(backend)).fit(images)
    assert_the_same_in_threads(augmenter.fit_transform, images)
    assert_the_same_in_threads(lambda part: augment.rotate(part, np.linspace(-20, 20, len(part))), images)


@BACKENDS
def test_classifiers_trained_at_the_same_time(backend: str, rows: Any) -> None:
    X, y = rows

    def weights(seeds: NDArray[Any]) -> NDArray[Any]:
        trained = MLPClassifier(backend=opened(backend), max_iter=2, batch_size=64, random_state=int(seeds[0]))
        return trained.fit(X, y).coefs_[0]

    assert_the_same_in_threads(weights, np.arange(PARTS))
