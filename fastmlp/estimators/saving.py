"""A fitted classifier as a model folder, which `fastmlp.load_model` and the command line open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastmlp.common import environment
from fastmlp.common.errors import UsageError
from fastmlp.estimators.fitting import Fit
from fastmlp.models import folder as model_folder
from fastmlp.models import trained_rows
from fastmlp.models.export import export_onnx
from fastmlp.models.predictor import load_model

INTEGERS = np.iinfo(np.int64)


class ModelFiles:
    """The methods by which a classifier writes itself to files."""

    _fit: Fit
    backend_: str

    def save(self, folder: str | Path) -> None:
        """Write a model folder, without pickles, which `fastmlp.load_model` and the command line open.

        Parameters
        ----------
        folder : str or Path
            Where the model goes; a model that lies there is replaced.

        Raises
        ------
        UsageError
            If the labels are neither strings nor whole numbers, a file has that name, or the preset is "sklearn".
        """
        check_is_fitted(self)
        if not hasattr(self, "_fit"):
            raise UsageError(
                'A model folder holds no network of preset="sklearn": keep it by joblib.dump, or fit by another preset.'
            )
        write_model(Path(folder), self._fit, getattr(self, "feature_names_in_", None), self.backend_)

    def to_onnx(self, path: str | Path) -> float:
        """Write an ONNX file, as `fastmlp export` does; it needs ``pip install 'fastmlp[onnx]'``.

        Its input is `features` (n, d), float32, or float64 where a feature's mean is more than ten of its standard
        deviations; its outputs are `probabilities` (n, classes) and `label` (n,), the place in classes_.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        difference : float
            How far ONNX Runtime's probabilities are from ours on random rows, at most.

        Raises
        ------
        BackendError
            If onnx or onnxruntime is missing.
        UsageError
            As in `save`.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            return export_onnx(load_model(folder, "numpy"), Path(path))


def write_model(folder: Path, fit: Fit, feature_names: Sequence[str] | None, backend: str) -> None:
    """Write the model; UsageError for a path that is a file, or for labels other than strings and whole numbers."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a folder to save the model in.")
    description = {
        "dataset": "arrays in Python",
        "note": "",
        **_classes(fit.classes),
        "rows": {"training": fit.rows},
        "extractor": None,
        "feature_names": None if feature_names is None else list(feature_names),
        "weights": None,
        "versions": {**environment.describe(), "backend": backend},
    }
    fingerprint = {
        "sizes": list(fit.parameters.sizes),
        "recipe": fit.recipe.as_dict(),
        "seed": fit.seed,
        "dtype": fit.parameters.dtype,
        "features": [],
    }
    for stale in (model_folder.MODEL, trained_rows.NAME):  # of another model
        (folder / stale).unlink(missing_ok=True)
    about = {"fingerprint": fingerprint, "history": fit.history.as_dict()}
    model_folder.write(folder, fit.parameters, about, description)


def _classes(classes: NDArray[Any]) -> dict[str, Any]:
    """The classes as config.json has them."""
    labels = classes.tolist()
    whole = classes.dtype.kind in "iu" and all(INTEGERS.min <= label <= INTEGERS.max for label in labels)
    if not whole and not all(isinstance(label, str) for label in labels):
        raise UsageError(
            f"A model folder has labels that are strings or whole numbers, not {labels[0]!r}: convert y and fit again."
        )
    return {"class_names": [str(label) for label in labels], "integer_classes": whole}
