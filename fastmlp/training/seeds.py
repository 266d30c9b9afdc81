"""One model from several seeds: the same training from other weights and in other orders, all networks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.common.errors import DataError, UsageError, first_line
from fastmlp.common.progress import progress, say, warn
from fastmlp.models import storage
from fastmlp.network.trainer import Trainer
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.loop import DivergedError, History, Recipe, train_together
from fastmlp.training.samples import Samples


def train_seeds(
    seeds: Sequence[int],
    network_of: Callable[[int], Trainer],
    recipe: Recipe,
    samples: Samples,
    fingerprint: dict[str, Any],
    path: Path,
    resume: bool,
) -> list[Trainer]:
    """A network for each seed, new from network_of(seed), trained by the recipe as if it were alone.

    All are kept in the file at path, now and then and at the end; with resume, training goes on from what it holds.
    Raises DivergedError as soon as one of them has no finite loss, UsageError for a file with another fingerprint.
    """
    networks = [network_of(seed) for seed in seeds]
    about = {"fingerprint": fingerprint, "seeds": list(seeds)}
    if not resume:
        path.unlink(missing_ok=True)
    histories = _restore(networks, about, path) if path.is_file() else [History() for _ in seeds]
    kept = Checkpoint(networks, histories, lambda: _save(networks, histories, about, path))
    with progress(f"train {len(seeds)} more seeds", recipe.epochs, "epochs", histories[0].epochs) as bar:

        def on_epoch(histories: list[History]) -> None:
            _check_finite(seeds, histories)
            kept.after_epoch(last=histories[0].epochs == recipe.epochs)
            bar.advance(1)

        recipes = [recipe] * len(seeds)
        with kept.on_interrupt():
            train_together(networks, samples, recipes, seeds, histories=histories, on_epoch=on_epoch)
    return networks


def _check_finite(seeds: Sequence[int], histories: Sequence[History]) -> None:
    for seed, history in zip(seeds, histories, strict=True):
        if not np.isfinite(history.train_loss[-1]):
            raise DivergedError(
                f"Training with seed {seed} diverged in epoch {history.epochs} (the loss is {history.train_loss[-1]}): "
                "lower the learning rate."
            )


def _save(networks: Sequence[Trainer], histories: Sequence[History], about: dict[str, Any], path: Path) -> None:
    state = {
        f"{seed}.{name}": array
        for seed, network in zip(about["seeds"], networks, strict=True)
        for name, array in network.state.items()
    }
    told = {**about, "histories": [history.as_dict() for history in histories]}
    storage.save(networks[0].parameters, told, path, state)


def _restore(networks: Sequence[Trainer], about: dict[str, Any], path: Path) -> list[History]:
    """Put the networks back where the file has them; their histories. Other seeds than the file's start anew."""
    _, saved, state = storage.load(path)
    if saved.get("fingerprint") != about["fingerprint"]:
        raise UsageError(f"{path} is of another experiment: choose another --out, or drop --resume.")
    if saved.get("seeds") != about["seeds"]:
        warn(f"{path} holds other seeds: these are trained from the beginning.")
        return [History() for _ in networks]
    try:
        for seed, network in zip(about["seeds"], networks, strict=True):
            start = f"{seed}."
            own = {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}
            storage.restore(network, own)
        histories = [History.from_dict(history) for history in saved["histories"]]
        if [history.epochs for history in histories] != [histories[0].epochs] * len(networks):
            raise ValueError("its histories do not go together")
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}): drop --resume to train anew.") from None
    say(f"Going on with {path} after epoch {histories[0].epochs}.")
    return histories
