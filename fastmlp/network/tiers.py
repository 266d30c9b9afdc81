"""The three ways in which an epoch can run, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from fastmlp.backends.base import Backend
from fastmlp.kernels import EpochKind
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.ops import overridden
from fastmlp.ops.network import NetworkOps, Rule

FUSED = ("bias_relu", "relu_backward", "softmax_xent")  # the ops, beside the update, of which several steps are one


class Tier(IntEnum):
    """Array code, op by op; kernels for the fused ops; or one kernel for a whole epoch."""

    ARRAY_CODE = 1
    FUSED_OPS = 2
    FUSED_EPOCH = 3

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class TierChoice:
    """Which code trains a network, and why."""

    tier: Tier
    reason: str
    way: str = ""  # to which the backend is confined, as the fastest that was measured

    def __str__(self) -> str:
        return f"Tier {self.tier.value}, {self.tier.label}: {self.reason}."

    def as_dict(self) -> dict[str, str | int]:
        way = {"way": self.way} if self.way else {}
        return {"number": self.tier.value, "name": self.tier.label, "reason": self.reason, **way}


def choose_tier(
    sizes: Sequence[int],
    dtype: str,
    backend: Backend,
    optimizer: Optimizer | None = None,
    batch_size: int = 64,
    weighted: bool = False,
    smoothing: float = 0.0,
    networks: int = 1,
) -> TierChoice:
    """The best tier that this backend has for a network of these sizes and dtype, trained in such steps (by SGD).

    weighted: on rows of different weights; smoothing: of the labels; networks: how many train together.
    """
    optimizer = SGD() if optimizer is None else optimizer
    kind = EpochKind(tuple(sizes), dtype, batch_size, optimizer, weighted, smoothing, networks=networks)
    return tier_of(kind, backend.fastest(kind))


def tier_of(kind: EpochKind, backend: Backend) -> TierChoice:
    """The best tier of a backend as it is, confined or not."""
    network = f"{'-'.join(map(str, kind.sizes))} {kind.dtype}"
    refusal = backend.fused_epoch_refusal(kind)
    missing = missing_kernels(backend.network_ops, kind.optimizer)
    if not refusal:
        reason = f"{backend} trains this network a whole epoch in one call ({network})"
        return TierChoice(Tier.FUSED_EPOCH, reason, backend.way)
    if missing:
        return TierChoice(Tier.ARRAY_CODE, f"{backend} has no kernel for {', '.join(missing)} ({network})")
    reason = f"{backend} has a kernel for every fused op ({network}); {refusal}"
    return TierChoice(Tier.FUSED_OPS, reason, backend.way)


def missing_kernels(ops: NetworkOps, optimizer: Rule) -> list[str]:
    """The fused ops, and the optimizer's update, that run as array code."""
    compiled = set(overridden(ops, NetworkOps))
    update = [] if optimizer.name in ops.optimizers else [f"{optimizer.name}_update"]
    return [op for op in FUSED if op not in compiled] + update
