"""Extracting features from the host to the host: `patches` beside the same steps in PyTorch, and ResNet-18 at 224 px.

A peer's batch is the fastest of 2, 4, 8, ... on two cores with 1 MiB of cache each; ResNet-18 is run in large batches,
as most people run it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fastmlp.backends.base import Backend
from fastmlp.extractors.patches import Patches

from . import devices, ours
from .contenders import AbsentError, Bound, Contender
from .extracting import Features, Images, PatchExtraction, ResNetExtraction, draw_patches, draw_resnet
from .peers import onnxruntime, torch_patches, torchvision_resnet

BEST, LARGE = 4, 32
TORCHVISION = ("torch", "torchvision")


def patches(backend: Backend, problem: PatchExtraction) -> Bound:
    extractor = Patches(problem.codebook, backend)
    return problem.bound(extractor, extractor.batch_size)


def resnet(problem: ResNetExtraction) -> Bound:
    """The extractor on the CPU, where all backends use the same PyTorch."""
    from fastmlp.extractors.vision import VisionExtractor

    extractor = VisionExtractor("resnet18", problem.weights, problem.image_size, "cpu")
    return problem.bound(extractor, extractor.batch_size)


def resnet_on_gpu(backend: Backend, problem: ResNetExtraction, dtype: str) -> Bound:
    """PyTorch's network behind our kernel, one batch copied while another is computed."""
    from fastmlp.backends.cupy import CudaBackend
    from fastmlp.extractors.vision import VisionExtractor

    device, kernels = devices.torch_device(problem), backend if isinstance(backend, CudaBackend) else None
    if dtype == "tf32" and device == "cpu":
        raise AbsentError("only NVIDIA's GPUs have TF32.")
    extractor = VisionExtractor("resnet18", problem.weights, problem.image_size, device, dtype, kernels)

    def extract(images: Images) -> Features:
        return np.concatenate(list(extractor.batches(images)))

    bound = problem.bound(extract, len(problem.images), dtype)
    return replace(bound, facts={**bound.facts, "batch_size": extractor.batch_size})


def _on_gpu(name: str, dtype: str, compile: bool = False) -> Contender:
    bind = partial(torchvision_resnet.on_gpu, dtype=dtype, compile=compile)
    return Contender(f"torchvision, {name}, {dtype}", "peer", bind, needs=TORCHVISION, slow=compile)


def _eager(batch_size: int) -> Contender:
    bind = partial(torchvision_resnet.extract, batch_size=batch_size)
    return Contender(f"torchvision, eager, batch {batch_size}", "peer", bind, needs=TORCHVISION)


PATCH_PEERS = (
    Contender("PyTorch, unfold", "peer", torch_patches.unfold, needs=("torch",)),
    Contender("PyTorch, unfold, torch.compile", "peer", torch_patches.compiled, needs=("torch",), slow=True),
    Contender("PyTorch, conv2d", "peer", torch_patches.convolve, needs=("torch",)),
)
RESNET = (
    Contender("fastmlp", "ours", resnet, needs=TORCHVISION),
    _eager(BEST),
    _eager(LARGE),
    Contender("torchvision, torch.compile", "peer", torchvision_resnet.compiled, needs=TORCHVISION, slow=True),
    Contender("ONNX Runtime", "peer", onnxruntime.extract, needs=("onnx", "onnxruntime", *TORCHVISION)),
)
RESNET_ON_GPU = (
    *(
        replace(one, name=f"{one.name}, {dtype}", needs=TORCHVISION)
        for dtype in ("float32", "tf32", "bfloat16", "float16")
        for one in ours.contenders(partial(resnet_on_gpu, dtype=dtype), ("cupy",))
    ),
    *(
        _on_gpu(name, dtype, compile)
        for dtype in ("float32", "bfloat16")
        for name, compile in (("eager, channels-last", False), ("torch.compile, reduce-overhead", True))
    ),
)
SIZES = {"cpu": (1_024, 32), "cuda": (50_000, 4_096)}  # patches, ResNet-18
SMOKE_SIZES = {"cpu": 5, "cuda": 5, "emulated": 2}


@pytest.fixture(scope="module")
def patch_problem(threads: int, smoke: bool, device: str) -> PatchExtraction:
    return draw_patches(threads, SMOKE_SIZES[device] if smoke else SIZES[device][0], device)


@pytest.fixture(scope="module")
def resnet_problem(
    threads: int, smoke: bool, device: str, tmp_path_factory: pytest.TempPathFactory
) -> ResNetExtraction:
    n, image_size = (SMOKE_SIZES[device], 40) if smoke else (SIZES[device][1], 224)
    return draw_resnet(threads, n, image_size, tmp_path_factory.mktemp("weights"), device)


@pytest.mark.contenders(*ours.contenders(patches), *PATCH_PEERS)
@pytest.mark.contenders(*ours.contenders(patches, ("cupy",)), device="gpu")
def bench_patches(measure: Callable[[PatchExtraction], None], patch_problem: PatchExtraction) -> None:
    measure(patch_problem)


@pytest.mark.contenders(*RESNET)
@pytest.mark.contenders(*RESNET_ON_GPU, device="gpu")
def bench_resnet18(measure: Callable[[ResNetExtraction], None], resnet_problem: ResNetExtraction) -> None:
    measure(resnet_problem)
