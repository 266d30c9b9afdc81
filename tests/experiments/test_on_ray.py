"""What the Ray engine does with results, deaths, errors and silence, on a stand-in; `test_ray_cluster` has Ray."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastmlp.cli.main import main
from fastmlp.common.errors import BackendError, DataError, FastMLPError, UsageError
from fastmlp.datasets.image_files import ImageFiles
from fastmlp.datasets.sources import Named, PartFile
from fastmlp.experiments.engine_options import EngineOptions
from fastmlp.experiments.on_ray import MOST_DEATHS, OnRay, _staff
from fastmlp.experiments.ray_worker import Worker
from fastmlp.features import extraction
from tests.datasets.stored import write_layouts
from tests.experiments.ray_stand_in import StandIn, every
from tests.photos import draw_photos

pytestmark = pytest.mark.usefixtures("own_folders")

COMMAND = ["extract", "--dataset", "synthetic:60", "--extractor", "pixels", "--backend", "numpy", "--threads", "1"]
ON_RAY = ["--engine", "ray", "--workers", "2"]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setattr(extraction, "SHARD_BYTES", 1)
    monkeypatch.setattr("fastmlp.extractors.pixels.Pixels.batch_size", 10)
    return made


def contents(cache: str) -> dict[str, bytes]:
    files = (path for path in Path(cache).rglob("*") if path.is_file())
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def extracted(cache: str, monkeypatch: pytest.MonkeyPatch, *options: str, code: int = 0) -> dict[str, bytes]:
    monkeypatch.setenv("FASTMLP_CACHE_DIR", cache)
    assert main([*COMMAND, *options]) == code
    return contents(cache)


# Results.


@pytest.mark.parametrize("method", ["extract", "begin"])
def test_a_store_is_the_same_whoever_died(ray: StandIn, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = extracted("local", monkeypatch)
    assert len([name for name in local if "rows-" in name]) == 6 + 6 + 2
    assert extracted("whole", monkeypatch, *ON_RAY) == local
    ray.dies = every(2, method)
    assert extracted("broken", monkeypatch, *ON_RAY) == local
    assert not ray.alive
    assert ray.closed == 2


def test_only_what_is_missing_is_given_out(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    local = extracted("local", monkeypatch)
    (store,) = Path("local/features").glob("*-train-*")
    partial = store.rename(f"{store}.partial")
    for shard in sorted(partial.glob("rows-*"))[1:3]:
        shard.unlink()
    assert extracted("local", monkeypatch, *ON_RAY) == local
    assert ray.calls.count("extract") == 2


def test_local_extraction_never_asks_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for engine in ([], ["--engine", "auto"], ["--engine", "local"]):
        extracted("cache", monkeypatch, *engine)


# What ends it.


def test_work_that_kills_every_worker_is_given_up(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.dies = lambda method: method == "extract"
    extracted("cache", monkeypatch, *ON_RAY, code=1)
    assert f"{MOST_DEATHS} workers died over the same work" in capsys.readouterr().err
    assert not ray.alive


def test_no_progress_is_a_sentence(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.hangs = lambda method: method == "extract"
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr("fastmlp.experiments.on_ray.time.monotonic", lambda: float(next(clock)))
    extracted("cache", monkeypatch, *ON_RAY, "--stall", "100", code=1)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("fastmlp: Nothing was done on the Ray cluster for 100 seconds (--stall), with 6 parts left")
    assert not ray.alive


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("The weights are damaged: fetch them again."), 4, "The weights are damaged"),
        (OSError(28, "No space left on device", "rows"), 1, "No space left on device"),
        (ModuleNotFoundError("No module named 'fastmlp'"), 1, "install the same fastmlp"),
    ],
)
def test_an_error_of_a_worker_is_told_as_our_own(
    error: Exception,
    code: int,
    said: str,
    ray: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("fastmlp.experiments.ray_worker.extract_shard", fails)
    extracted("cache", monkeypatch, *ON_RAY, code=code)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_worker_of_another_version_is_refused(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastmlp.experiments.ray_worker.__version__", "0.0.1")
    extracted("cache", monkeypatch, *ON_RAY, code=3)
    assert "has fastmlp 0.0.1" in capsys.readouterr().err


def test_a_worker_with_another_extractor_is_refused(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastmlp.experiments.engines import Opening
    from fastmlp.extractors.pixels import Pixels

    class Others(Pixels):
        def provenance(self) -> dict[str, Any]:
            return {"name": "pixels", "engine": "another"}

    monkeypatch.setattr(Opening, "open", lambda *_: Others())
    extracted("cache", monkeypatch, *ON_RAY, code=3)
    assert "make all machines alike" in capsys.readouterr().err
    assert not list(Path("cache/features").glob("*/rows-*"))


# Images.


@pytest.fixture
def photos(own_folders: None) -> None:
    draw_photos(Path("photos"), {"train": 20, "test": 4}, digits=2)
    Path("photos/train/cat/00.png").write_bytes(b"")
    Path("photos/train/dog/gone.png").symlink_to("nowhere.png")


PHOTOS = ["--dataset", "folder:photos", "--on-bad-image", "skip", "--out", "out"]


@pytest.mark.usefixtures("photos")
def test_images_are_read_by_workers_as_they_are_here(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.datasets.image_files.PART", 7)
    local = extracted("local", monkeypatch, *PHOTOS)
    listed = Path("out/bad-images.jsonl").read_text()
    ray.dies = every(3, "read")
    assert extracted("cache", monkeypatch, *PHOTOS, *ON_RAY) == local
    assert Path("out/bad-images.jsonl").read_text() == listed
    bad = [json.loads(line) for line in listed.splitlines()]
    assert [one["path"] for one in bad] == ["photos/train/cat/00.png", "photos/train/dog/gone.png"]
    assert all(one["reason"] for one in bad)
    for one in bad:
        Path(one["path"]).unlink()
    extracted("cache", monkeypatch, *PHOTOS, *ON_RAY)
    assert not Path("out/bad-images.jsonl").exists()


@pytest.mark.parametrize("layout", ["parquet", "tar"])
def test_other_layouts_have_the_shards_of_a_folder(
    layout: str, ray: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To the bit, of images and of their augmented copies: here and on Ray, by a path or a URL."""
    draw_photos(Path("folder"), {"train": 15, "test": 4}, digits=2)
    write_layouts(Path("folder"))

    def shards(dataset: str, *options: str) -> list[bytes]:
        made = extracted(dataset.replace("/", "_"), monkeypatch, "--dataset", dataset, "--copies", "2", *options)
        return sorted(content for name, content in made.items() if "rows-" in name)

    expected = shards("folder:folder")
    assert len(expected) == 3 * 3 + 1
    assert shards(f"{layout}:{layout}") == expected
    ray.dies = every(3, "read")
    assert shards(f"{layout}:file://{tmp_path}/{layout}", *ON_RAY) == expected


@pytest.mark.parametrize("gone", ["photos/gone.png", "cache/part.safetensors"])
def test_a_machine_that_does_not_see_the_images_says_so(gone: str) -> None:
    """Rather than leaving all of them out as bad ones."""
    for folder in {"photos", "cache"} - {Path(gone).parent.name}:
        Path(folder).mkdir()
        Path(folder, "gone.png").write_bytes(b"")
    part = PartFile(ImageFiles(Named.of(Path("photos")), ("gone.png",), ("cat",)), Path("cache/part.safetensors"))
    with pytest.raises(DataError, match="storage that all machines of the cluster share"):
        Worker(1).read(part, 1000)


# Options.


@pytest.mark.parametrize("there", [None, ModuleType("ray")])
def test_ray_that_is_not_installed_is_named_with_its_fix(
    there: ModuleType | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a folder called ray, which Python takes for a package."""
    monkeypatch.setitem(sys.modules, "ray", there)
    extracted("cache", monkeypatch, "--engine", "ray", code=2)
    assert "pip install 'fastmlp[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["address", "workers", "stall"])
def test_options_of_ray_without_ray_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} is for --engine ray"):
        EngineOptions(**{option: 1})  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean local"):
        EngineOptions("lokal")


def test_a_cluster_that_cannot_be_reached_is_named(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(**_: Any) -> None:
        raise ConnectionError("no such session")

    extracted("cache", monkeypatch, *ON_RAY, "--address", "127.0.0.1:9", code=3)
    assert "The Ray cluster 127.0.0.1:9 cannot be used" in capsys.readouterr().err
    monkeypatch.setattr(ray, "init", refuses)
    extracted("cache", monkeypatch, *ON_RAY, "--address", "auto", code=3)
    assert "The Ray cluster auto cannot be used (no such session)" in capsys.readouterr().err


def machines(*resources: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": {"CPU": float(cores), "GPU": float(gpus)}} for cores, gpus in resources]


@pytest.mark.parametrize(
    ("nodes", "workers", "threads", "on_gpu", "expected"),
    [
        (machines((8, 0), (4, 0)), None, None, False, (3, 4, 0)),
        (machines((8, 0), (4, 0)), 6, None, False, (6, 2, 0)),
        (machines((8, 0), (4, 0)), None, 1, False, (12, 1, 0)),
        (machines((8, 0), (4, 0)), 100, 4, False, (3, 4, 0)),
        (machines((0, 0), (2, 0)), None, None, False, (1, 2, 0)),
        (machines((16, 4), (8, 0)), None, None, True, (4, 4, 1)),
        (machines((16, 2), (16, 2)), 3, None, True, (3, 8, 1)),
    ],
)
def test_how_many_workers_there_are(
    nodes: Any, workers: int | None, threads: int | None, on_gpu: bool, expected: tuple[int, int, int]
) -> None:
    staff = _staff(nodes, workers, threads, on_gpu)
    assert (staff.workers, staff.threads, staff.gpus) == expected


def test_a_cluster_without_room_is_refused() -> None:
    with pytest.raises(BackendError, match="no machine with a GPU"):
        _staff(machines((8, 0)), None, None, True)
    with pytest.raises(UsageError, match="--threads 8 or fewer"):
        _staff(machines((8, 0)), None, 9, False)


def test_an_engine_that_is_given_nothing_starts_nothing(ray: StandIn) -> None:
    engine = OnRay(ray, _staff(machines((2, 0)), None, None, False), 1.0)
    assert list(engine.read([], 1)) == []
    assert not ray.calls
    assert issubclass(BackendError, FastMLPError)
