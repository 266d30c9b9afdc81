"""The files that keep networks while they train, and from which a run resumes: a folder per network, or one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from fastmlp.backends.base import Backend
from fastmlp.common.errors import DataError, UsageError, first_line
from fastmlp.common.progress import say, warn
from fastmlp.features.sharded_rows import SHARD
from fastmlp.models import storage
from fastmlp.models.folder import MODEL
from fastmlp.training.history import History
from fastmlp.training.member import WAY, Blueprint, Fingerprint, Member
from fastmlp.training.stopping import State

CHECKPOINT = "checkpoint.safetensors"


class Checkpoint(ABC):
    """Where the members of a run are kept between two of their epochs."""

    keeps_finished: ClassVar[bool]  # after the last epoch too

    @abstractmethod
    def begin(self, blueprints: Sequence[Blueprint], backend: Backend, resume: bool) -> list[Member]:
        """New members or, to resume, those that an earlier run left, if it left any.

        Raises UsageError if they are of another experiment, DataError for a damaged file.
        """

    @abstractmethod
    def save(self, members: Sequence[Member]) -> None:
        """Write all that training resumes from, to the last bit."""


class ModelFolders(Checkpoint):
    """A folder per member, which holds a checkpoint while it trains and the model once it has."""

    keeps_finished = False

    def __init__(self, fingerprints: Mapping[Path, Fingerprint]) -> None:
        self.fingerprints = dict(fingerprints)

    def begin(self, blueprints: Sequence[Blueprint], backend: Backend, resume: bool) -> list[Member]:
        members = []
        for folder, blueprint in zip(self.fingerprints, blueprints, strict=True):
            path = _newest(folder) if resume else None
            members.append(Member.new(blueprint, backend) if path is None else self._restored(path, blueprint, backend))
        return members

    def _restored(self, path: Path, blueprint: Blueprint, backend: Backend) -> Member:
        parameters, about, state = _load(path, self.fingerprints[path.parent])
        with _damage_reported(path):
            if (parameters.sizes, parameters.dtype) != (blueprint.sizes, blueprint.dtype):
                raise ValueError("it holds a network of other sizes")
            network = blueprint.network(backend, parameters, about.get(WAY, ""))
            member = Member(blueprint, network, History.from_dict(about.get("history")))
            if state:  # a finished model has none
                member.state = state
        _say_resuming(path, member)
        return member

    def save(self, members: Sequence[Member]) -> None:
        for (folder, fingerprint), member in zip(self.fingerprints.items(), members, strict=True):
            storage.save(member.network.parameters, member.about(fingerprint), folder / CHECKPOINT, member.state)

    def remove(self) -> None:
        """Remove the checkpoints, which the models make superfluous."""
        for folder in self.fingerprints:
            (folder / CHECKPOINT).unlink(missing_ok=True)


class SeedsFile(Checkpoint):
    """One file for a model's members from several seeds, all of one fingerprint."""

    keeps_finished = True

    def __init__(self, path: Path, fingerprint: Fingerprint) -> None:
        self.path, self.fingerprint = path, fingerprint

    def begin(self, blueprints: Sequence[Blueprint], backend: Backend, resume: bool) -> list[Member]:
        if not resume:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            _, about, state = _load(self.path, self.fingerprint)
            if about.get("seeds") == [blueprint.seed for blueprint in blueprints]:
                members = [Member.new(blueprint, backend, about.get(WAY, "")) for blueprint in blueprints]
                self._restore(members, about, state)
                return members
            warn(f"{self.path} holds other seeds: these are trained from the beginning.")
        return [Member.new(blueprint, backend) for blueprint in blueprints]

    def _restore(self, members: Sequence[Member], about: dict[str, Any], state: State) -> None:
        with _damage_reported(self.path):
            for member, history in zip(members, about["histories"], strict=True):
                start = f"{member.blueprint.seed}."
                own = {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}
                member.state = own
                member.history = History.from_dict(history)
            if len({member.history.epochs for member in members}) > 1:
                raise ValueError("its histories do not go together")
        _say_resuming(self.path, members[0])

    def save(self, members: Sequence[Member]) -> None:
        state = {f"{member.blueprint.seed}.{name}": array for member in members for name, array in member.state.items()}
        histories = [member.history.as_dict() for member in members]
        seeds = [member.blueprint.seed for member in members]
        about = {"fingerprint": self.fingerprint, "seeds": seeds, "histories": histories, **members[0].way}
        storage.save(members[0].network.parameters, about, self.path, state)


def _newest(folder: Path) -> Path | None:
    """The file of a model folder to resume from."""
    return next((path for path in (folder / CHECKPOINT, folder / MODEL) if path.is_file()), None)


def _load(path: Path, fingerprint: Fingerprint) -> storage.Saved:
    saved = storage.load(path)
    found = saved.about.get("fingerprint")
    if found != fingerprint:
        if (shard := _changed_shard(found, fingerprint)) is not None:
            raise DataError(
                f"The {shard} has changed since the run in {path.parent} began: put back what it was, or drop --resume."
            )
        raise UsageError(f"{path} is of another experiment: choose another --out, or drop --resume.")
    return saved


def _changed_shard(found: Any, wanted: Fingerprint) -> str | None:
    """The shard, by its name, whose content is all that two fingerprints first differ in."""
    if not isinstance(found, dict) or {**found, "features": None} != {**wanted, "features": None}:
        return None
    for one, other in zip(found["features"], wanted["features"], strict=False):
        if one != other:
            (shard, _, _), (named, _, _) = one.rpartition("-"), other.rpartition("-")
            return shard if shard == named and shard.startswith(SHARD) else None
    return None


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Raise what the block finds wrong with the file's content as a DataError."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}): drop --resume to start over.") from None


def _say_resuming(path: Path, member: Member) -> None:
    say(f"Resuming {path} after epoch {member.history.epochs}.")
