"""Which engine works, as a command has it: this process, or the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.experiments.config import Config
from fastmlp.experiments.engines import Engine, Local
from fastmlp.experiments.machine import Machine

if TYPE_CHECKING:
    from fastmlp.experiments.on_ray import OnRay

ENGINES = ("auto", "local", "ray")
STALL = 300  # seconds


@dataclass(frozen=True)
class EngineOptions:
    """Which engine works, one of ENGINES: auto is this process, and only ray is Ray.

    address: of a running Ray cluster; by default one is started on this machine. workers: how many processes work.
    stall: the seconds without progress after which it ends. Raises UsageError for what means nothing, or if Ray is to
    work and is missing.
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
        if option is not None and not self.on_ray:
            raise UsageError(f"{option} is for --engine ray: give that too, or leave {option} out.")
        if self.on_ray:
            from fastmlp.experiments.on_ray import import_ray

            import_ray()

    @property
    def on_ray(self) -> bool:
        return self.engine == "ray"

    def opened(self, config: Config, machine: Machine) -> AbstractContextManager[Engine]:
        """The engine, within a block. Raises BackendError for a cluster that cannot be used."""
        return self.cluster(config, machine) if self.on_ray else nullcontext(Local())

    def cluster(self, config: Config, machine: Machine) -> AbstractContextManager[OnRay]:
        """The same where it is Ray."""
        from fastmlp.experiments.on_ray import cluster

        on_gpu = machine.backend.device != "cpu"
        return cluster(self.address, self.workers, config.threads, on_gpu, self.stall or STALL)
