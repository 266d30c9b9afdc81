"""A sweep over all devices of a backend, on a stand-in for two: the results of one, each device in its own thread."""

import json
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import backends
from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.cli.main import main
from fastmlp.common.errors import BackendError
from fastmlp.experiments import parts

GRID = ["--learning-rates", "0.001,0.003", "--weight-decays", "0,0.1", "--widths", "8,16", "--seeds", "3"]
TIMES = ("seconds", "environment", "heads_per_second")


class Pair(NumpyBackend):
    """Two devices; says which threads place data on each, and which of them has no memory left."""

    name = "pair"
    threads_of: ClassVar[defaultdict[str | None, set[int]]]
    full: ClassVar[str | None]

    def __init__(self, device: str | None = None) -> None:
        super().__init__(None)
        self.number = "0" if device == "all" else device
        if device == "all":
            self.devices = ("pair:0", "pair:1")

    def asarray(self, array: NDArray[Any]) -> Array:
        if self.number == self.full:
            raise BackendError("The GPU's memory is too small: end other programs on it (nvidia-smi).")
        self.threads_of[self.number].add(threading.get_ident())
        return super().asarray(array)


@pytest.fixture(autouse=True)
def pair(own_folders: None, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> type[Pair]:
    labels = rng.integers(0, 3, 300)
    X = (4 * np.eye(3, 8)[labels] + rng.normal(size=(300, 8))).astype(np.float32)
    np.savez("own.npz", features=X, labels=labels)
    monkeypatch.setitem(backends.OURS, "pair", f"{__name__}:Pair")
    monkeypatch.setattr(Pair, "threads_of", defaultdict(set), raising=False)
    monkeypatch.setattr(Pair, "full", "none", raising=False)
    monkeypatch.setattr(backends, "_class_of", lambda name: Pair)
    return Pair


def swept(out: str, backend: str, *options: str, code: int = 0) -> dict[str, Any]:
    command = ["sweep", "--features", "own.npz", "--backend", backend, "--threads", "1", "--epochs", "2", *GRID]
    assert main([*command, *options, "--out", out]) == code
    if code:
        return {}
    found = json.loads(Path(out, "sweep.json").read_text())
    model = {path.name: path.read_bytes() for path in Path(out, "best").glob("*.safetensors")}
    return {name: value for name, value in found.items() if name not in TIMES} | model


def test_a_sweep_over_two_devices_has_the_results_of_one(pair: type[Pair]) -> None:
    single = swept("one", "pair")
    pair.threads_of.clear()
    assert swept("two", "pair:all") == single
    assert not Path("two/parts").exists()
    first, second = pair.threads_of["0"], pair.threads_of["1"]
    assert len(second) == 1  # all that is on a device stays in one thread
    assert first - second == first
    assert threading.get_ident() in first  # which trains the chosen setting


def test_every_device_trains(pair: type[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """A part waits until the other device has begun one too."""
    begun, both = set(), threading.Barrier(2, timeout=30)
    train = parts.train_part

    def train_part(search: Any, part: parts.Part, kept: Any, held_out: Any, backend: Pair) -> Any:
        if backend.number not in begun:
            begun.add(backend.number)
            both.wait()
        return train(search, part, kept, held_out, backend)

    monkeypatch.setattr("fastmlp.experiments.parts.train_part", train_part)
    swept("two", "pair:all")
    assert begun == {"0", "1"}


REPRODUCE = ["reproduce", "--dataset", "synthetic:120", "--extractor", "pixels", "--threads", "1", "--epochs", "2"]


def reproduced(out: str, backend: str, *options: str) -> dict[str, Any]:
    assert main([*REPRODUCE, "--backend", backend, "--seeds", "3", "--out", out, *options]) == 0
    found = json.loads(Path(out, "results.json").read_text())
    assert ("seeds" in found["seconds"]) == (backend == "pair:all")
    return {name: found[name] for name in ("table1", "over_seeds", "claims", "history", "evaluation")}


@pytest.mark.usefixtures("few_pixels")
def test_seeds_of_both_models_train_side_by_side_to_the_bits_of_one_device(pair: type[Pair]) -> None:
    single = reproduced("one", "pair")
    pair.threads_of.clear()
    assert reproduced("two", "pair:all") == single
    assert len(pair.threads_of["1"]) == 1
    assert threading.get_ident() not in pair.threads_of["1"]
    assert reproduced("two", "pair:all", "--resume") == single


def test_a_device_without_memory_is_a_sentence_and_what_is_done_stays(
    pair: type[Pair], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    single = swept("one", "pair")
    monkeypatch.setattr(pair, "full", "1")
    swept("two", "pair:all", code=3)
    assert capsys.readouterr().err.splitlines()[-1].endswith("end other programs on it (nvidia-smi).")
    assert not Path("two/sweep.json").exists()
    monkeypatch.setattr(pair, "full", "none")
    assert swept("two", "pair:all") == single
