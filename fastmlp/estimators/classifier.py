"""MLPClassifier: the network behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import backend_for, beside, dtype_of, namespace_of, on_backend, place_of, to_host
from fastmlp.estimators.fitting import (
    Floats,
    Labels,
    Rows,
    Stopping,
    Training,
    check_shapes,
    recipe_of,
    warn_of_scale,
    weights_of_rows,
    widths_of,
)
from fastmlp.network.network import Network, Parameters, softmax
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe

NUMBERS = "biuf"  # kinds of labels that other libraries' arrays can hold
UNTRAINED = 1  # the batch size of a network that only answers


class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multi-layer perceptron with ReLU layers and softmax, trained by mini-batches.

    Names are those of scikit-learn's MLPClassifier where the meaning is. The defaults, ``preset="tabular"``, train well
    on ordinary data, scaled or not. ``MLPClassifier(preset="paper")`` is the paper's training, to the last bit that of
    ``fastmlp train --preset paper``; so is, spelled out, ``MLPClassifier(preset="paper", hidden_layer_sizes=(64,),
    max_iter=300, batch_size=64, learning_rate_init=0.01, init="paper", shuffle=True, random_state=0,
    dtype="float32")``.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64,)
        Widths of the hidden layers; () gives multinomial logistic regression.
    preset : {"tabular", "fast", "paper"}, default="tabular"
        What every parameter that is None stands for. "tabular": features of any scale, each standardised; Adam, one
        cycle of learning rates, 100 epochs. "fast" and "paper": as the command line's, features as they come but for
        "fast", which takes off their mean and divides all by one spread.
    backend : str, default="auto"
        "numpy", "numba", "torch", "torch:DEVICE", "cupy", or "auto": CuPy on a working GPU, else Numba, else NumPy; for
        PyTorch's and CuPy's arrays under ``array_api_dispatch``, their own library and device.
    solver : {"adam", "sgd"} or None, default=None
        Adam, or plain gradient descent without momentum.
    alpha : float or None, default=None
        L2 penalty, in scikit-learn's unit: alpha / (2 b) times the sum of the squared weights (not biases) is added to
        a batch's mean loss, b being ``batch_size``. With "sgd" that is exact (but that the last, smaller batch of an
        epoch has the same penalty); with "adam" it is decoupled from the gradient (Loshchilov and Hutter 2019): a step
        multiplies the weights by 1 - learning_rate * alpha / b. It holds for the weights of the features as they are
        trained on, so of standardised ones. "tabular" has 10, "paper" 0.
    batch_size : int or None, default=None
        Rows a step; the last batch of an epoch may be smaller.
    learning_rate : {"one-cycle", "constant", "step"} or None, default=None
        "one-cycle" rises from 0 to ``learning_rate_init`` and falls to 0 again; "step" multiplies by 0.1 after every
        100 epochs.
    learning_rate_init : float or None, default=None
        The (highest) learning rate.
    max_iter : int or None, default=None
        Epochs.
    init : {"he", "paper"} or None, default=None
        "he" scales the initial weights to the fan-in; "paper" draws, for an integer random_state,
        ``RandomState(random_state).randn(...) / 1000``, layer by layer.
    standardize : bool or None, default=None
        True: train on each feature less its mean, over its deviation in the data of the first fit or partial_fit (a
        constant feature only loses its mean); ``coefs_`` are for features as they come all the same. False: train on
        features as they come.
    shuffle : bool, default=True
        Whether every epoch takes the rows in a new order.
    random_state : int, RandomState or None, default=0
        Where weights, orders and the rows held back come from; the same integer gives the same bits.
    early_stopping : bool, default=False
        Hold back a part of the rows of each class, end when the accuracy on it no longer rises, and keep the network of
        the best epoch.
    validation_fraction : float, default=0.1
        The part held back.
    n_iter_no_change : int, default=10
        With early_stopping, the epochs without a rise that are borne.
    tol : float, default=1e-4
        With early_stopping, the least rise that counts as one.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by label, which multiply sample_weight; "balanced" gives all classes the same sum of
        weights. partial_fit takes no "balanced".
    warm_start : bool, default=False
        Whether fit goes on from the network (and optimizer) of the last fit, for max_iter further epochs, its learning
        rates from the start.
    dtype : {"float32", "float64"}, default="float32"
        The dtype of weights and arithmetic.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The labels, sorted; of the library of X where X was dispatched and labels are numbers.
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,), layer by layer, for features as they come; the network is
        nothing else.
    n_features_in_, feature_names_in_ : int, ndarray of str
        The number of features and, for data frames, their names.
    n_iter_ : int
        Epochs trained by the last fit and every partial_fit since.
    loss_, loss_curve_ : float, list of float
        The mean training loss of the last epoch and of every one, each row by its weight.
    history_ : dict of list
        epoch, learning_rate, train_loss and train_accuracy (rows without their weights), an entry an epoch.
    validation_scores_, best_validation_score_ : list of float, float
        With early_stopping, the accuracy on the rows held back after every epoch, and the highest.
    backend_ : str
        The backend that trained.

    See Also
    --------
    FeatureExtractor : From images to features.
    Augmenter : Randomly changed images to train on.

    Notes
    -----
    Rows of weight 0 are left out, before all else but finding the classes. The others' weights are scaled to a mean of
    1: then an integer weight equals that many repetitions of the row wherever an epoch is one batch, and does so on
    average where rows are drawn into batches at random; scaling all weights changes nothing. For weights that differ
    there is no fused epoch: such training takes the backend's fused ops.

    Every check of scikit-learn's estimator_checks passes with ``dtype="float64"``; no failure is expected. With
    float32, rounding alone keeps a weight of 2 and two rows from agreeing to the 7 digits that
    ``check_sample_weight_equivalence_on_dense_data`` asks for.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastmlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(backend="numpy").fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64,),
        *,
        preset: str = "tabular",
        backend: str = "auto",
        solver: str | None = None,
        alpha: float | None = None,
        batch_size: int | None = None,
        learning_rate: str | None = None,
        learning_rate_init: float | None = None,
        max_iter: int | None = None,
        init: str | None = None,
        standardize: bool | None = None,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = 0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        dtype: str = "float32",
    ) -> None:
        self.hidden_layer_sizes, self.preset, self.backend = hidden_layer_sizes, preset, backend
        self.solver, self.alpha, self.batch_size = solver, alpha, batch_size
        self.learning_rate, self.learning_rate_init, self.max_iter = learning_rate, learning_rate_init, max_iter
        self.init, self.standardize, self.shuffle, self.random_state = init, standardize, shuffle, random_state
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.class_weight, self.warm_start, self.dtype = class_weight, warm_start, dtype

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    # Training.

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPClassifier:
        """Train on features and labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.
        y : array-like of shape (n,)
            Labels of any type that scikit-learn takes.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts; None: all the same.

        Returns
        -------
        self : MLPClassifier
            The trained classifier.
        """
        features, targets = self._validated(X, y, reset=True)
        classes, labels = np.unique(targets, return_inverse=True)
        if len(classes) == 1:
            raise UsageError(f"y holds one class only, {classes[0]}: give rows of two classes or more.")
        rows = self._rows(features, labels, sample_weight, classes)
        recipe = self._recipe(rows)
        if self.warm_start and hasattr(self, "_training"):
            training = replace(self._gone_on_with(rows, recipe, classes), history=History())
        else:
            training = self._new_training(rows, recipe, classes)
        self._train(training, rows, recipe, self._stopping(), X)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> MLPClassifier:
        """Train for one epoch more, at the constant learning rate learning_rate_init.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features; those of the first call say how features are standardised.
        y : array-like of shape (n,)
            Labels, all among the classes.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; needed in the first call.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts, against the others of this call.

        Returns
        -------
        self : MLPClassifier
            The classifier, one epoch further.
        """
        first = not hasattr(self, "_training")
        known = self._known_classes(classes)
        features, targets = self._validated(X, y, reset=first)
        if not np.isin(targets, known).all():
            raise UsageError("y has labels that are not among the classes: give all in the first call of partial_fit.")
        rows = self._rows(features, np.searchsorted(known, targets), sample_weight, known)
        recipe = self._recipe(rows)
        training = (self._new_training if first else self._gone_on_with)(rows, recipe, known)
        recipe = recipe.changed(epochs=training.history.epochs + 1, schedule="constant")
        self._train(training, rows, recipe, None, X)
        return self

    def _known_classes(self, classes: Any) -> NDArray[Any]:
        """The labels that partial_fit was told of."""
        if self.early_stopping or self.class_weight == "balanced":
            raise UsageError(
                "partial_fit sees a part of the data: it takes no early_stopping and no 'balanced' weights."
            )
        if classes is None and not hasattr(self, "_training"):
            raise UsageError("The first call of partial_fit needs classes: give all labels there will be.")
        return self._training.classes if classes is None else np.unique(np.asarray(to_host(classes)))

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, NDArray[Any]]:
        """Features of our dtype, of the library they came in, and labels (n,) on the host."""
        check_shapes(X, y)
        validated: tuple[Any, NDArray[Any]] = validate_data(
            self, X, to_host(y), dtype=dtype_of(X, self.dtype), reset=reset
        )
        check_classification_targets(validated[1])
        return validated

    def _rows(self, features: Any, labels: Labels, sample_weight: Any, classes: NDArray[Any]) -> Rows:
        """The rows that weigh anything."""
        host = _check_sample_weight(to_host(sample_weight), labels, dtype=np.float64)
        weights = weights_of_rows(host, self.class_weight, classes, labels)
        rows = Rows(features, labels, weights)
        return rows if weights.all() else rows.take(np.flatnonzero(weights))

    def _recipe(self, rows: Rows) -> Recipe:
        preset = recipe_of(self.preset)
        batch = min(preset.changed(batch_size=self.batch_size).batch_size, len(rows.labels))
        return preset.changed(
            epochs=self.max_iter,
            batch_size=batch,
            learning_rate=self.learning_rate_init,
            schedule=self.learning_rate,
            optimizer=self.solver,
            weight_decay=None if self.alpha is None else self.alpha / max(batch, 1),
            init=self.init,
            standardize=preset.standardize and self.standardize is None,
        ).for_rows(len(rows.labels))

    def _stopping(self) -> Stopping | None:
        return Stopping(self.validation_fraction, self.tol, self.n_iter_no_change) if self.early_stopping else None

    def _new_training(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Training:
        scaled = self.preset == "tabular" if self.standardize is None else self.standardize
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        if seed < 0:
            raise UsageError(f"random_state must not be negative: give a number from 0 on, not {seed}.")
        if not scaled:
            warn_of_scale(rows, recipe)
        return Training.begin(rows, classes, widths_of(self.hidden_layer_sizes), recipe, int(seed), self.dtype, scaled)

    def _gone_on_with(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Training:
        """The training so far, if it can go on."""
        if not self._training.fits(rows, classes, widths_of(self.hidden_layer_sizes), recipe, self.dtype):
            raise UsageError(
                "warm_start and partial_fit go on with the same features, hidden layers, classes, solver and dtype "
                "only: train a clone instead."
            )
        return self._training

    def _train(self, training: Training, rows: Rows, recipe: Recipe, stopping: Stopping | None, X: Any) -> None:
        """Train, and keep what came of it."""
        backend = backend_for(self.backend, X)
        watch = training.go_on(rows, recipe, backend, self.shuffle, stopping)
        self._training, classes = training, training.classes
        self.classes_ = beside(classes, X) if classes.dtype.kind in NUMBERS else classes
        self.coefs_, self.intercepts_ = list(training.parameters.weights), list(training.parameters.biases)
        history = training.history.as_dict()
        self.history_ = {name: values for name, values in history.items() if values}
        self.loss_curve_ = history["train_loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        self.backend_ = str(backend)
        if watch is not None:
            self.validation_scores_, self.best_validation_score_ = watch.scores, watch.best

    # Answers.

    def predict(self, X: ArrayLike) -> Any:
        """The likeliest class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        y : array of shape (n,)
            Labels.
        """
        indices = self._logits(X, "predict").argmax(axis=1)
        labels = self._training.classes[indices]
        return labels if namespace_of(self.classes_) is None else beside(labels, X)

    def predict_proba(self, X: ArrayLike) -> Any:
        """The probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        probabilities : array of shape (n, n_classes)
            Columns in the order of classes_.
        """
        return beside(softmax(self._logits(X, "predict_proba")), X)

    def predict_log_proba(self, X: ArrayLike) -> Any:
        """The logarithm of the probability of each class, finite where the probability itself is rounded to 0.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        log_probabilities : array of shape (n, n_classes)
            Columns in the order of classes_.
        """
        logits = self._logits(X, "predict_log_proba")
        shifted = logits - logits.max(axis=1, keepdims=True)
        return beside(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), X)

    def _logits(self, X: Any, method: str) -> Floats:
        """Logits (n, n_classes) on the host."""
        check_is_fitted(self)
        place = place_of(self.classes_)
        if self._training.classes.dtype.kind in NUMBERS and get_config()["array_api_dispatch"] and place_of(X) != place:
            raise UsageError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): {' on '.join(place)}, not {' on '.join(place_of(X))}."
            )
        check_shapes(X)
        features = validate_data(self, X, dtype=dtype_of(X, self.dtype), reset=False)
        backend = backend_for(self.backend, X)
        network = Network(Parameters(tuple(self.coefs_), tuple(self.intercepts_)), backend, UNTRAINED)
        return network.logits(on_backend(backend, features))
