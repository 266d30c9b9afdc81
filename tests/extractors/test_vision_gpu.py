"""The GPU path of a backbone, tested on a CPU: our kernel emulated, and a stand-in for CUDA's streams and graphs."""

import gc
import sys
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, create_autospec

import numpy as np
import pytest

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

from fastmlp.backends import open_backend, probe  # noqa: E402
from fastmlp.cli.main import config_of, main  # noqa: E402
from fastmlp.cli.parser import build_parser  # noqa: E402
from fastmlp.common.errors import BackendError, UsageError  # noqa: E402
from fastmlp.extractors import open_extractor  # noqa: E402
from fastmlp.extractors.base import REDUCED  # noqa: E402
from fastmlp.extractors.devices import check_dtype  # noqa: E402
from fastmlp.extractors.gpu import IN_FLIGHT, WARM_UPS, Cuda, Enlarge, Pipeline  # noqa: E402
from fastmlp.extractors.vision import VisionExtractor  # noqa: E402
from fastmlp.models import predictor  # noqa: E402
from fastmlp.testing.compare import assert_close  # noqa: E402
from fastmlp.testing.tolerances import BFLOAT16_BACKBONE, FLOAT16_BACKBONE, TF32_BACKBONE  # noqa: E402
from tests.extractors.no_cuda import NoCuda  # noqa: E402

ROUNDING = 1e-4  # another order of operations before some twenty float32 layers
TOLERANCES = {
    "float32": ROUNDING,
    "tf32": TF32_BACKBONE,
    "bfloat16": BFLOAT16_BACKBONE,
    "float16": FLOAT16_BACKBONE,
}
SIZE = 40


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
        torch.save(models.resnet18().state_dict(), path)
    return path


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)


# Enlarging by our kernel.


def test_our_kernel_enlarges_as_pytorch_does_emulated(emulated, weights, images):
    ours = open_extractor("resnet18", emulated, weights=weights, image_size=SIZE)
    theirs = open_extractor("resnet18", open_backend("numpy"), weights=weights, image_size=SIZE)
    assert_close("features", ours(images), theirs(images), ROUNDING)
    assert ours.provenance() == {**theirs.provenance(), "engine": "torch, resize.cu"}


def test_pixels_are_the_kernels_memory_channels_last_emulated(emulated, images):
    enlarge = Enlarge(emulated, torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), 32)
    placed = torch.as_tensor(images)
    for dtype in (torch.float32, torch.bfloat16):
        pixels = enlarge(placed, dtype)
        assert pixels.dtype == dtype
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(pixels.float().numpy(), images)  # whole numbers, which bfloat16 has up to 256


@pytest.mark.parametrize("image_size", [16, 31])
def test_what_has_to_be_antialiased_is_left_to_pytorch_emulated(emulated, weights, images, image_size):
    ours = VisionExtractor("resnet18", weights, image_size, "cpu", kernels=emulated)
    theirs = VisionExtractor("resnet18", weights, image_size, "cpu")
    np.testing.assert_array_equal(ours(images), theirs(images))


def test_bicubic_backbones_are_left_to_pytorch_emulated(emulated, tmp_path, images):
    torch.save(models.efficientnet_b0().state_dict(), tmp_path / "weights.pth")
    ours = VisionExtractor("torchvision:efficientnet_b0", tmp_path / "weights.pth", SIZE, "cpu", kernels=emulated)
    assert ours.provenance()["engine"] == "torch"
    assert ours(images).shape == (3, ours.features)


# Fewer bits.


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", BFLOAT16_BACKBONE), ("float16", FLOAT16_BACKBONE)])
def test_rounded_features_are_near_and_known_as_such_emulated(emulated, weights, images, dtype, tolerance, kernels):
    half = VisionExtractor("resnet18", weights, SIZE, "cpu", dtype, emulated if kernels else None)
    whole = VisionExtractor("resnet18", weights, SIZE, "cpu")
    features = half(images)
    assert features.dtype == np.float32
    assert_close("features", features, whole(images), tolerance)
    assert not np.array_equal(features, whole(images))
    assert half.provenance()["dtype"] == dtype
    assert "dtype" not in whole.provenance()


@pytest.mark.parametrize("dtype", REDUCED)
@pytest.mark.parametrize("name", ["resnet18", "patches", "pixels"])
def test_fewer_bits_are_refused_on_a_cpu(name, dtype, weights):
    with pytest.raises(UsageError, match=rf"{dtype} is for backbones on a GPU: leave --dtype out with \w+ on backend"):
        open_extractor(name, open_backend("numpy"), weights=weights, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "device", "capability", "refused"),
    [
        ("tf32", "mps", None, "tf32 is for NVIDIA's GPUs"),
        ("tf32", "cuda", (7, 5), "tf32 needs a GPU of compute capability 8.0 or later, and T4 has 7.5"),
        ("bfloat16", "cuda:1", (7, 0), "bfloat16 needs a GPU of compute capability 8.0 or later, and T4 has 7.0"),
        ("float16", "cuda", (6, 1), "float16 needs a GPU of compute capability 7.0 or later, and T4 has 6.1"),
        ("float16", "cuda", (7, 5), None),
        ("tf32", "cuda", (12, 0), None),
        ("bfloat16", "mps", None, None),
        ("float32", "cuda", (6, 1), None),
    ],
)
def test_a_device_that_cannot_compute_so_is_told(monkeypatch, dtype, device, capability, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda asked: capability if asked == device else None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda asked: "T4")
    if refused is None:
        check_dtype(dtype, device)
    else:
        with pytest.raises(BackendError, match=f"{refused}.*: leave --dtype out"):
            check_dtype(dtype, device)


def test_numbers_too_large_for_float16_are_told(tmp_path, weights, images):
    state = torch.load(weights, weights_only=True)
    state["conv1.weight"] *= 1e6
    torch.save(state, tmp_path / "large.pth")
    for dtype in ("float32", "bfloat16"):
        assert np.isfinite(VisionExtractor("resnet18", tmp_path / "large.pth", SIZE, "cpu", dtype)(images)).all()
    with pytest.raises(UsageError, match="numbers too large for float16: choose --dtype bfloat16"):
        VisionExtractor("resnet18", tmp_path / "large.pth", SIZE, "cpu", "float16")(images)


@pytest.mark.parametrize("tf32", [False, True])
def test_only_tf32_multiplies_in_tf32(cuda_of_pytorch, tf32):
    before = torch.get_float32_matmul_precision()
    with Cuda("cuda", shared=False, tf32=tf32).computing():
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert torch.get_float32_matmul_precision() == before


# The pipeline.


def sums(images):
    """Two features per image: its sum, and ten times that."""
    total = images.to(torch.float32).sum(dim=(1, 2, 3))
    return torch.stack([total, 10 * total], dim=1)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 12, 18])
def test_batches_come_out_whole_and_in_order(rng, count):
    images = rng.integers(0, 256, (count, 3, 5, 6), dtype=np.uint8)
    pipeline = Pipeline(sums, NoCuda(), 4, (3, 5, 6), 2)
    for _ in range(2):  # the second time with a graph that is there
        batches = list(pipeline.batches(images))
        assert [len(batch) for batch in batches] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
        got = np.concatenate([np.empty((0, 2), np.float32), *batches])
        np.testing.assert_array_equal(got, sums(torch.as_tensor(images)).numpy())


def test_pinned_memory_goes_before_its_events_and_these_before_the_streams(rng):
    gone: list[str] = []

    class Watched(NoCuda):
        def pinned(self, shape, dtype):
            memory = super().pinned(shape, dtype)
            weakref.finalize(memory, gone.append, "memory")
            return memory

        def event(self):
            event = super().event()
            weakref.finalize(event, gone.append, "event")
            return event

        def wait(self):
            gone.append("wait")

    cuda = Watched()
    weakref.finalize(cuda, gone.append, "streams")
    pipeline = Pipeline(sums, cuda, 4, (3, 5, 6), 2)
    list(pipeline.batches(rng.integers(0, 256, (5, 3, 5, 6), dtype=np.uint8)))
    del cuda, pipeline
    gc.collect()
    assert gone == ["wait", *["memory", "memory", "event", "event"] * IN_FLIGHT, "streams"]


def test_strided_and_read_only_images_are_taken(rng):
    images = rng.integers(0, 256, (6, 5, 6, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    images.flags.writeable = False
    got = np.concatenate(list(Pipeline(sums, NoCuda(), 4, (3, 5, 6), 2).batches(images)))
    np.testing.assert_array_equal(got, sums(torch.as_tensor(images.copy())).numpy())


def test_a_batch_is_fetched_while_another_is_computed(rng):
    """Nothing still needed is overwritten: the log shows every wait, in order."""
    cuda = NoCuda()
    pipeline = Pipeline(sums, cuda, 4, (3, 5, 6), 2)
    batches = pipeline.batches(rng.integers(0, 256, (14, 3, 5, 6), dtype=np.uint8))
    next(batches)
    start = ["copy", "record arrived {0}", "compute", "wait arrived {0}"]
    whole = [*start, "launch", "record done {0}"]
    first = [*start, "record graph", "launch", "record done {0}"]
    expected = [line.format(slot) for slot, lines in ((0, first), (1, whole)) for line in lines]
    assert cuda.log[:2] == ["synchronize done 0", "synchronize done 1"]  # of an earlier run
    assert cuda.log[2:] == [*expected, "synchronize done 0"]  # the second batch was sent before the first was awaited
    cuda.log.clear()
    next(batches)
    assert cuda.log == [*(line.format(0) for line in whole), "synchronize done 1"]
    cuda.log.clear()
    assert len(list(batches)) == 2
    assert cuda.log == [
        *(line.format(1) for line in start),  # the last batch, smaller: no graph
        "record done 1",
        "synchronize done 0",
        "synchronize done 1",
    ]


def test_results_stay_when_their_memory_is_used_again(rng):
    images = rng.integers(0, 256, (16, 3, 5, 6), dtype=np.uint8)
    batches = Pipeline(sums, NoCuda(), 4, (3, 5, 6), 2).batches(images)
    first = next(batches)
    kept = first.copy()
    list(batches)
    np.testing.assert_array_equal(first, kept)


class LentStream(nullcontext):
    """CuPy's stream, as far as it is used."""

    ptr = 1234


@pytest.fixture
def cuda_of_pytorch(monkeypatch):
    """torch.cuda with stand-ins that accept exactly the arguments of the real functions."""
    for name in ("ExternalStream", "Stream", "stream", "synchronize", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, create_autospec(getattr(torch.cuda, name)))
    return torch.cuda


def test_pytorch_computes_in_the_stream_that_cupy_launches_in(cuda_of_pytorch, monkeypatch):
    cupy = SimpleNamespace(Stream=Mock(return_value=LentStream()))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cupy))
    cuda = Cuda("cuda", shared=True)
    cupy.Stream.assert_called_once_with(non_blocking=True)
    cuda_of_pytorch.ExternalStream.assert_called_once_with(LentStream.ptr, device="cuda")
    with cuda.computing():
        cuda_of_pytorch.stream.assert_called_once_with(cuda_of_pytorch.ExternalStream.return_value)
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    with cuda.copying():
        cuda_of_pytorch.stream.assert_called_with(cuda_of_pytorch.Stream.return_value)


def test_work_is_recorded_once_it_has_run_a_few_times(cuda_of_pytorch):
    cuda, runs = Cuda("cuda", shared=False), []
    recording = cuda_of_pytorch.graph.return_value
    recording.__enter__.side_effect = lambda: runs.append("recording")

    def work():
        runs.append("work")
        return torch.ones(1)

    launch = cuda.record(work)
    assert runs == ["work"] * WARM_UPS + ["recording", "work"]
    graph = cuda_of_pytorch.CUDAGraph.return_value
    stream, mode = cuda_of_pytorch.Stream.return_value, "thread_local"  # what other threads do is no fault of it
    cuda_of_pytorch.graph.assert_called_once_with(graph, stream=stream, capture_error_mode=mode)
    assert launch() is launch()
    assert graph.replay.call_count == 2


@pytest.mark.parametrize("backend", ["cupy", "torch:cuda"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_features_on_a_gpu_are_the_cpus(backend, dtype, weights, rng):
    availability = probe(backend.partition(":")[0])
    if not (availability.usable and torch.cuda.is_available()):
        pytest.skip(f"no GPU that PyTorch and {backend} can use: {availability.reason}")
    images = rng.integers(0, 256, (600, 3, 32, 32), dtype=np.uint8)
    extractor = open_extractor("resnet18", open_backend(backend), weights=weights, image_size=SIZE, dtype=dtype)
    expected = open_extractor("resnet18", open_backend("numpy"), weights=weights, image_size=SIZE)
    got = np.concatenate(list(extractor.batches(images)))
    rows = np.r_[:4, 254:260, 596:600]
    assert_close("features", got[rows], expected(images[rows]), TOLERANCES[dtype])
    np.testing.assert_array_equal(np.concatenate(list(extractor.batches(images))), got)  # bit for bit, run after run


# As an option.


@pytest.mark.parametrize("dtype", REDUCED)
def test_the_option_is_the_extractors_and_the_head_trains_in_float32(dtype):
    options = build_parser().parse_args(["extract", "--extractor", "resnet18", "--dtype", dtype])
    config = config_of(options)
    assert (config.dtype, config.extractor_dtype) == ("float32", dtype)
    config = config_of(build_parser().parse_args(["extract", "--dtype", "float64"]))
    assert (config.dtype, config.extractor_dtype) == ("float64", "float32")


def test_the_option_is_refused_with_features_made_elsewhere(tmp_path, capsys):
    np.savez(tmp_path / "made.npz", features=np.zeros((4, 2), "f4"), labels=np.arange(4))
    argv = ["train", "--features", str(tmp_path / "made.npz"), "--dtype", "bfloat16", "--out", str(tmp_path / "run")]
    assert main(argv) == 2
    assert "bfloat16 is for extracting: leave --dtype out with --features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trained", "device", "dtype"),
    [
        ("bfloat16", "cuda", "bfloat16"),
        ("bfloat16", "cpu", "float32"),
        ("tf32", "cuda", "tf32"),
        ("float16", "cpu", "float32"),
        ("float8", "cuda", "float32"),
        (None, "cuda", "float32"),
    ],
)
def test_a_model_extracts_as_it_was_trained_where_it_can(monkeypatch, trained, device, dtype):
    opened = Mock(**{"return_value.provenance.return_value": {"weights": "sha256:0"}})
    monkeypatch.setattr(predictor, "open_extractor", opened)
    rounded = {} if trained is None else {"dtype": trained}
    config = {"extractor": {"name": "resnet18", "weights": "sha256:0", "image_size": 40, **rounded}, "weights": None}
    predictor._open_extractor(config, Path(), Mock(device=device), None)
    assert opened.call_args.kwargs["dtype"] == dtype
