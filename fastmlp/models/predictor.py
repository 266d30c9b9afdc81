"""A trained model with its extractor: from images or features to labels and class probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends import Backend, open_backend
from fastmlp.backends.base import Array
from fastmlp.common.environment import available_cores
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import read_json
from fastmlp.common.progress import progress
from fastmlp.common.tensors import on_host
from fastmlp.datasets.images import as_images
from fastmlp.datasets.mapped import IMAGE_SHAPE, MappedImages
from fastmlp.extractors import Extractor, open_extractor
from fastmlp.extractors.base import REDUCED
from fastmlp.features.columns import check_complete
from fastmlp.features.sharded_rows import ShardedRows
from fastmlp.features.tables import RowArray, finite_rows, indices_of
from fastmlp.models import metrics, storage
from fastmlp.models.folder import MODEL
from fastmlp.models.trained_rows import TrainedRows, digests, row_hashes
from fastmlp.models.views import ONE, check_views, mean_answer, views_of
from fastmlp.network import evaluation
from fastmlp.network.evaluation import softmax
from fastmlp.network.trainer import Trainer

ROWS = 256
PART_BYTES = 2**26  # of the features of images, or of features in shards, that are answered to at a time


def load_model(
    folder: str | Path, backend: str = "auto", *, weights: Path | None = None, threads: int | None = None
) -> Predictor:
    """The model in a folder that `fastmlp train`, `sweep` or `reproduce` wrote; nothing pickled is loaded.

    Arguments and errors as for `Predictor`; backend by name. An extractor is opened when images first ask for it.
    """
    return Predictor(Path(folder), open_backend(backend, threads or available_cores()), weights)


class Predictor:
    """The model in a folder: X is images uint8 (n, 3, 32, 32), or features (n, d) as its extractor makes them.

    classes are the labels (classes,) that predict returns: int64 for a head trained on whole numbers, else strings.
    Of a data frame, a model trained on columns takes those by name, in any order; an array has them in their order.
    weights replaces the extractor's weights file if that has moved. Raises DataError if the model or the weights
    are missing, damaged, or the weights are not those the model was trained with, and for an X that does not fit.

    views="mirror" answers to each image by the mean of its probabilities of the image and of its mirror image, left for
    right. UsageError where X or the model's are features, or a mirror image is of another class, as of digits.

    Threads may share it, a web server's, say.
    """

    def __init__(self, folder: Path, backend: Backend, weights: Path | None = None) -> None:
        _check_folder(folder)
        self.parameters = storage.load(folder / MODEL).parameters
        self.config = _read_config(folder / "config.json", self.parameters.sizes)
        self.folder, self.backend, self.weights = folder, backend, weights
        self.network = Trainer(self.parameters, backend, ROWS)  # of features that are standardised already
        names = self.class_names
        self.classes = np.array(names).astype(np.int64 if self.config.get("integer_classes") else np.str_)

    @property
    def class_names(self) -> list[str]:
        return self.config["class_names"]

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The columns that features (n, d) are, where it was trained on columns with names."""
        names = self.config.get("feature_names")
        return None if names is None else tuple(names)

    @cached_property
    def extractor(self) -> Extractor:
        """Opened when first asked for; UsageError where the model was trained on features made elsewhere."""
        if self.config["extractor"] is None:
            raise UsageError(
                f"The model in {self.folder} takes features made elsewhere, not images: give it "
                f"{self.network.sizes[0]} features per row, made like those it was trained on."
            )
        extractor = _open_extractor(self.config, self.folder, self.backend, self.weights)
        if extractor.features != self.network.sizes[0]:
            raise DataError(f"The model in {self.folder} does not fit its extractor: train it again.")
        return extractor

    @cached_property
    def trained_rows(self) -> TrainedRows | None:
        """The rows it was trained on; None where its folder does not tell."""
        return TrainedRows.load(self.folder)

    def check_views(self, views: str) -> None:
        """Raise UsageError unless it can answer to these views."""
        check_views(views, self.folder, self.config)

    def predict(self, X: NDArray[Any], views: str = ONE) -> NDArray[Any]:
        """The most likely class of each row (n,)."""
        return self.classes[self.logits(X, views).argmax(axis=1)]

    def predict_proba(self, X: NDArray[Any], views: str = ONE) -> NDArray[Any]:
        """Class probabilities (n, classes)."""
        return softmax(self.logits(X, views))

    def evaluate(self, X: NDArray[Any], labels: NDArray[Any], views: str = ONE) -> dict[str, Any]:
        """All figures of `metrics.evaluate`; labels (n,): classes or, where those are strings, their places.

        Also test_set: what tells these rows from others, as `trained_rows.digests` has it; rows_trained_on: how many of
        them equal rows that the model was trained on, as float32; None for a model whose folder does not tell; views.
        """
        answers = self.answers(X, labels, views)
        return {**metrics.evaluate(answers, self.class_names), **self.whence(X, answers), "views": views}

    def whence(self, X: NDArray[Any], answers: metrics.Answers) -> dict[str, Any]:
        """test_set and rows_trained_on of `evaluate`, of rows that it gave these answers to."""
        hashes, trained = row_hashes(self._array(X)), self.trained_rows
        count = None if trained is None else trained.count(hashes)
        return {"test_set": digests(hashes, answers.labels), "rows_trained_on": count}

    def answers(self, X: NDArray[Any], labels: NDArray[Any], views: str = ONE) -> metrics.Answers:
        """What it answers to rows of these labels, as for `evaluate`; DataError if there are none."""
        X, labels = self._array(X), np.asarray(labels)
        if labels.dtype.kind in "OT":  # as data frames hold words
            labels = labels.astype(np.str_)
        if labels.shape != X.shape[:1] or len(labels) == 0:
            raise DataError(f"X has shape {X.shape}, the labels {labels.shape}: give one label per row, and some rows.")
        places = self._places_of(labels)
        return metrics.Answers.of(self._logit_batches(X, views), places)

    def _places_of(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Where each label stands among the classes."""
        if labels.dtype.kind not in "iu" or self.classes.dtype.kind == "i":
            return indices_of(labels, self.classes, "the labels")
        if not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise DataError(f"Labels run to {labels.max()}, but there are {len(self.classes)} classes: count from 0.")
        return labels.astype(np.int64)

    def logits(self, X: NDArray[Any], views: str = ONE) -> NDArray[Any]:
        """Logits (n, classes); of several views the logarithms of their mean probabilities."""
        batches = list(self._logit_batches(self._array(X), views))
        return np.concatenate(batches) if batches else np.empty((0, self.network.sizes[-1]), self.network.dtype)

    def _logit_batches(self, X: Any, views: str) -> Iterator[NDArray[Any]]:
        """The same, batch by batch."""
        for placed in self._parts(X, views):
            yield from map(mean_answer, *map(self.network.logit_batches, placed))

    def _parts(self, X: Any, views: str) -> Iterator[list[Array]]:
        """Features of each view of X on the device, standardised if the model's are: few of images, or in shards."""
        self.check_views(views)
        if X.ndim > 2:
            yield from self._parts_of_images(X, views)
            return
        self._check_features(X, views)
        if not isinstance(X, ShardedRows):
            yield [self._standardised(X)]
            return
        size = _whole_batches(evaluation.ROWS, X.shape[1] * X.dtype.itemsize)
        for start in range(0, len(X), size):
            yield [self._standardised(X, np.arange(start, min(start + size, len(X))))]

    def _parts_of_images(self, X: Any, views: str) -> Iterator[list[Array]]:
        rows = _whole_batches(evaluation.ROWS, 4 * self.extractor.features)
        for part in _regrouped(self._extracted(X, views), rows):
            yield [self._standardised(features) for features in part]

    def _array(self, X: Any) -> Any:
        """X as an array, or in its files; of a data frame the columns that the model was trained on, in that order."""
        if isinstance(X, ShardedRows | MappedImages):
            return X
        names, columns = self.feature_names, list(getattr(X, "columns", ()))
        if names is None or not all(isinstance(name, str) for name in columns) or not columns:
            return np.asarray(on_host(X))
        check_complete(names, columns, "the data frame")
        return np.asarray(X[list(names)])

    def _standardised(self, features: RowArray, rows: NDArray[np.int64] | None = None) -> Array:
        """Features, or those rows of them, on the device, as the network takes them."""
        dtype, names, scaling = self.network.dtype, self.feature_names, self.parameters.scaling
        return self.backend.asarray(finite_rows(features, rows, dtype, "the features", names, scaling))

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, d) of uint8 images (n, 3, 32, 32)."""
        return np.concatenate([batch[0] for batch in self._extracted(images, ONE)])

    def _extracted(self, images: Any, views: str) -> Iterator[NDArray[np.float32]]:
        """Features (views, b, d) of a batch of images after the other."""
        size = self.extractor.batch_size
        images = images if isinstance(images, MappedImages) else as_images(images, DataError)
        if images.shape[1:] != IMAGE_SHAPE:
            raise DataError(f"Images must be (n, 3, 32, 32), not {images.shape}: resize them to 32x32 pixels.")
        with progress(f"extract {self.extractor.name}", len(images), "images") as bar:
            for start in range(0, len(images), size):
                batch = images[start : start + size]
                yield np.stack([self.extractor(view) for view in views_of(batch, views)])
                bar.advance(len(batch))

    def _check_features(self, features: RowArray, views: str) -> None:
        """Raise DataError unless they have the network's width, UsageError for views that features do not have."""
        if views != ONE:
            raise UsageError(f"Features have no mirror image: give images (n, 3, 32, 32), or leave views at {ONE}.")
        width = self.network.sizes[0]
        if features.ndim != 2 or features.shape[1] != width or features.dtype.kind not in "fiu":
            one = features.shape == (width,)
            fix = "give X[None] for one row" if one else "give features made like those it was trained on"
            raise DataError(
                f"The model takes numbers (n, {width}), {width} features per row, not {features.dtype} "
                f"{features.shape}: {fix}."
            )


def _whole_batches(rows: int, row_bytes: int) -> int:
    """How many rows PART_BYTES have room for, in whole batches of so many; at least one batch."""
    return rows * max(1, PART_BYTES // (rows * row_bytes))


def _regrouped(batches: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """All rows of arrays (v, b, d) in arrays (v, n, d): n is a multiple of so many rows, but for the last."""
    kept, held = list[NDArray[Any]](), 0
    for batch in batches:
        kept, held = [*kept, batch], held + batch.shape[1]
        if held >= rows:
            whole, left = np.concatenate(kept, axis=1), held % rows
            yield whole[:, : held - left]
            kept, held = [whole[:, held - left :].copy()], left
    if held:
        yield np.concatenate(kept, axis=1)


def _check_folder(folder: Path) -> None:
    """DataError, naming the folders that may have been meant, unless there is a model."""
    if (folder / MODEL).exists():
        return
    if folder.name == MODEL and folder.is_file():
        raise DataError(f"{folder} is the file of a model: give its folder, {folder.parent}.")
    near = sorted(str(path.parent) for path in folder.glob(f"*/{MODEL}"))
    fix = f"give {' or '.join(near)}" if near else "train one first, or check the path"
    raise DataError(f"There is no model in {folder}: {fix}.")


def _read_config(path: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """config.json of a network of these sizes; DataError unless every entry that is used has its type."""
    config = read_json(path)
    try:
        extractor, names = config["extractor"], config["class_names"]
        kinds: list[tuple[Any, Any]] = [(config["dataset"], str), (config["weights"], str | None), (names, list)]
        kinds += [(name, str) for name in names]
        if extractor is not None:
            kinds += [(extractor["name"], str), (extractor.get("image_size"), int | None)]
            kinds += [(config.get("mirror_keeps_class"), bool | None)]
        if config.get("integer_classes"):
            kinds += [(np.array([int(name) for name in names], np.int64), np.ndarray)]
        columns = config.get("feature_names")
        kinds += [(config.get("label_column"), str | None), (columns, list | None)]
        kinds += [(name, str) for name in columns or ()]
        fits = len(names) == sizes[-1] and (columns is None or len(columns) == sizes[0])
        sound = fits and all(isinstance(value, kind) for value, kind in kinds)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise DataError(f"{path} is damaged: train the model again.")
    return config


def _open_extractor(config: dict[str, Any], folder: Path, backend: Backend, weights: Path | None) -> Extractor:
    """The extractor that config.json names, with the very weights the model was trained on."""
    expected, recorded = config["extractor"], config["weights"]
    name, size = expected["name"], expected.get("image_size")
    if weights is None and recorded is not None:
        weights = folder / recorded  # an absolute path stays as it is
    # a CPU, which is not asked for fewer bits, gives features that are nearer to the exact ones
    dtype = expected["dtype"] if expected.get("dtype") in REDUCED and backend.device != "cpu" else "float32"
    extractor = open_extractor(name, backend, weights=weights, image_size=size, dtype=dtype)
    if extractor.provenance().get("weights") != expected.get("weights"):
        raise DataError(f"The weights of {name} are not those the model was trained with: pass those with --weights.")
    return extractor
