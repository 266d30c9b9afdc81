"""MLPRegressor: scikit-learn's regressor on any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from fastmlp.estimators.as_sklearn import TrainedAsSklearn


class MLPRegressor(TrainedAsSklearn, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multi-layer perceptron for numbers or counts: scikit-learn's MLPRegressor, on any backend.

    Parameters, defaults, warnings and attributes are scikit-learn's. With one random_state, so are the initial weights,
    the batches and, but for rounding, the coefficients.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        Half the squared error; or, for targets from 0 on, half the Poisson deviance, with exponentials as predictions.
    hidden_layer_sizes : tuple of int, default=(100,)
        Widths of the hidden layers; () gives a linear model.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Of the hidden layers.
    backend : str, default="auto"
        As MLPClassifier's.
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        Adam, gradient descent with momentum, or SciPy's L-BFGS on all rows at once.
    alpha : float, default=1e-4
        L2 penalty: alpha / (2 b) times the sum of the squared weights, not biases, is added to the mean loss of b rows.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto": 200, or all rows if they are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Of "sgd": learning_rate_init; that over (rows seen + 1) ** power_t, after every epoch; or that, divided by 5
        whenever training would stop, until it is 1e-6 or less.
    learning_rate_init : float, default=0.001
        The first learning rate.
    power_t : float, default=0.5
        The exponent of "invscaling".
    max_iter : int, default=200
        The most epochs, or iterations of "lbfgs".
    shuffle : bool, default=True
        Whether to shuffle the rows in every epoch.
    random_state : int, RandomState or None, default=None
        Determines initial weights, held-out rows and batch order.
    tol : float, default=1e-4
        The least fall of the training loss, or gain of the validation score, that counts as improvement; the gradient
        at which "lbfgs" ends.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch.
    warm_start : bool, default=False
        Whether fit continues from the coefficients of the last fit.
    momentum : float, default=0.9
        Of "sgd", from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether it is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out some rows, stop once the score (R^2) on them no longer improves, and keep the best network.
    validation_fraction : float, default=0.1
        The fraction of rows held out by early_stopping.
    beta_1 : float, default=0.9
        How much of its past Adam's first moment keeps.
    beta_2 : float, default=0.999
        The same of its second moment.
    epsilon : float, default=1e-08
        What keeps Adam's division finite.
    n_iter_no_change : int, default=10
        Epochs without improvement to tolerate.
    max_fun : int, default=15000
        The most evaluations of "lbfgs".
    dtype : {"float32", "float64"} or None, default=None
        The dtype of weights and arithmetic, which for "lbfgs" is always float64. None: that of X.
    threads : int or None, default=None
        As MLPClassifier's.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer, of X's dtype; of "lbfgs", float64.
    n_features_in_, feature_names_in_ : int, ndarray of str
        The number of features and, for data frames, their names.
    n_iter_, t_ : int
        Epochs, or iterations, of the last fit; rows seen in all.
    loss_, best_loss_ : float
        The last loss, and the lowest (None with early_stopping).
    loss_curve_ : list of float
        The loss of every epoch, penalty included; not for "lbfgs".
    validation_scores_, best_validation_score_ : list of float or None, float or None
        With early_stopping, the score on the held-out rows after every epoch, and the highest.
    n_layers_, n_outputs_ : int
        Layers, that of the inputs included, and columns of y.
    out_activation_ : str
        "identity", or "exp" for counts.
    backend_ : str
        The backend that trained.

    See Also
    --------
    MLPClassifier : The classifier; with ``preset="sklearn"`` trained by the same rules.

    Notes
    -----
    Predictions and further training read the attributes: coefficients that you set count. A fitted regressor may be
    shared between threads that predict.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-3, 3, 50)[:, None]
    >>> y = np.sin(X[:, 0])
    >>> model = MLPRegressor(activation="tanh", solver="lbfgs", tol=1e-3, random_state=0, backend="numpy")
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Sequence[int] | int = (100,),
        activation: str = "relu",
        *,
        backend: str = "auto",
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        dtype: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.loss, self.hidden_layer_sizes, self.activation = loss, hidden_layer_sizes, activation
        self.backend, self.dtype, self.threads, self.solver, self.alpha = backend, dtype, threads, solver, alpha
        self.batch_size, self.learning_rate, self.learning_rate_init = batch_size, learning_rate, learning_rate_init
        self.power_t, self.max_iter, self.shuffle, self.random_state = power_t, max_iter, shuffle, random_state
        self.tol, self.verbose, self.warm_start = tol, verbose, warm_start
        self.momentum, self.nesterovs_momentum = momentum, nesterovs_momentum
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.n_iter_no_change, self.max_fun = n_iter_no_change, max_fun

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPRegressor:
        """Train on features and numbers.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)
            Features, finite.
        y : array-like of shape (n,) or (n, outputs)
            What to predict; from 0 on for ``loss="poisson"``.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts; None: all the same.

        Returns
        -------
        self : MLPRegressor
            The trained regressor.
        """
        self._train_as_sklearn(X, y, sample_weight, incremental=False)
        return self

    @available_if(lambda model: model.solver != "lbfgs")  # type: ignore[untyped-decorator]
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPRegressor:
        """Train for one more epoch, from the optimizer's state; not with "lbfgs".

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)
            Features.
        y : array-like of shape (n,) or (n, outputs)
            What to predict.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts.

        Returns
        -------
        self : MLPRegressor
            The regressor, one epoch further.
        """
        self._train_as_sklearn(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The numbers of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, d)
            Features.

        Returns
        -------
        y : array of shape (n,) or (n, outputs)
            Predictions.
        """
        answers = self._raw_answers(X)
        return answers.ravel() if answers.shape[1] == 1 else answers
