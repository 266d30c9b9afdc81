"""MLPClassifier: the network behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from fastmlp.estimators.arrays import beside, namespace_of
from fastmlp.estimators.as_sklearn import TrainedAsSklearn
from fastmlp.estimators.by_preset import TrainedByPreset
from fastmlp.estimators.parameters import AS_SKLEARN
from fastmlp.estimators.saving import ModelFiles
from fastmlp.network.evaluation import log_softmax, softmax

# What a fit leaves beside the attributes that end in _.
PRIVATE = ("_fit", "_optimizer", "_best_coefs", "_best_intercepts", "_label_binarizer", "_no_improvement_count")


def _has_partial_fit(model: Any) -> bool:
    """L-BFGS, of scikit-learn's solvers, needs all rows."""
    return not (model.preset == AS_SKLEARN and model.solver == "lbfgs")


class MLPClassifier(ModelFiles, TrainedAsSklearn, TrainedByPreset, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multi-layer perceptron with ReLU layers and softmax, trained on mini-batches.

    Parameters are named as in scikit-learn's MLPClassifier wherever they mean the same. The defaults,
    ``preset="tabular"``, train well on ordinary data, scaled or not. ``preset="paper"`` trains as the paper does, with
    the same bits as ``fastmlp train --preset paper``; so does, spelled out, ``MLPClassifier(preset="paper",
    hidden_layer_sizes=(64,), max_iter=300, batch_size=64, learning_rate_init=0.01, init="paper", shuffle=True,
    random_state=0, dtype="float32")``. ``preset="sklearn"`` is scikit-learn's own MLPClassifier: see Notes.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int or None, default=None
        Widths of the hidden layers; () gives multinomial logistic regression. None: (256,) in "tabular", (100,) in
        "sklearn", else (64,).
    activation : {"identity", "logistic", "tanh", "relu"} or None, default=None
        Of the hidden layers; others than "relu" are for "sklearn".
    preset : {"tabular", "best", "fast", "paper", "sklearn"}, default="tabular"
        The values of all parameters that are None. "tabular": each feature standardised, Adam, a one-cycle learning
        rate, 50 epochs, of few rows as many as take 1,000 steps. "best", "fast" and "paper": the presets of the command
        line; "paper" trains on features as they come, "fast" on features less their means, all divided by one spread.
        "sklearn": scikit-learn's values and training.
    backend : str, default="auto"
        "numpy", "numba", "torch", "torch:DEVICE", "cupy", or "auto": CuPy on a working GPU, else Numba, else NumPy; for
        PyTorch's and CuPy's arrays under ``array_api_dispatch``, their own library and device.
    solver : {"adam", "sgd", "momentum", "lbfgs"} or None, default=None
        Adam; gradient descent, plain or with Nesterov's momentum. "sklearn" has its own "adam", "sgd" (with momentum)
        and "lbfgs".
    alpha : float or None, default=None
        L2 penalty in scikit-learn's unit: alpha / (2 b) times the sum of the squared weights (not biases) is added to
        the mean loss of a batch, with b = ``batch_size`` (also for the last, smaller batch). "sgd" does exactly that;
        "adam" decouples it from the gradient (Loshchilov and Hutter 2019): each step multiplies the weights by
        1 - learning_rate * alpha / b. The penalty is on the weights of the features as trained on, hence of
        standardised features. "tabular" has 30 b sqrt(min(d, n)) / n^(3/4) for n rows of d features (in partial_fit,
        of the rows so far; if all weights are whole, a row counts that often), "paper" 0. "sklearn" has 1e-4, with b
        the rows of each batch, for all its solvers in the gradient.
    label_smoothing : float or None, default=None
        The share of each label, below 1, that training spreads evenly over all classes (Szegedy et al. 2016): training
        losses are those of smoothed labels, and probabilities less sure.
    batch_size : int, "auto" or None, default=None
        Rows per step; the last batch of an epoch may be smaller. "auto": 200, or all rows if they are fewer.
    learning_rate : {"one-cycle", "constant", "step", "invscaling", "adaptive"} or None, default=None
        "one-cycle" rises from 0 to ``learning_rate_init`` and falls back to 0; "step" multiplies it by 0.1 after every
        100 epochs. "invscaling" and "adaptive" are those of "sklearn", for its "sgd", and the others not.
    learning_rate_init : float or None, default=None
        The (highest) learning rate.
    max_iter : int or None, default=None
        Number of epochs.
    init : {"he", "paper"} or None, default=None
        "he" scales the initial weights to the fan-in; "paper" draws, for an integer random_state,
        ``RandomState(random_state).randn(...) / 1000``, layer by layer.
    standardize : bool or None, default=None
        True: subtract each feature's mean and divide by its standard deviation (a constant feature only loses its
        mean); ``coefs_`` are still for features as they come. Both are of the data of fit, and every partial_fit
        updates them by its rows, as if all had come at once: answers stay as they were before it trains, once thirty
        rows have been seen. False: train on features as they come.
    shuffle : bool, default=True
        Whether to shuffle the rows in every epoch.
    random_state : int, RandomState or None, default=0
        Determines initial weights, batch order and held-out rows; the same integer gives the same bits.
    early_stopping : bool, default=False
        Whether to hold out some rows of each class, stop once accuracy on them no longer improves, and keep the network
        of the best epoch.
    validation_fraction : float, default=0.1
        The fraction of rows held out by early_stopping.
    n_iter_no_change : int, default=10
        With early_stopping, epochs without improvement to tolerate; in "sklearn" also without it.
    tol : float, default=1e-4
        With early_stopping, the least gain in accuracy that counts as improvement; in "sklearn", without it, the least
        fall of the training loss, or the gradient at which "lbfgs" ends.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes by label, multiplied with sample_weight; "balanced" gives all classes the same sum of
        weights. partial_fit does not accept "balanced".
    warm_start : bool, default=False
        Whether fit continues from the network and optimizer (in "sklearn": only the network) of the last fit, for
        max_iter more epochs and with the learning rate from the start of its schedule.
    dtype : {"float32", "float64"} or None, default=None
        The dtype of weights and arithmetic. None: "float32", in "sklearn" that of X.
    threads : int or None, default=None
        CPU threads. A number holds for the whole process, until the next call of a classifier with another one; None:
        all available cores, or what the process, such as a worker of joblib, limits its libraries to.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch.
    power_t : float or None, default=None
        The exponent of "invscaling", 0.5 if None.
    momentum : float or None, default=None
        Of "momentum", and of "sgd" in "sklearn", 0.9 if None.
    nesterovs_momentum : bool or None, default=None
        Whether that is Nesterov's, True if None.
    beta_1, beta_2, epsilon : float or None, default=None
        Adam's, 0.9, 0.999 and 1e-8 if None; other values are for "sklearn".
    max_fun : int or None, default=None
        The most evaluations of "lbfgs", 15,000 if None.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The labels, sorted; of the library of X if X was dispatched and labels are numbers.
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer, for features as they come. Predictions do not
        read them: they standardise features first, which keeps the digits of those with a large offset.
    n_features_in_, feature_names_in_ : int, ndarray of str
        The number of features and, for data frames, their names.
    n_iter_ : int
        Epochs trained by the last fit and every partial_fit since.
    loss_, loss_curve_ : float, list of float
        The mean training loss, rows weighted, of the last epoch and of every epoch.
    history_ : dict of list
        epoch, learning_rate, train_loss and train_accuracy (rows not weighted) and, with early_stopping,
        validation_accuracy: one entry per epoch.
    validation_scores_, best_validation_score_ : list of float, float
        With early_stopping, the accuracy on the held-out rows after every epoch, and the highest.
    backend_ : str
        The backend that trained and, if ``fastmlp backends --measure`` has ranked a GPU's ways for such networks, the
        way that it took: "cupy:cuda, fused steps", for example. Ways differ in the last bits of the coefficients.

    See Also
    --------
    FeatureExtractor : From images to features.
    Augmenter : Randomly changed images to train on.

    Notes
    -----
    With ``preset="sklearn"``, one random_state gives the initial weights, the batches and, but for rounding, the
    coefficients of scikit-learn's MLPClassifier, on every backend. X may be sparse, and y have several labels a row.
    All attributes are scikit-learn's too, among them ``t_``, ``best_loss_``, ``n_layers_``, ``n_outputs_`` and
    ``out_activation_``, but ``history_`` is absent. ``init``, ``standardize`` and ``label_smoothing`` must be None.
    random_state=0, where scikit-learn has None, is the one default of ours; partial_fit takes classes before
    sample_weight.

    The other presets:
    Rows of weight 0 only contribute their class. All other weights are divided by their mean, so only their ratios
    matter: an integer weight equals that many copies of the row where an epoch is a single batch, and does so on
    average where batches are drawn at random. Unequal weights rule out the fused epoch: such training runs on the
    backend's fused ops.

    All of scikit-learn's estimator_checks pass with ``dtype="float64"``. In float32 rounding alone keeps a weight of 2
    and two copies of a row from agreeing to the 7 digits of ``check_sample_weight_equivalence_on_dense_data``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastmlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(backend="numpy").fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self, hidden_layer_sizes: Sequence[int] | None = None, activation: str | None = None, *,
        preset: str = "tabular", backend: str = "auto",
        solver: str | None = None, alpha: float | None = None, label_smoothing: float | None = None,
        batch_size: int | str | None = None,
        learning_rate: str | None = None, learning_rate_init: float | None = None, max_iter: int | None = None,
        init: str | None = None, standardize: bool | None = None,
        shuffle: bool = True, random_state: int | np.random.RandomState | None = 0,
        early_stopping: bool = False, validation_fraction: float = 0.1, n_iter_no_change: int = 10, tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None, warm_start: bool = False,
        dtype: str | None = None, threads: int | None = None, verbose: bool | int = False,
        power_t: float | None = None, momentum: float | None = None, nesterovs_momentum: bool | None = None,
        beta_1: float | None = None, beta_2: float | None = None, epsilon: float | None = None,
        max_fun: int | None = None,
    ) -> None:  # fmt: skip
        self.hidden_layer_sizes, self.activation, self.preset = hidden_layer_sizes, activation, preset
        self.backend, self.dtype, self.threads, self.verbose = backend, dtype, threads, verbose
        self.solver, self.alpha, self.label_smoothing, self.batch_size = solver, alpha, label_smoothing, batch_size
        self.learning_rate, self.learning_rate_init, self.max_iter = learning_rate, learning_rate_init, max_iter
        self.init, self.standardize, self.shuffle, self.random_state = init, standardize, shuffle, random_state
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.class_weight, self.warm_start, self.power_t, self.max_fun = class_weight, warm_start, power_t, max_fun
        self.momentum, self.nesterovs_momentum = momentum, nesterovs_momentum
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def __sklearn_tags__(self) -> Tags:
        tags, as_sklearn = super().__sklearn_tags__(), self.preset == AS_SKLEARN
        tags.array_api_support = not as_sklearn
        tags.input_tags.sparse = tags.classifier_tags.multi_label = as_sklearn
        return tags

    # Training.

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPClassifier:
        """Train on features and labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite; sparse rows too with ``preset="sklearn"``.
        y : array-like of shape (n,)
            Labels of any type that scikit-learn accepts; with ``preset="sklearn"`` also a column (n, labels) of 0 and 1
            for each.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts; None: all the same.

        Returns
        -------
        self : MLPClassifier
            The trained classifier.
        """
        if self._is_as_sklearn():
            self._train_as_sklearn(X, y, sample_weight, incremental=False)
        else:
            self._fit_by_preset(X, y, sample_weight)
        return self

    @available_if(_has_partial_fit)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> MLPClassifier:
        """Train for one more epoch, at the constant learning rate learning_rate_init.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features; standardised, if they are, by mean and deviation of all rows of all calls.
        y : array-like of shape (n,)
            Labels, all among the classes.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; required in the first call.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts, relative to the other rows of this call.

        Returns
        -------
        self : MLPClassifier
            The classifier, one epoch further.
        """
        if self._is_as_sklearn():
            self._partial_fit_as_sklearn(X, y, classes, sample_weight)
        else:
            self._partial_fit_by_preset(X, y, classes, sample_weight)
        return self

    def _is_as_sklearn(self) -> bool:
        """Whether to train as scikit-learn does; a fit that was made the other way is forgotten."""
        as_sklearn = bool(self.preset == AS_SKLEARN)
        if hasattr(self, "coefs_") and hasattr(self, "_fit") == as_sklearn:
            for name in [name for name in vars(self) if name.endswith("_") or name in PRIVATE]:
                delattr(self, name)
        return as_sklearn

    # Prediction.

    def predict(self, X: ArrayLike) -> Any:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        y : array of shape (n,)
            Labels.
        """
        if not hasattr(self, "_fit"):
            return self._decoded(self._raw_answers(X))
        chosen = self._logits(X, "predict").argmax(axis=1)
        labels = self._fit.classes[chosen]
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
        if not hasattr(self, "_fit"):
            yes = self._raw_answers(X)
            return np.hstack([1 - yes, yes]) if self.n_outputs_ == 1 else yes
        return beside(softmax(self._logits(X, "predict_proba")), X)

    def predict_log_proba(self, X: ArrayLike) -> Any:
        """The logarithm of the probability of each class, finite where the probability itself rounds to 0.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        log_probabilities : array of shape (n, n_classes)
            Columns in the order of classes_.
        """
        if not hasattr(self, "_fit"):
            with np.errstate(divide="ignore"):  # the logarithm of 0
                return np.log(self.predict_proba(X))
        return beside(log_softmax(self._logits(X, "predict_log_proba")), X)
