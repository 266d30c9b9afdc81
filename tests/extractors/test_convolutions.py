"""The ways of computing a backbone's convolutions, chosen by a clock of our own, with stand-ins for cuDNN and CUDA."""

import itertools
import os
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

from torch import fx, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from fastmlp.backends import open_backend  # noqa: E402
from fastmlp.common.errors import BackendError, DataError, UsageError  # noqa: E402
from fastmlp.experiments.engines import Opening  # noqa: E402
from fastmlp.extractors import open_extractor  # noqa: E402
from fastmlp.extractors.base import ROUNDING  # noqa: E402
from fastmlp.extractors.convolutions import compiled, fold_batch_norm, fused  # noqa: E402
from fastmlp.extractors.gpu import Cuda  # noqa: E402
from fastmlp.extractors.trials import IMAGES, ROUNDS, Trials  # noqa: E402
from fastmlp.extractors.vision import BATCH_ON_CPU, VisionExtractor  # noqa: E402
from fastmlp.extractors.ways import (  # noqa: E402
    BATCHES,
    MEASURED,
    PATHS,
    Choice,
    UnfitError,
    Way,
    choose,
    measured_once,
)
from fastmlp.testing.compare import assert_close  # noqa: E402
from tests.extractors.no_cuda import NoCuda  # noqa: E402

SIZE = 40


# What is said.


@pytest.mark.parametrize("way", [Way(path, batch) for path in PATHS for batch in BATCHES])
def test_a_way_is_read_as_it_is_written(way):
    assert Way.parse(str(way)) == way


def test_the_usual_batch_goes_without_saying():
    assert str(Way()) == "plain"
    assert Way.parse("cudnn:256") == Way.parse("cudnn")


WRONG = [
    "",
    "cuDNN",
    "cudnn:",
    "cudnn:0",
    "cudnn:-1",
    "cudnn:1.5",
    "cudnn:x",
    "cudnn:²",
    "tensorrt",
    ":64",
    "measured:64",
]


@pytest.mark.parametrize("text", WRONG)
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match=f"--convolutions must be plain, cudnn, .* or measured, not {text!r}"):
        open_extractor("pixels", open_backend("numpy"), convolutions=text)


@pytest.mark.parametrize("name", ["resnet18", "patches", "pixels"])
@pytest.mark.parametrize("text", ["cudnn", "plain:64", MEASURED])
def test_a_cpu_has_no_other_way(name, text):
    with pytest.raises(UsageError, match=f"--convolutions {text} is for backbones on an NVIDIA GPU: leave it out with"):
        open_extractor(name, open_backend("numpy"), convolutions=text)


# The choice.


def rates(table):
    """A measurement that finds those images a second, and that other ways are unfit; it counts its calls."""
    calls: list[str] = []

    def measure(way):
        calls.append(str(way))
        if str(way) not in table:
            raise UnfitError("no such kernel")
        return table[str(way)]

    return measure, calls


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ({"plain": 100.0, "cudnn": 150.0, "compiled": 120.0, "cudnn:512": 180.0}, "cudnn:512"),
        ({"plain": 100.0, "cudnn": 101.9, "compiled": 99.0}, "plain"),  # within the noise
        ({"plain": 100.0, "compiled": 103.0}, "compiled"),
        ({"cudnn": 50.0, "cudnn:1024": 50.5}, "cudnn"),
        ({"plain:64": 10.0}, "plain:64"),  # too little memory for more
    ],
)
def test_the_fastest_path_is_taken_and_then_its_fastest_batch(table, chosen):
    measure, calls = rates(table)
    choice = choose(measure)
    assert str(choice.way) == chosen
    assert len(calls) == len(set(calls)) == len(PATHS) + len(BATCHES) - 1
    assert choice.found == {way: table.get(way, "no such kernel") for way in calls}


def test_none_that_is_fit_is_told():
    with pytest.raises(BackendError, match=r"No way of computing convolutions can be taken here \(no such kernel\)"):
        choose(rates({})[0])


def test_what_was_measured_is_kept_for_others(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    choice = Choice(Way("cudnn", 512), {"plain": 1.0, "compiled": "no Triton"})
    about = {"gpu": "H100", "dtype": "float32"}
    assert measured_once(about, lambda: choice) == (choice, False)
    assert measured_once(about, pytest.fail) == (choice, True)
    other = Choice(Way(), {"plain": 2.0})
    assert measured_once({**about, "gpu": "H200"}, lambda: other) == (other, False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"way": "fast", "images_per_second": {}}', '{"way": 3}'])
def test_what_was_kept_damaged_is_told(tmp_path, monkeypatch, content):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    measured_once({}, lambda: Choice(Way(), {}))
    (path,) = (tmp_path / "convolutions").iterdir()
    path.write_text(content)
    with pytest.raises(DataError, match=f"{path} is damaged.*: delete it"):
        measured_once({}, pytest.fail)


# Trials.


class Clock:
    """Time that only passes when something costs it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def sums(images):
    return images.to(torch.float32).sum(dim=(1, 2, 3))[:, None]


def test_the_rate_is_that_of_whole_batches_by_the_median_round():
    clock, calls = Clock(), 0

    def forward(way, images):
        nonlocal calls
        calls += 1
        clock.now += 0.5 * len(images) if calls == 4 else 0.001 * len(images)  # once something else was going on
        return sums(images)

    assert Trials(forward, NoCuda(), "float32", clock).images_per_second(Way("plain", 64)) == pytest.approx(1000)
    assert calls == 1 + ROUNDS * IMAGES // 64


CALLS = itertools.count()  # steps that float32 does not round away, as it may two draws of noise


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda features: features * 1.001, "off by 0.001"),
        (lambda features: features * torch.nan, "off by nan"),
        (lambda features: features + next(CALLS), "not the same each time"),
        (
            lambda features: torch.cudnn_convolution_relu(features, features, None, [1], [0], [1], 1),
            "'CPU' backend$",
        ),
    ],
)
def test_a_way_whose_features_are_wrong_is_unfit(wrong, reason):
    def forward(way, images):
        return wrong(sums(images)) if way.path == "cudnn" else sums(images)

    trials = Trials(forward, NoCuda(), "float32")
    for trial in (trials.images_per_second, trials.check):
        with pytest.raises(UnfitError, match=reason):
            trial(Way("cudnn", 64))
    trials.check(Way("compiled", 64))


def test_a_way_for_which_there_is_no_memory_is_unfit():
    def forward(way, images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")

    with pytest.raises(UnfitError, match="more than half of the free memory"):
        Trials(forward, NoCuda(), "float32").images_per_second(Way())


def test_trials_leave_half_of_the_free_memory(monkeypatch):
    for name in ("Stream", "synchronize", "set_per_process_memory_fraction", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, create_autospec(getattr(torch.cuda, name)))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (40, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 10)
    limited = torch.cuda.set_per_process_memory_fraction
    with Cuda("cuda:1", shared=False).sparing():
        limited.assert_called_once_with(0.3, 1)
    limited.assert_called_with(1.0, 1)


# cuDNN's fused convolutions, by stand-ins that compute what they are documented to.


@pytest.fixture
def cudnn(monkeypatch):
    """How often each of the two was called."""
    calls = SimpleNamespace(relu=0, add_relu=0)

    def relu(x, weight, bias, stride, padding, dilation, groups):
        calls.relu += 1
        return functional.relu(functional.conv2d(x, weight, bias, stride, padding, dilation, groups))

    def add_relu(x, weight, z, alpha, bias, stride, padding, dilation, groups):
        calls.add_relu += 1
        y = functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
        assert y.shape == z.shape
        return functional.relu(y + alpha * z)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", add_relu)
    return calls


FUSIBLE = {  # ReLUs behind a convolution, and behind a sum of it
    "resnet18": (9, 8),
    "mobilenet_v2": (0, 0),  # ReLU6
    "regnet_y_400mf": (33, 16),  # with those of squeeze and excitation, without those in groups
    "densenet121": (59, 0),
}


def drawn_model(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.get_model(name, weights=None).eval()


@pytest.mark.parametrize("name", FUSIBLE)
def test_fused_networks_are_the_networks(cudnn, name):
    model = fold_batch_norm(drawn_model(name))
    pixels = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    if not any(FUSIBLE[name]):
        with pytest.raises(UnfitError, match="no ReLU follows a convolution"):
            fused(model, pixels[:1])
        return
    with torch.inference_mode():
        expected = model(pixels.clone())
        network = fused(model, pixels[:1])
        torch.testing.assert_close(network(pixels.clone()), expected)
        torch.testing.assert_close(model(pixels), expected, rtol=0, atol=0)  # which itself has not changed
    assert (cudnn.relu, cudnn.add_relu) == FUSIBLE[name]


class Shortcuts(nn.Module):
    """One convolution, a sum of its result and a ReLU, as `add` has them."""

    def __init__(self, add, **options):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, **{"padding": 1, **options})
        self.add = add

    def forward(self, x):
        x = self.first(x)
        return self.add(self.second(x), x)


def in_place(y, x):
    y += x
    return functional.relu(y, inplace=True)


def changes_the_shortcut(y, x):
    x += y
    return torch.relu(x) + x


SHORTCUTS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "in place": (in_place, {}, 1),
    "the other way around": (lambda y, x: torch.relu(x + y), {}, 1),
    "methods": (lambda y, x: y.add(x).relu_(), {}, 1),
    "nothing is added": (lambda y, x: functional.relu(y), {}, 1),
    "the shortcut is what changes": (changes_the_shortcut, {}, 0),
    "read before the sum": (lambda y, x: torch.relu(y + x) * y, {}, 0),
    "read before the ReLU": (lambda y, x: (lambda z: torch.relu(z) + z)(y + x), {}, 0),
    "to be stretched": (lambda y, x: torch.relu(y + x.mean((2, 3), keepdim=True)), {}, 0),
    "scaled": (lambda y, x: torch.relu(torch.add(y, x, alpha=2)), {}, 0),
    "a number": (lambda y, x: torch.relu(y + 1), {}, 0),
    "itself": (lambda y, x: torch.relu(y + y), {}, 0),
    "groups": (lambda y, x: torch.relu(y), {"groups": 2}, 0),
    "another padding": (lambda y, x: torch.relu(y), {"padding_mode": "reflect"}, 0),
    "padding in words": (lambda y, x: torch.relu(y), {"padding": "same"}, 0),
    "no bias": (lambda y, x: torch.relu(y), {"bias": False}, 1),
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_only_what_cudnn_computes_alike_is_fused(cudnn, name):
    add, options, count = SHORTCUTS[name]
    model = fx.symbolic_trace(Shortcuts(add, **options).eval())
    pixels = torch.randn((2, 3, 8, 8))
    expected = model(pixels)
    if count == 0:
        with pytest.raises(UnfitError, match="no ReLU follows a convolution"):
            fused(model, pixels[:1])
    else:
        torch.testing.assert_close(fused(model, pixels[:1])(pixels), expected)
    assert cudnn.relu + cudnn.add_relu == count


# PyTorch's compiler.


def test_what_is_compiled_is_kept_in_our_cache(tmp_path, monkeypatch):
    """For a later process; compiling itself takes minutes on a busy CPU, and `scripts/gpu_check` does it."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setattr(torch, "compile", create_autospec(torch.compile, side_effect=lambda model, **_: model))
    model = nn.ReLU()
    assert compiled(model) is model
    given = torch.compile.call_args.kwargs
    assert given["dynamic"] is False  # batches have one size
    assert {"fx_graph_cache", "deterministic"} <= given["options"].keys() <= set(torch._inductor.list_options())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "theirs")
    compiled(model)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "theirs"


# In an extractor.


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(drawn_model("resnet18").state_dict(), path)
    return path


class OnStandIn(VisionExtractor):
    def _streams(self, kernels):
        return NoCuda()


def test_whole_batches_go_the_way_and_the_last_one_is_plain(cudnn, weights, rng):
    images = rng.integers(0, 256, (BATCH_ON_CPU + 3, 3, 32, 32), dtype=np.uint8)
    plain = OnStandIn("resnet18", weights, SIZE, "cpu")
    assert "convolutions" not in plain.provenance()
    extractor = OnStandIn("resnet18", weights, SIZE, "cpu", convolutions=f"cudnn:{BATCH_ON_CPU}")
    assert extractor.provenance() == {**plain.provenance(), "convolutions": f"cudnn:{BATCH_ON_CPU}"}
    before = cudnn.add_relu
    got, expected = (np.concatenate(list(one.batches(images))) for one in (extractor, plain))
    assert_close("features", got, expected, ROUNDING["float32"])
    assert (cudnn.add_relu - before) % 8 == 0
    assert cudnn.add_relu > before
    np.testing.assert_array_equal(got[BATCH_ON_CPU:], expected[BATCH_ON_CPU:])


def test_a_way_that_fails_here_is_told(weights):
    with pytest.raises(
        BackendError, match=r"resnet18 cannot be computed by --convolutions cudnn:4 on H100 \(.*: leave"
    ):
        OnStandIn("resnet18", weights, SIZE, "cpu", convolutions="cudnn:4")  # a CPU has no such kernel


def test_the_fastest_way_is_told_and_taken_again(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Trials, "check", lambda trials, way: None)
    found = {"plain": 9412.6, "cudnn": 10700.0, "cudnn:512": 11000.0}
    for table, when in ((found, "measured"), ({}, "measured before")):
        measure, _ = rates(table)
        monkeypatch.setattr(Trials, "images_per_second", lambda trials, way, measure=measure: measure(way))
        extractor = OnStandIn("resnet18", weights, SIZE, "cpu", convolutions=MEASURED)
        assert extractor.provenance()["convolutions"] == "cudnn:512"
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert told[0].startswith(
            f"resnet18 in float32 on H100 was {when}, in images a second: plain 9,413, cudnn 10,700"
        )
        assert "compiled none (no such kernel)" in told[0]
        assert told[0].endswith("--convolutions cudnn:512 is taken.")


# As an option.


def test_workers_elsewhere_are_told_the_way_that_was_measured_here(weights):
    opening = Opening("resnet18", weights, SIZE, "float32", MEASURED, "cupy")
    extractor = create_autospec(VisionExtractor, instance=True)
    for provenance, way in (({"convolutions": "cudnn:512"}, "cudnn:512"), ({}, "plain")):
        extractor.provenance.return_value = provenance
        assert opening.of_opened(extractor).convolutions == way
