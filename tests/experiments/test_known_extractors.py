"""A backbone that an earlier run has opened: where all features are stored, nothing imports PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp.cli.main import main
from fastmlp.common.errors import FastMLPError
from fastmlp.common.files import cache_dir
from fastmlp.experiments import engines, known_extractors
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.extractors import open_extractor

BACKBONE = "torchvision:shufflenet_v2_x0_5"
FILE = "shufflenetv2_x0.5-{digits}.pth"
COMMAND = [
    *("reproduce", "--dataset", "synthetic:60", "--extractor", BACKBONE, "--image-size", "32", "--epochs", "1"),
    *("--backend", "numpy", "--threads", "1", "--out", "run", "--quiet"),
]
SECOND_RUN = """
import sys
from fastmlp.cli.main import main
code = main(sys.argv[1:])
print([name for name in ("torch", "torchvision", "timm") if name in sys.modules])
raise SystemExit(code)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.manual_seed(0)
    torch.save(models.shufflenet_v2_x0_5().state_dict(), path)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of extractors that are opened."""
    names: list[str] = []

    def counted(name: str, *arguments: object, **options: object) -> object:
        names.append(name)
        return open_extractor(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "open_extractor", counted)
    return names


def extract(weights: Path | None, **options: object) -> ImageFeatures:
    config = Config(dataset="synthetic:60", extractor=BACKBONE, image_size=32, weights=weights, **options)  # type: ignore[arg-type]
    features = ImageFeatures(config, Machine("numpy", 1))
    _ = features.train
    return features


@pytest.mark.usefixtures("own_folders")
def test_a_run_on_stored_features_imports_no_pytorch(weights: Path) -> None:
    command = [*COMMAND, "--weights", str(weights)]
    assert main(command) == 0
    first = json.loads(Path("run/results.json").read_text())
    done = subprocess.run([sys.executable, "-c", SECOND_RUN, *command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
    second = json.loads(Path("run/results.json").read_text())
    for part in ("table1", "config"):
        assert first[part] == second[part]
    assert first["data"] == second["data"] | {"reused_features": first["data"]["reused_features"]}


@pytest.mark.usefixtures("own_folders")
def test_it_is_opened_once_until_there_is_something_to_extract(weights: Path, opened: list[str]) -> None:
    first = extract(weights)
    again = extract(weights)
    assert len(opened) == 1
    assert again.train.reused
    assert again.train.path == first.train.path
    other = extract(weights, limit=30)
    assert len(opened) == 2
    assert other.train.shape == (30, first.train.shape[1])
    assert "open_extractor" in other.machine.seconds


@pytest.mark.usefixtures("own_folders")
@pytest.mark.parametrize("changed", ["weights", "image size", "code"])
def test_another_one_is_opened_anew(
    changed: str, weights: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    extract(weights)
    options = {}
    if changed == "weights":
        weights, state = tmp_path / "other.pth", torch.load(weights, weights_only=True)
        torch.save({name: 2 * value for name, value in state.items()}, weights)
    elif changed == "image size":
        options["image_size"] = 64
    else:
        monkeypatch.setattr(known_extractors, "__version__", "another")
    config = {"dataset": "synthetic:60", "extractor": BACKBONE, "image_size": 32, "weights": weights} | options
    extractor = ImageFeatures(Config(**config), Machine("numpy", 1)).extractor  # type: ignore[arg-type]
    assert len(opened) == 2
    assert extractor.provenance()["image_size"] == config["image_size"]


@pytest.mark.usefixtures("own_folders")
def test_weights_of_its_own_are_found_where_pytorch_keeps_them(
    weights: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance = extract(weights).extractor.provenance()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (kept,) = cache_dir().glob("extractors/*.json")
    told = json.loads(kept.read_text())["provenance"]["weights"]
    assert known_extractors._downloaded(told) == []
    place = tmp_path / "torch/hub/checkpoints" / FILE.format(digits=told[7:15])
    place.parent.mkdir(parents=True)
    place.write_bytes(weights.read_bytes())
    assert extract(None).extractor.provenance() == provenance
    place.write_bytes(b"damaged")
    with pytest.raises(FastMLPError):
        extract(None)
    assert len(opened) == 2


@pytest.mark.usefixtures("own_folders")
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"features": 3, "provenance": {}}', '{"features": 3}'])
def test_what_was_written_of_it_may_be_damaged(content: str, weights: Path, opened: list[str]) -> None:
    path = extract(weights).train.path
    (kept,) = cache_dir().glob("extractors/*.json")
    kept.write_text(content)
    assert extract(weights).train.path == path
    assert len(opened) == 2
    assert json.loads(kept.read_text())["features"] == 1024


@pytest.mark.usefixtures("own_folders")
def test_one_that_is_another_than_it_was_is_told(weights: Path) -> None:
    extract(weights)
    (kept,) = cache_dir().glob("extractors/*.json")
    about = json.loads(kept.read_text())
    about["provenance"]["engine"] = "of old"
    kept.write_text(json.dumps(about))
    with pytest.raises(FastMLPError, match="is another than in an earlier run: run the same command again"):
        extract(weights)
    extract(weights)


def test_all_that_shapes_it_but_for_its_weights_is_in_its_key() -> None:
    opening = engines.Opening("resnet18", Path("weights.pth"), None, "float32", "plain", "cupy")
    others = [
        opening._replace(name="resnet34"),
        opening._replace(image_size=64),
        opening._replace(dtype="bfloat16"),
        opening._replace(convolutions="cudnn"),
        opening._replace(backend="torch"),
    ]
    keys = [known_extractors._key(one, "cuda:0") for one in (opening, *others)]
    assert len({*keys, known_extractors._key(opening, "cpu")}) == 7
    assert known_extractors._key(opening._replace(weights=None), "cuda:1") == keys[0]


def test_one_whose_way_is_measured_is_opened(tmp_path: Path) -> None:
    opening = engines.Opening("resnet18", None, None, "float32", "measured", "cupy")
    extractor = object()
    assert known_extractors.open_or_recall(opening, "cuda", lambda: extractor) is extractor  # type: ignore[arg-type, return-value]
