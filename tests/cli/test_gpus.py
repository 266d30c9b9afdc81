"""A GPU that is not there, is full or has an old driver: each command says so in a sentence with its fix, and ends."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastmlp import backends
from fastmlp.backends import cuda_diagnosis
from fastmlp.backends import cupy as cupy_module
from fastmlp.backends.cuda_diagnosis import Installed
from fastmlp.cli.main import main
from fastmlp.common.errors import UsageError
from tests.backends import fake_cupy
from tests.shell import is_one_sentence

IMAGES = "--dataset synthetic:100 --extractor pixels --epochs 1"
COMMANDS = {
    "train": f"train {IMAGES}",
    "train on augmented": f"train --on augmented {IMAGES}",
    "train on features": "train --features X.npy --labels y.npy --epochs 1",
    "train on streamed features": "train --features X.npy --labels y.npy --epochs 1 --memory 1MB",
    "sweep": f"sweep {IMAGES}",
    "probe": f"probe {IMAGES}",
    "reproduce": f"reproduce {IMAGES}",
    "extract": "extract --dataset synthetic:100",
    "augment": "augment --dataset synthetic:100",
    "evaluate": "evaluate --model run/head --features X.npy --labels y.npy",
    "predict": "predict --model run/head X.npy",
    "predict on images": "predict --model images/original photo.png",
    "compare": "compare run/head images/original --features X.npy --labels y.npy",
    "check": "backends --check",
}


class CUDARuntimeError(RuntimeError):
    """Named as in cupy_backends.cuda.api.runtime."""


class OutOfMemoryError(MemoryError):
    """Named as in cupy.cuda.memory."""


NO_DEVICE = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
OLD_DRIVER = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime")
FULL = OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")
NEW, OLD = Installed(("cupy-cuda13x",), 13000), Installed(("cupy-cuda12x",), 11080)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features, a photo, and a model of each."""
    folder, rng = tmp_path_factory.mktemp("gpus"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FASTMLP_CACHE_DIR", str(folder / "cache"))
        np.save("X.npy", rng.standard_normal((60, 8), dtype=np.float32))
        np.save("y.npy", np.arange(60) % 3)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("photo.png")
        quick = ["--backend", "numpy", "--threads", "1", "--epochs", "1", "--quiet"]
        assert main(["train", "--features", "X.npy", "--labels", "y.npy", *quick, "--out", "run"]) == 0
        images = ["--dataset", "synthetic:100", "--extractor", "pixels"]
        assert main(["train", *images, *quick, "--out", "images"]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Installed, "here", classmethod(lambda cls: NEW))


def files() -> list[Path]:
    return sorted(path for path in Path().rglob("*") if path.is_file())


def refused(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that the command says on stderr, once it has ended with code 3, leaving nothing."""
    capsys.readouterr()
    before = files()
    out = [] if command.startswith(("predict", "backends")) else ["--out", "new"]
    assert main([*command.split(), *out]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert files() == before
    last = captured.err.splitlines()[-1]
    assert last.startswith("fastmlp: ")
    assert is_one_sentence(last)
    return last


def with_backend(command: str, backend: str) -> str:
    return f"{command} {backend}" if command.startswith("backends") else f"{command} --backend {backend}"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("backend", "gpus", "fault", "says"),
    [
        ("cupy:7", 1, None, "There is no GPU 7 here: only GPU 0 is visible. Choose"),
        ("cupy:cuda:2", 2, None, "There is no GPU 2 here: only GPUs 0 to 1 are visible. Choose"),
        ("cupy:x", 1, None, "It has no device 'x'. Give a GPU's number"),
        ("cupy:-1", 1, None, "It has no device '-1'. Give a GPU's number"),
        ("cupy:", 1, None, "It has no device ''. Give a GPU's number"),
        ("cupy", 0, NO_DEVICE, "The NVIDIA driver finds no GPU that it may use. Check nvidia-smi"),
        ("cupy:all", 0, NO_DEVICE, "The NVIDIA driver finds no GPU that it may use. Check nvidia-smi"),
        ("cupy:7", 0, NO_DEVICE, "The NVIDIA driver finds no GPU that it may use. Check nvidia-smi"),
    ],
)
def test_a_gpu_that_is_not_there(
    command: str,
    backend: str,
    gpus: int,
    fault: Exception | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_cupy.install(monkeypatch, devices=gpus, fault=fault)
    assert f"Backend {backend} cannot run here. {says}" in refused(with_backend(command, backend), capsys)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_driver_older_than_cuda_12(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Installed, "here", classmethod(lambda cls: OLD))
    fake_cupy.install(monkeypatch, fault=OLD_DRIVER)
    last = refused(with_backend(command, "cupy:0"), capsys)
    assert "Backend cupy:0 cannot run here. The NVIDIA driver is too old: it supports CUDA 11.8, and fastmlp" in last
    assert "Install a newer driver" in last


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_gpu_whose_memory_others_take(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_cupy.install(monkeypatch, full=FULL)
    last = refused(with_backend(command, "cupy"), capsys)
    assert "Backend cupy cannot run here. The GPU has no free memory" in last
    assert "End other programs on it" in last


@pytest.mark.parametrize("command", [command for name, command in COMMANDS.items() if name != "check"])
def test_a_gpu_whose_memory_others_take_meanwhile(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cupy_module, "_try_gpu", lambda *_: {})
    fake_cupy.install(monkeypatch, full=FULL)
    last = refused(with_backend(command, "cupy"), capsys)
    assert "The GPU's memory is too small" in last
    assert "end other programs on it (nvidia-smi)." in last


@pytest.mark.parametrize(
    ("options", "installed", "says"),
    [
        ({"fault": NO_DEVICE}, NEW, "The NVIDIA driver finds no GPU that it may use."),
        ({"fault": OLD_DRIVER}, OLD, "The NVIDIA driver is too old: it supports CUDA 11.8"),
        ({"full": FULL}, NEW, "The GPU has no free memory"),
    ],
)
def test_the_benchmarks(
    options: dict[str, Exception],
    installed: Installed,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cuda_diagnosis.Installed, "here", classmethod(lambda cls: installed))
    fake_cupy.install(monkeypatch, **options)
    assert f"Backend cupy cannot run here. {says}" in refused("bench --device cuda", capsys)


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ("numpy:7", "Backend numpy has no device '7': leave it out."),
        ("numba:x", "Backend numba has no device 'x': leave it out."),
        ("numba:", "Backend numba has no device '': leave it out."),
    ],
)
def test_the_cpu_has_no_devices(backend: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(f"{COMMANDS['train']} --backend {backend}", capsys)


def test_auto_has_no_devices() -> None:
    with pytest.raises(UsageError, match=r"^Backend auto has no devices: name the backend too, as in cupy:0\.$"):
        backends.open_backend("auto:7")
