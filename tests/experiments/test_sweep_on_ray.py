"""`fastmlp sweep --engine ray` on a stand-in for Ray: a local sweep's results, whoever died, whatever was there."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.cli.main import main
from fastmlp.common.errors import DataError
from fastmlp.experiments import parts
from fastmlp.experiments.candidates import Candidate, Head, Known, Setting, train_group
from fastmlp.experiments.ray_worker import Worker
from fastmlp.training.member import Blueprint
from fastmlp.training.recipe import PRESETS, Recipe
from fastmlp.training.samples import Samples
from tests.experiments.ray_stand_in import StandIn, every

pytestmark = pytest.mark.usefixtures("own_folders", "few_heads")

MACHINE = ["--backend", "numpy", "--threads", "1", "--epochs", "2"]
GRID = ["--learning-rates", "0.001,0.003", "--weight-decays", "0,0.1", "--widths", "8,16", "--seeds", "2"]
IMAGES = ["--dataset", "synthetic:60", "--extractor", "pixels", "--on", "augmented"]
ARRAY = ["--features", "own.npz"]
SHARDS = ["--features", "shards", "--memory", "35KB"]
PACKED = ["--features", "packed", "--memory", "35KB"]
ON_RAY = ["--engine", "ray", "--workers", "2"]
TIMES = ("seconds", "environment", "heads_per_second")


@pytest.fixture
def few_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a part."""
    monkeypatch.setattr(parts, "HEADS", 1)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


@pytest.fixture(autouse=True)
def features(own_folders: None, rng: np.random.Generator) -> None:
    """Of three classes: 300 rows in own.npz, and in shards of one kind and of another."""
    labels = rng.integers(0, 3, 300)
    X = (4 * np.eye(3, 8)[labels] + rng.normal(size=(300, 8))).astype(np.float32)
    np.savez("own.npz", features=X, labels=labels)
    for folder in ("shards", "packed"):
        Path(folder).mkdir()
    for number, (rows, own) in enumerate(zip(np.split(X, 20), np.split(labels, 20), strict=True)):
        np.savez(f"packed/{number:02}.npz", features=rows, labels=own)
        np.save(f"shards/{number:02}.npy", rows)
    np.save("y.npy", labels)


def swept(out: str, *options: str, code: int = 0) -> dict[str, Any]:
    """What the sweep leaves: its results, without times, and the files of its best model, but for reports."""
    assert main(["sweep", *MACHINE, *GRID, *options, "--out", out]) == code
    if code:
        return {}
    found = json.loads(Path(out, "sweep.json").read_text())
    model = {path.name: path.read_bytes() for path in Path(out, "best").glob("*.safetensors")}
    assert "model.safetensors" in model
    return {name: value for name, value in found.items() if name not in TIMES} | model


# Results.


@pytest.mark.parametrize("rows", [IMAGES, ARRAY, [*SHARDS, "--labels", "y.npy"], PACKED], ids=lambda rows: rows[1])
def test_results_are_those_of_a_local_sweep(ray: StandIn, rows: list[str]) -> None:
    local = swept("local", *rows)
    assert len(local["settings"]) == 8
    assert ("--memory" in rows) == (local["data"].get("window_rows") is not None)
    ray.dies = every(3, "train")
    assert swept("cluster", *rows, *ON_RAY) == local
    assert not ray.alive
    assert ray.closed == 1
    assert not Path("cluster/parts").exists()


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_parts_have_all_heads_of_a_sweep_in_their_order(size: int) -> None:
    heads = [head(width, seed) for width in (8, 16, 32) for seed in range(7)]
    made = parts.parts_of(heads, size)
    assert [one for part in made for one in part.heads] == heads
    assert [part.number for part in made] == list(range(len(made)))
    for part in made:
        assert len({one.blueprint.sizes for one in part.heads}) == 1
        assert len(part.heads) >= min(size, 7)


def head(width: int, seed: int, rate: float = 0.01, recipe: Recipe = PRESETS["paper"]) -> Head:
    own = recipe.changed(learning_rate=rate, epochs=2, batch_size=200, hidden_layer_sizes=(width,))
    return Head(Setting(rate, own.weight_decay, width), Blueprint((64, width, 5), own, seed, "float32"))


@pytest.mark.parametrize(("name", "threads"), [("numpy", 1), ("numba", 2), ("torch", 1)])
def test_how_heads_are_grouped_changes_no_bit(name: str, threads: int, rng: np.random.Generator) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    backend = open_backend(name, threads)
    labels = rng.integers(0, 5, 500)
    X = (np.eye(5, 64)[labels] + rng.normal(size=(500, 64))).astype(np.float32)
    kept, held_out = (
        Samples.place(backend, X[rows], labels[rows], "float32") for rows in (slice(400), slice(400, 500))
    )
    heads = [head(64, seed, rate) for rate in (0.01, 0.03) for seed in range(3)]

    def trained(size: int) -> list[tuple[Any, ...]]:
        groups = [[Candidate.new(one, backend) for one in part.heads] for part in parts.parts_of(heads, size)]
        for group in groups:
            train_group(group, kept, held_out, lambda: None)
        candidates = [candidate for group in groups for candidate in group]
        return [
            (one.member.history, Known.of(one), [array.tobytes() for array in one.member.state.values()])
            for one in candidates
        ]

    together = trained(len(heads))
    for size in (max(1, backend.least_alike(threads)), 3):
        assert trained(size) == together


@pytest.mark.parametrize("grid", ["0.001,1e30", "1e30,0.001,1e18"])
def test_heads_that_diverge_are_told_alike(ray: StandIn, grid: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Though where all of a part diverge, its training ends."""
    local = swept("local", *IMAGES, "--preset", "paper", "--learning-rates", grid)
    assert any(row["diverged"] for row in local["settings"])
    assert swept("cluster", *IMAGES, "--preset", "paper", "--learning-rates", grid, *ON_RAY) == local


# What is there already.


def test_parts_that_are_there_are_not_trained_again(ray: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    local = swept("local", *ARRAY)
    ray.dies = fails_after(9)
    swept("cluster", *ARRAY, *ON_RAY, code=1)
    there = len(list(Path("cluster/parts").glob("*/part-*.json")))
    assert 0 < there < 16
    assert not Path("cluster/sweep.json").exists()
    ray.dies, ray.calls = lambda method: False, []
    assert swept("cluster", *ARRAY, *ON_RAY) == local
    assert f"Resuming: {there} of 16 parts" in capsys.readouterr().err
    assert ray.calls.count("train") == 16 - there


def fails_after(number: int) -> Callable[[str], bool]:
    """So many calls of train succeed, and then all workers die."""
    left = iter(range(number))
    return lambda method: method == "train" and next(left, None) is None


@pytest.mark.parametrize("changed", [["--seed", "1"], ["--epochs", "3"], ["--limit", "200"], ["--seeds", "1"]])
def test_parts_of_another_sweep_are_not_taken(ray: StandIn, changed: list[str]) -> None:
    ray.dies = fails_after(3)
    swept("cluster", *ARRAY, *ON_RAY, code=1)
    ray.dies = lambda method: False
    assert swept("cluster", *ARRAY, *changed, *ON_RAY) == swept("local", *ARRAY, *changed)


def test_parts_that_began_in_another_way_are_not_taken(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's ways differ in the last bits, and were measured again since."""
    ray.dies = fails_after(3)
    swept("cluster", *ARRAY, *ON_RAY, code=1)
    (before,) = Path("cluster/parts").iterdir()
    monkeypatch.setattr(Blueprint, "way_on", lambda *_: "fused steps")
    swept("cluster", *ARRAY, *ON_RAY, code=1)
    (after,) = Path("cluster/parts").iterdir()
    assert after != before


# What ends it.


def test_mistakes_are_found_before_ray_starts(ray: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def starts(**_: Any) -> None:
        raise AssertionError("Ray was started")

    ray.init = starts  # type: ignore[method-assign]
    mistakes = {"--learning-rates": "0.1,-1", "--weight-decays": "nan", "--widths": "8,8", "--limit": "9"}
    for option, value in mistakes.items():
        assert main(["sweep", *MACHINE, *GRID, *IMAGES, *ON_RAY, "--out", "out", option, value]) == 2
        assert "Ray was started" not in capsys.readouterr().err
    assert main(["sweep", *MACHINE, "--features", "gone.npz", *ON_RAY]) == 4
    assert not Path("out/parts").exists()


def test_ray_that_is_missing_is_named_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    swept("out", "--features", "gone.npz", "--engine", "ray", code=2)
    assert "pip install 'fastmlp[ray]'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("beats", [True, False])
def test_silence_ends_it_and_epochs_are_no_silence(
    beats: bool, ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.hangs = lambda method: method == "train"
    clock: Iterator[int] = iter(range(0, 100_000, 40))
    monkeypatch.setattr("fastmlp.experiments.on_ray.time.monotonic", lambda: float(next(clock)))
    grown = iter(range(10)) if beats else iter(())
    monkeypatch.setattr(parts.Search, "beats", lambda _: next(grown, 9))
    swept("out", *ARRAY, *ON_RAY, "--stall", "100", code=1)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("fastmlp: Nothing was done on the Ray cluster for 100 seconds (--stall), with 16 parts left")
    assert (next(clock) > 700) == beats


def test_a_worker_with_another_backend_is_refused(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastmlp.backends.numpy.NumpyBackend.__str__", lambda self: f"numpy {id(self)}")
    swept("out", *ARRAY, *ON_RAY, code=3)
    assert "make all machines alike" in capsys.readouterr().err


def test_a_machine_that_does_not_see_the_folder_says_so() -> None:
    rows = parts.LaidRows(Path("gone/kept"), None)
    unseen = parts.Search(Path("gone"), "numpy", "numpy", "float32", None, rows, rows)
    with pytest.raises(DataError, match="--out must lie on storage that all machines"):
        Worker(1).train(unseen, parts.Part(0, ()))


def test_a_part_that_is_damaged_is_named(ray: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    ray.dies = fails_after(3)
    swept("out", *ARRAY, *ON_RAY, code=1)
    part = next(Path("out/parts").glob("*/part-*.json"))
    part.write_text("[1]")
    swept("out", *ARRAY, *ON_RAY, code=4)
    assert f"{part.name} is damaged" in capsys.readouterr().err


def test_a_part_beats_while_it_trains(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SECONDS_BETWEEN_BEATS", 0)
    ray.dies = fails_after(2)
    swept("out", *ARRAY, *ON_RAY, code=1)
    assert {path.stat().st_size for path in Path("out/parts").glob("*/*.beats")} == {2}  # epochs
