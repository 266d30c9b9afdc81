"""A probe: the heads of a protocol, trained together on frozen features, and the best of them.

The heads of a protocol (see `experiments.protocols`) are trained on all rows but a tenth, or but each fold in turn, and
judged on those; the setting with the best mean, over seeds and folds, is trained again on all training rows and tested.
`fastmlp probe` does so for files, stored features and data sets, `probe` for arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, UsageError, did_you_mean
from fastmlp.common.files import claimed, read_json, write_json
from fastmlp.common.progress import say, warn
from fastmlp.experiments.bad_images import list_bad_images_of
from fastmlp.experiments.candidates import (
    BEST,
    Known,
    Setting,
    check_settings,
    describe,
    heads_of,
    ranked,
    train_candidates,
    train_chosen,
)
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_files import FileFeatures, Tables, tables_of
from fastmlp.experiments.feature_sets import FeatureSet, Trial, tenth
from fastmlp.experiments.folds import fold_rows
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import SEEDS, Models
from fastmlp.experiments.protocols import Protocol, changed, open_protocol
from fastmlp.experiments.results import SCHEMA, over_seeds
from fastmlp.features.tables import table_of
from fastmlp.models.folder import MODEL
from fastmlp.models.predictor import Predictor, load_model
from fastmlp.report import head
from fastmlp.report import probe as report
from fastmlp.report.sweep import table_text
from fastmlp.training.checkpoint import CHECKPOINT
from fastmlp.training.loop import DivergedError
from fastmlp.training.member import WAY

RESULTS = "probe.json"
HEADS = "heads.json"  # what the heads trained so far came to, for --resume
ROWS = 4096  # looked at at a time
OF_PROTOCOL = ("normalize", "widths")  # what a probe takes instead of its protocol's own
OPTIONS = (*OF_PROTOCOL, "folds", "seeds", "seed", "backend", "threads", "dtype", "epochs", "batch_size")


# From Python.


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    model is the best head, a `Predictor`; accuracy, its accuracy on the test rows; results, all that probe.json holds.
    str() is the table of all settings, the best first.
    """

    model: Predictor
    accuracy: float
    results: dict[str, Any]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Every setting, the best first: its values, and its figures on the held-out rows over seeds."""
        return self.results["settings"]

    def __str__(self) -> str:
        return table_text(self.results)


def probe(
    features: Any,
    labels: Any,
    *,
    protocol: str | Protocol = "sgd-grid",
    test_features: Any = None,
    test_labels: Any = None,
    out: str | Path | None = None,
    **options: Any,
) -> ProbeResult:
    """Train the heads of a protocol on features (n, d), choose the best on held-out rows, and test it.

    labels (n,): whole numbers from 0 on, or strings. protocol: a name, the path of a TOML file, or a `Protocol`.
    test_features (m, d) and test_labels (m,): what the best head is tested on; None: a tenth of each class, which is
    then not trained on. out: where to leave probe.json, the report and the model; None: nowhere. options are those of
    the command: normalize and widths instead of the protocol's; folds, seeds (1), seed (0), backend ("auto"), threads,
    dtype ("float32"), epochs, batch_size.

    Raises UsageError for an argument that is not what it must be, DataError for rows that cannot be trained on: with
    NaN, all alike, of one class. Threads may call it at the same time, each with an `out` of its own. Progress is
    written to stderr.
    """
    if (test_features is None) != (test_labels is None):
        raise UsageError("Give test_features and test_labels together, or neither.")
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"probe has no option {name!r}{did_you_mean(name, OPTIONS)}: it has {', '.join(OPTIONS)}.")
    of_protocol = {name: options.pop(name, None) for name in OF_PROTOCOL}
    own = changed(open_protocol(protocol) if isinstance(protocol, str) else protocol, of_protocol)
    with TemporaryDirectory() as temporary:
        config = Config(out=Path(temporary if out is None else out), protocol=own, **options)
        found = FileFeatures(_tables((features, labels), (test_features, test_labels), config.seed), config)
        results = run_probe(config, Machine(config.backend, config.threads), "features", found)
        model = load_model(config.folder / BEST, config.backend, threads=config.threads)
        _ = model.trained_rows  # read while its folder is there
    return ProbeResult(model, results["chosen"]["test_accuracy"], results)


def _tables(train: tuple[Any, Any], test: tuple[Any, Any], seed: int) -> Tables:
    """Arrays of features and labels to train and to test on (None, None: a part of those) as tables."""
    place, test_place = Path("features"), Path("test_features")
    table, test_table = (
        None if X is None else table_of(np.asarray(X), np.asarray(y), place)
        for X, y, place in ((*train, place), (*test, test_place))
    )
    if table is None:
        raise UsageError("features must be an array (n, d), not None.")
    return tables_of(table, place, seed, test_table, test_place)


# The experiment.


def run_probe(config: Config, machine: Machine, on: str, features: FeatureSet) -> dict[str, Any]:
    """Train the heads of config.protocol, choose, train the chosen setting on all training rows, and test that model.

    Writes config.folder/best/, a model as `train_one` writes it, figures, report.html and, last, probe.json. With
    config.resume, batches of heads that an earlier run has finished are not trained again. Raises DivergedError if no
    setting is left, DataError for features that nothing can be learned from.
    """
    with claimed(config.folder):
        results = find_best(config, machine, on, features)
        head.write(read_json(config.folder / BEST / "results.json"), config.folder / BEST)
        list_bad_images_of(features, config.folder)
        report.write(results, config.folder)
        write_json(config.folder / RESULTS, results)
        (config.folder / HEADS).unlink()
    return results


def find_best(config: Config, machine: Machine, on: str, features: FeatureSet) -> dict[str, Any]:
    """What `run_probe` does but for the reports: it leaves the model, and what --resume needs."""
    _check(features, config)
    return _Probe(config, machine, on, features).run()


def _check(features: FeatureSet, config: Config) -> None:
    """DataError where all rows or all labels are the same; a word on rows of no length."""
    X, labels = features.parts[0]
    if len(np.unique(labels)) < 2:
        name = features.class_names[int(labels[0])]
        raise DataError(
            f"All {len(labels):,} training rows are of the class {name!r}: give rows of two classes or more."
        )
    if not any((rows != X[0]).any() for rows in _blocks(X)):
        raise DataError(f"All {len(X):,} training rows have the same features: give others, which tell rows apart.")
    if config.recipe.standardize == "unit":
        without = sum(int((~rows.any(axis=1)).sum()) for rows in _blocks(X))
        if without:
            warn(
                f"{without:,} of {len(X):,} training rows are all zeros: they have no length, and are left as they are."
            )


def _blocks(X: NDArray[Any]) -> Iterable[NDArray[Any]]:
    return (X[start : start + ROWS] for start in range(0, len(X), ROWS))


class _Probe:
    """One run of a probe."""

    def __init__(self, config: Config, machine: Machine, on: str, features: FeatureSet) -> None:
        assert config.protocol is not None
        self.protocol, self.machine, self.on, self.features = config.protocol, machine, on, features
        first = Setting(None, None, self.protocol.widths[0]).options()["hidden_layer_sizes"]
        self.config = config = replace(config, hidden_layer_sizes=first)
        self.models = Models(config, machine, {BEST: features})
        self.rates = self.protocol.rates(config.recipe.batch_size)
        self.splits = (
            [tenth(features, config.seed)] if config.folds is None else fold_rows(features, config.folds, config.seed)
        )
        self.heads: list[Known] = []
        self.kept: list[Known] = []  # of an earlier run, which are the next that this one comes to
        if self.protocol.strengths and (config.seeds > 1 or config.epochs or config.batch_size):
            raise UsageError(
                "Logistic regression has no epochs, no batches, and the same solution from every seed: leave --epochs, "
                "--batch-size and --seeds out."
            )

    def run(self) -> dict[str, Any]:
        config = self.config
        check_settings(self._settings(self.protocol.weight_decays), config)
        self._recall()
        with self.machine.timed("probe"):
            self._search()
        settings = ranked(self.heads)
        if settings[0]["diverged"]:
            raise DivergedError(
                "Of every setting a head diverged: give smaller learning_rates in a protocol of your own."
            )
        (config.folder / RESULTS).unlink(missing_ok=True)  # so that it never lies beside another probe's model
        chosen = Setting.of(settings[0])
        return {
            "schema": SCHEMA,
            "on": self.on,
            "protocol": self.protocol.as_dict(),
            "grid": self._grid(settings),
            "folds": config.folds,
            "settings": settings,
            "chosen": {**chosen.as_dict(), "seed": config.seed, **self._train_best(chosen), "model": BEST},
            **describe(self.models, self.features, self.splits, self.heads),
        }

    def _grid(self, settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The values that were tried."""
        if self.protocol.strengths:
            return {"strengths": list(self.protocol.strengths), "widths": [0]}
        decays = sorted({row["weight_decay"] for row in settings})
        return {"learning_rates": list(self.rates), "weight_decays": decays, "widths": list(self.protocol.widths)}

    # The search.

    def _settings(self, weight_decays: Iterable[float]) -> list[Setting]:
        if self.protocol.strengths:
            return [Setting(None, None, 0, strength) for strength in self.protocol.strengths]
        return Setting.combined(self.protocol.widths, weight_decays, self.rates)

    def _search(self) -> None:
        """Train the heads of every weight decay or, round by round, of those that the protocol's search comes to."""
        if self.protocol.strengths:
            self._train(())
            return
        decays, step = self.protocol.weight_decays, self.protocol.first_every
        places = set(range(0, len(decays), step))
        tried: set[int] = set()
        while step:
            self._train([decays[place] for place in sorted(places - tried)])
            tried |= places
            best = decays.index(ranked(self.heads)[0]["weight_decay"])
            step //= 2
            places = {place for place in (best - step, best + step) if 0 <= place < len(decays)}

    def _train(self, weight_decays: Sequence[float]) -> None:
        """Train the heads of these weight decays, width by width and fold by fold, and keep what they come to."""
        of_widths = itertools.groupby(self._settings(weight_decays), key=lambda setting: setting.width)
        for settings in (list(alike) for _, alike in of_widths):
            for number, split in enumerate(self.splits, start=1):
                fold = None if self.config.folds is None else number
                if not self._takes_kept(settings, fold):
                    trial = Trial.of(self.features, *split)
                    trained = train_candidates(self.models, settings, trial, "probe", fold)
                    self.heads += map(Known.of, trained)
                    self._keep()

    # What an interrupted run leaves.

    def _takes_kept(self, settings: Sequence[Setting], fold: int | None) -> bool:
        """Take the heads of these settings that an earlier run trained, if it did so as they would be trained now.

        A GPU's ways may have been measured again since, and differ in the last bits: then all that is left of that run
        is forgotten, as the search may take another course.
        """
        wanted = heads_of(self.models, settings)
        way = wanted[0].blueprint.way_on(self.machine.backend)
        next_ones, rest = self.kept[: len(wanted)], self.kept[len(wanted) :]
        found = [
            (head.setting, head.figures["seed"], head.figures.get("fold"), head.tier.get(WAY, "")) for head in next_ones
        ]
        if found == [(head.setting, head.blueprint.seed, fold, way) for head in wanted]:
            self.heads += next_ones
            self.kept = rest
            return True
        if self.kept:
            self._forget()
        return False

    def _forget(self) -> None:
        """Leave nothing to take of what an earlier run trained in another way, nor of the best that it came to."""
        say(f"{len(self.kept):,} heads were trained in another way than they would be now: they are trained again.")
        self.kept = []
        for name in (CHECKPOINT, MODEL, SEEDS):
            (self.config.folder / BEST / name).unlink(missing_ok=True)

    @property
    def _fingerprint(self) -> dict[str, Any]:
        """What kept heads must agree with, as JSON has it."""
        config = self.config
        own = {"protocol": repr(self.protocol), "folds": config.folds, "seeds": config.all_seeds}
        return {**self.models.fingerprint(BEST), **own}

    def _keep(self) -> None:
        write_json(self.config.folder / HEADS, {"of": self._fingerprint, "heads": self.heads})

    def _recall(self) -> None:
        """The heads that an earlier run has finished, with config.resume; else forget them."""
        path = self.config.folder / HEADS
        if not self.config.resume:
            path.unlink(missing_ok=True)
        if not path.is_file():
            return
        kept = read_json(path)
        if not isinstance(kept, dict) or kept.get("of") != self._fingerprint:
            raise UsageError(f"{path} is of another experiment: choose another --out, or drop --resume.")
        try:
            self.kept = [Known(Setting(*setting), figures, tier) for setting, figures, tier in kept["heads"]]
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path} is damaged: drop --resume to start over.") from None
        say(f"Resuming {path}: {len(self.kept):,} heads are trained already.")

    # The best.

    def _train_best(self, setting: Setting) -> dict[str, Any]:
        """Train it on all training rows, write it, and return its figures, over all seeds too."""
        figures = train_chosen(self.models, BEST, setting)["figures"]
        if self.config.seeds == 1:
            return figures
        further = over_seeds(self.models.changed(**setting.options()), {BEST: figures})
        return {**figures, "over_seeds": further["table1"][BEST]}
