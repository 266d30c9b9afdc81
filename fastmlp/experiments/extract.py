"""The extraction of a dataset's features, on the engine that was asked for."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.common.files import write_text
from fastmlp.common.progress import say
from fastmlp.experiments.config import Config
from fastmlp.experiments.engines import Engine, Local
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.features.store import FeatureStore

ENGINES = ("auto", "local", "ray")
STALL = 300  # seconds
BAD_IMAGES = "bad-images.jsonl"


@dataclass(frozen=True)
class EngineOptions:
    """Which engine extracts, one of ENGINES: auto is this process, and only ray is Ray.

    address: of a running Ray cluster; by default one is started on this machine. workers: how many processes extract.
    stall: the seconds without progress after which it ends. Raises UsageError for what means nothing.
    """

    engine: str = ENGINES[0]
    address: str | None = None
    workers: int | None = None
    stall: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            near = did_you_mean(self.engine, ENGINES)
            raise UsageError(f"There is no --engine {self.engine!r}{near}: choose one of {', '.join(ENGINES)}.")
        given = {"--address": self.address, "--workers": self.workers, "--stall": self.stall}
        option = next((option for option, value in given.items() if value is not None), None)
        if option is not None and self.engine != "ray":
            raise UsageError(f"{option} is for --engine ray: give that too, or leave {option} out.")

    def opened(self, config: Config, machine: Machine) -> AbstractContextManager[Engine]:
        """The engine, within a block. Raises UsageError where Ray is missing, BackendError where it cannot be used."""
        if self.engine != "ray":
            return nullcontext(Local())
        from fastmlp.experiments.on_ray import cluster

        on_gpu = machine.backend.device != "cpu"
        return cluster(self.address, self.workers, config.threads, on_gpu, self.stall or STALL)


def extract(config: Config, options: EngineOptions) -> dict[str, FeatureStore]:
    """The stores of all features by the names of their splits; images left out are listed in the output folder."""
    machine = Machine(config.backend, config.threads)
    with options.opened(config, machine) as engine:
        features = ImageFeatures(config, machine, engine)
        stores = {store.provenance["split"]: store for store in features.stores()}
    _list_bad_images(features.images.dataset.left_out.images, config)
    return stores


def _list_bad_images(reasons: dict[str, str], config: Config) -> None:
    """A line of JSON for each; no list where there are none."""
    path = config.folder / BAD_IMAGES
    if reasons:
        lines = [json.dumps({"path": image, "reason": reason}) for image, reason in reasons.items()]
        write_text(path, "\n".join(lines) + "\n")
        say(f"Bad images: {path}")
    else:
        path.unlink(missing_ok=True)
