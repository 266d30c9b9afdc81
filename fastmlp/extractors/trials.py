"""Trials of the ways of computing convolutions on a GPU, and the way that they allow or choose."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from fastmlp.common.errors import BackendError, first_line
from fastmlp.common.progress import say
from fastmlp.extractors.base import ROUNDING
from fastmlp.extractors.gpu import Cuda, Work
from fastmlp.extractors.ways import MEASURED, PLAIN, Choice, UnfitError, Way, choose, measured_once

ROUNDS, IMAGES = 5, 2048  # how often so many images are timed; the median counts


def way_for(convolutions: str, trials: Trials, about: dict[str, Any]) -> Way:
    """The way of that name or, of `measured`, the fastest; about: the provenance of features, but for the way.

    Raises BackendError if it cannot be taken on this GPU.
    """
    way = _fastest(trials, about) if convolutions == MEASURED else Way.parse(convolutions)
    if way != Way():
        try:
            trials.check(way)
        except UnfitError as error:
            name, gpu = about["name"], trials.cuda.gpu
            raise BackendError(
                f"{name} cannot be computed by --convolutions {way} on {gpu} ({error}): leave it out."
            ) from None
    return way


def _fastest(trials: Trials, about: dict[str, Any]) -> Way:
    """The way that was found when it was first asked for, on such a GPU and by these libraries."""
    gpu, libraries = trials.cuda.gpu, {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    choice, known = measured_once({**about, "gpu": gpu, **libraries}, lambda: choose(trials.images_per_second))
    say(_told(choice, f"{about['name']} in {trials.dtype} on {gpu}", known))
    return choice.way


def _told(choice: Choice, what: str, known: bool) -> str:
    rates = {way: f"{rate:,.0f}" if isinstance(rate, float) else f"none ({rate})" for way, rate in choice.found.items()}
    found = ", ".join(f"{way} {rate}" for way, rate in rates.items())
    when = "was measured before" if known else "was measured"
    return f"{what} {when}, in images a second: {found}; --convolutions {choice.way} is taken."


class Trials:
    """Times the ways of computing a backbone's batches on a GPU, and holds them to the plain way's features.

    forward_by: the features of images (n, 3, 32, 32) on the device by a way, or UnfitError. For one thread at a time.
    """

    def __init__(
        self,
        forward_by: Callable[[Way, torch.Tensor], torch.Tensor],
        cuda: Cuda,
        dtype: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._forward_by, self.cuda, self.dtype, self._clock = forward_by, cuda, dtype, clock

    def images_per_second(self, way: Way) -> float:
        """Of whole batches, as graphs, once their features were found right. Raises UnfitError if the way is none here.

        Ways that would take more than half of the device's free memory are not for here either.
        """
        return self._tried(way, partial(self._rate, way.batch))

    def check(self, way: Way) -> None:
        """Raise UnfitError as `images_per_second` does."""
        self._tried(way, lambda _: 0.0)

    def _tried(self, way: Way, then: Callable[[Work], float]) -> float:
        try:
            with torch.inference_mode(), self.cuda.computing(), self.cuda.sparing():
                images = drawn(way.batch).to(self.cuda.device)
                launch = self.cuda.record(partial(self._forward_by, way, images))
                if way.path != PLAIN:
                    self._check(launch, self._forward_by(Way(), images))
                return then(launch)
        except torch.OutOfMemoryError:
            raise UnfitError("it would take more than half of the free memory") from None
        except Exception as error:  # PyTorch, its compilers and cuDNN each raise their own
            raise UnfitError(_reason(error)) from error

    def _check(self, launch: Work, expected: torch.Tensor) -> None:
        first = launch().clone()
        off = float((first - expected).abs().max() / expected.abs().max())
        if not off <= ROUNDING[self.dtype]:
            raise UnfitError(f"its features are off by {off:.2g} of the largest")
        if not torch.equal(first, launch()):
            raise UnfitError("its features are not the same each time")

    def _rate(self, batch: int, launch: Work) -> float:
        launches, seconds = max(1, IMAGES // batch), []
        for _ in range(ROUNDS):
            self.cuda.wait()
            began = self._clock()
            for _ in range(launches):
                launch()
            self.cuda.wait()
            seconds.append(self._clock() - began)
        return launches * batch / median(seconds)


def _reason(error: Exception) -> str:
    """The first sentence of a library's error, which may list every backend that it has."""
    return first_line(error).partition(". ")[0].rstrip(".")[:200]


def drawn(count: int) -> torch.Tensor:
    """Images uint8 (count, 3, 32, 32) of noise, the same ones each time."""
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
