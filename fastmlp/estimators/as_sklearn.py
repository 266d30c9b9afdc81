"""MLPClassifier(preset="sklearn") and MLPRegressor: scikit-learn's own training and answers, on any backend.

All that a fit leaves is in the attributes that scikit-learn's estimators have, some of them private: what is written
into them, such as other coefficients, counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import backend_for, to_host
from fastmlp.estimators.parameters import widths_of
from fastmlp.estimators.rows import row_weights
from fastmlp.estimators.sklearn_parameters import settings_of
from fastmlp.network.inputs import Rows, inputs_of
from fastmlp.network.objective import Objective
from fastmlp.network.parameters import Parameters
from fastmlp.training.as_sklearn import Descent, Progress, Settings, descend, initial_parameters
from fastmlp.training.lbfgs import minimize

BLOCK = 2**14  # rows that are answered at a time
SPARSE = ("csr", "csc")
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
OUTPUTS = {"exp": "exponential"}  # scikit-learn's name of an output, and ours where it is another
Data = tuple[Any, NDArray[Any], NDArray[Any] | None]  # features, targets (n, outputs) and weights, on the host


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
        anew = not hasattr(self, "coefs_") or not (settings.warm_start or incremental)
        features, targets = self._checked(X, y, settings, incremental, reset=anew)
        weights = self._weights(sample_weight, features, targets, incremental)
        generator = check_random_state(self.random_state)  # type: ignore[attr-defined]
        if anew:
            self._begin(features, targets, settings, generator)
        backend = backend_for(self.backend, None, self.threads)
        with backend.without_autograd():
            if settings.solver == "lbfgs":
                self._minimize((features, targets, weights), settings, backend)
            else:
                self._descend((features, targets, weights), settings, backend, generator, incremental)
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
        self._take(initial_parameters(sizes, settings.activation, generator, features.dtype.name))
        vars(self).pop("_optimizer", None)
        self.n_iter_, self.t_ = 0, 0
        if settings.solver != "lbfgs":
            self._record(Progress.new(self._parameters(), validated=settings.early_stopping))

    def _output(self) -> str:
        """The output's activation, by scikit-learn's name."""
        if is_classifier(self):
            return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"
        return {"squared_error": "identity", "poisson": "exp"}[self.loss]  # type: ignore[attr-defined]

    def _minimize(self, data: Data, settings: Settings, backend: Backend) -> None:
        """L-BFGS on all rows, in float64 as SciPy's."""
        objective = self._objective(settings, backend, self._parameters().astype("float64"))
        self.loss_, self.n_iter_ = minimize(objective, _placed(data, objective), settings)
        self._take(objective.parameters)

    def _descend(
        self,
        data: Data,
        settings: Settings,
        backend: Backend,
        generator: np.random.RandomState,
        incremental: bool,
    ) -> None:
        """Mini-batches, by sgd or adam."""
        objective = self._objective(settings, backend, self._parameters())
        if not (incremental and hasattr(self, "_optimizer")):
            self._optimizer = Descent(float(settings.learning_rate_init))
        score = None
        if settings.early_stopping:
            data, held_out = self._split(data, settings, generator)
            score = self._scorer(objective, held_out)
        progress = self._progress(validated=settings.early_stopping)
        rows = _placed(data, objective)
        descend(objective, rows, settings, self._optimizer, progress, generator, once=incremental, score=score)
        self._take(progress.best if settings.early_stopping else objective.parameters)
        self._record(progress)
        self.loss_ = progress.losses[-1]

    def _split(self, data: Data, settings: Settings, generator: np.random.RandomState) -> tuple[Data, Data]:
        """The rows to train on, and those held out, of each class in proportion."""
        features, targets, weights = data
        stratify = targets if is_classifier(self) and targets.shape[1] == 1 else None
        parts = train_test_split(
            np.arange(len(targets)), random_state=generator, test_size=settings.validation_fraction, stratify=stratify
        )
        if len(parts[1]) < 2:
            raise UsageError("The validation set is too small: pass more rows, or a larger validation_fraction.")
        kept, held_out = ((features[part], targets[part], None if weights is None else weights[part]) for part in parts)
        return kept, held_out

    def _scorer(self, objective: Objective, held_out: Data) -> Any:
        """A function that scores the network on the held-out rows as it is then: NaN if it has diverged."""
        features, targets, weights = held_out
        expected = self._decoded(targets) if is_classifier(self) else targets
        measure = accuracy_score if is_classifier(self) else r2_score

        def score() -> float:
            answers = _answers(objective, features)
            found = self._decoded(answers) if is_classifier(self) else answers
            if found.dtype.kind == "f" and not np.isfinite(found).all():
                return np.nan
            return measure(expected, found, sample_weight=weights)

        return score

    # Its state, in attributes.

    def _take(self, parameters: Parameters) -> None:
        self.coefs_, self.intercepts_ = list(parameters.weights), list(parameters.biases)

    def _parameters(self) -> Parameters:
        return Parameters(tuple(self.coefs_), tuple(self.intercepts_))

    def _progress(self, validated: bool) -> Progress:
        progress = Progress.new(getattr(self, "_best", self._parameters()), validated)
        for name, attribute in Progress.ATTRIBUTES.items():
            if hasattr(self, attribute):
                setattr(progress, name, getattr(self, attribute))
        return progress

    def _record(self, progress: Progress) -> None:
        self._best = progress.best
        for name, attribute in Progress.ATTRIBUTES.items():
            setattr(self, attribute, getattr(progress, name))

    # Answers.

    def _raw_answers(self, X: Any) -> NDArray[Any]:
        """What the output layer says of each row: (n, outputs)."""
        check_is_fitted(self)
        settings = settings_of(self)
        features = validate_data(self, to_host(X), accept_sparse=SPARSE, reset=False)
        dtype = np.result_type(features.dtype, self.coefs_[0].dtype, np.float32).name
        backend = backend_for(self.backend, None, self.threads)
        with backend.without_autograd():
            return _answers(self._objective(settings, backend, self._parameters().astype(dtype)), features)

    def _objective(self, settings: Settings, backend: Backend, parameters: Parameters) -> Objective:
        output = OUTPUTS.get(self.out_activation_, self.out_activation_)
        return Objective(parameters, backend, settings.activation, output, settings.alpha, settings.optimizer)

    def _decoded(self, answers: NDArray[Any]) -> NDArray[Any]:
        """The classes that answers (n, outputs), or targets, stand for."""
        return self._label_binarizer.inverse_transform(answers.ravel() if answers.shape[1] == 1 else answers)


def _placed(data: Data, objective: Objective) -> Rows:
    """Data where the objective is, and of its dtype."""
    features, targets, weights = data
    backend, dtype = objective.backend, objective.dtype
    weights = None if weights is None else weights.astype(dtype)
    return Rows(
        backend,
        inputs_of(backend, features, dtype),
        backend.asarray(np.ascontiguousarray(targets, dtype)),
        None if weights is None else backend.asarray(weights),
        weights,
    )


def _answers(objective: Objective, features: Any) -> NDArray[Any]:
    """The network's predictions, block by block."""
    blocks = (features[start : start + BLOCK] for start in range(0, features.shape[0], BLOCK))
    return np.concatenate(
        [objective.predictions(inputs_of(objective.backend, block, objective.dtype)) for block in blocks]
    )
