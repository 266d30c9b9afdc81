"""MLPClassifier(preset="sklearn") and MLPRegressor: scikit-learn's own training and answers, on any backend."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import backend_for, to_host
from fastmlp.estimators.parameters import widths_of
from fastmlp.estimators.rows import row_weights
from fastmlp.estimators.sklearn_parameters import checked, settings_of
from fastmlp.estimators.sklearn_training import (
    Data,
    decoded,
    forward_of,
    objective_of,
    parameters_of,
    placed,
    record,
    take,
    train_by_descent,
)
from fastmlp.training.as_sklearn import Descent, Progress, Settings, initial_parameters
from fastmlp.training.lbfgs import minimize

SPARSE = ("csr", "csc")
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class TrainedAsSklearn:
    """The training of an estimator that has scikit-learn's parameters, and its raw answers."""

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any]]
    backend: str
    threads: int | None
    dtype: str | None  # None: that of the features
    class_weight: dict[Any, float] | str | None = None

    def _train_as_sklearn(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> None:
        settings = settings_of(self)
        if incremental and settings.early_stopping:
            raise UsageError("partial_fit does not support early_stopping=True: it sees only a part of the rows.")
        from_scratch = not hasattr(self, "coefs_") or not (settings.warm_start or incremental)
        features, targets = self._checked(X, y, settings, incremental, reset=from_scratch)
        weights = self._weights(sample_weight, features, targets, incremental)
        generator = check_random_state(self.random_state)  # type: ignore[attr-defined]
        if from_scratch:
            self._begin(features, targets, settings, generator)
        backend, data = backend_for(self.backend, None, self.threads), (features, targets, weights)
        with backend.without_autograd():
            if settings.solver == "lbfgs":
                self._minimize(data, settings, backend)
            else:
                descent = self._descent(settings, incremental)
                train_by_descent(self, data, settings, descent, backend, generator, incremental)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise UsageError(NOT_FINITE)
        self.backend_ = str(backend)

    def _partial_fit_as_sklearn(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        """An epoch of a classifier, whose classes the first call names."""
        if _check_partial_fit_first_call(self, classes):
            self._learn_classes(y if type_of_target(y).startswith("multilabel") else classes)
        self._train_as_sklearn(X, y, sample_weight, incremental=True)

    # What it trains on.

    def _checked(self, X: Any, y: Any, settings: Settings, incremental: bool, reset: bool) -> tuple[Any, NDArray[Any]]:
        """Features, dense or in sparse rows, and targets (n, outputs)."""
        numeric = not is_classifier(self)
        dtype = self.dtype or (np.float64, np.float32)
        features, y = validate_data(
            self,
            to_host(X),
            to_host(y),
            accept_sparse=SPARSE,
            multi_output=True,
            y_numeric=numeric,
            dtype=dtype,
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        targets = y if numeric else self._binarized(y, settings, incremental)
        return features, targets.reshape(len(targets), -1)

    def _binarized(self, y: NDArray[Any], settings: Settings, incremental: bool) -> NDArray[np.bool_]:
        """A column for each class or label; of two classes, one for the second."""
        if not hasattr(self, "classes_") or not (settings.warm_start or incremental):
            self._learn_classes(y)
        self._check_classes(unique_labels(y), settings)
        return self._label_binarizer.transform(y).astype(bool)

    def _learn_classes(self, y: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _check_classes(self, found: NDArray[Any], settings: Settings) -> None:
        """Raises UsageError for classes that the network has not, and, on a warm start, for those that are missing."""
        if settings.warm_start and set(found) != set(self.classes_):
            raise UsageError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {found}"
            )
        if not np.isin(found, self.classes_).all():
            raise UsageError(f"`y` has classes not in `self.classes_`, {self.classes_}: it has {found}.")

    def _weights(
        self, sample_weight: Any, features: Any, targets: NDArray[Any], incremental: bool
    ) -> NDArray[Any] | None:
        """How much each row's loss counts (n,), or None: its sample weight times its class weight."""
        given = None if sample_weight is None else _check_sample_weight(to_host(sample_weight), features)
        if self.class_weight is None:
            return given
        if self._label_binarizer.y_type_.startswith("multilabel"):
            raise UsageError("class_weight must be None where rows have several labels: pass sample_weight.")
        if incremental and self.class_weight == "balanced":
            raise UsageError('partial_fit sees only part of the data: it does not support class_weight="balanced".')
        labels = np.searchsorted(self.classes_, self._decoded(targets))
        ones = np.ones(len(targets)) if given is None else given
        return row_weights(ones, self.class_weight, self.classes_, labels)

    # Training.

    def _begin(
        self, features: Any, targets: NDArray[Any], settings: Settings, generator: np.random.RandomState
    ) -> None:
        """A new network, and what is known of its training."""
        sizes = (features.shape[1], *widths_of(settings.hidden_layer_sizes), targets.shape[1])
        self.n_layers_, self.n_outputs_ = len(sizes), targets.shape[1]
        self.out_activation_ = self._output()
        take(self, initial_parameters(sizes, settings.activation, generator, features.dtype.name))
        vars(self).pop("_optimizer", None)
        self.n_iter_, self.t_ = 0, 0
        if settings.solver != "lbfgs":
            record(self, Progress.new(parameters_of(self), validated=settings.early_stopping))

    def _output(self) -> str:
        """The output's activation, by scikit-learn's name."""
        if is_classifier(self):
            return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"
        return {"squared_error": "identity", "poisson": "exp"}[self.loss]  # type: ignore[attr-defined]

    def _descent(self, settings: Settings, incremental: bool) -> Descent:
        """What sgd or adam remembers: of the last call of partial_fit, or nothing yet."""
        if not (incremental and hasattr(self, "_optimizer")):
            self._optimizer = Descent(float(settings.learning_rate_init))
        return self._optimizer

    def _minimize(self, data: Data, settings: Settings, backend: Backend) -> None:
        """L-BFGS on all rows, in float64 as SciPy's."""
        objective = objective_of(self, settings, backend, parameters_of(self).astype("float64"))
        self.loss_, self.n_iter_ = minimize(objective, placed(data, objective), settings)
        take(self, objective.parameters)

    # Answers.

    def _raw_answers(self, X: Any) -> NDArray[Any]:
        """What the output layer says of each row: (n, outputs)."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self, "coefs_")  # it takes a twentieth of the time of one row, and here it raises
        activation = checked(self, ("activation", "backend", "threads")).get("activation", Settings.activation)
        features = validate_data(self, to_host(X), accept_sparse=SPARSE, reset=False)
        dtype = _dtype_of_answers(features.dtype, self.coefs_[0].dtype)
        backend = backend_for(self.backend, None, self.threads)
        with backend.without_autograd():
            return forward_of(self, activation, backend, dtype).answers(features, dtype)

    def _decoded(self, answers: NDArray[Any]) -> NDArray[Any]:
        return decoded(self, answers)


@cache
def _dtype_of_answers(features: np.dtype[Any], coefficients: np.dtype[Any]) -> str:
    """Its name, which takes NumPy long to find."""
    return np.result_type(features, coefficients, np.float32).name
