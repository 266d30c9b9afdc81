"""MLPClassifier: the network behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp.backends import open_backend
from fastmlp.errors import UsageError
from fastmlp.mlp import Network, initial_parameters, softmax
from fastmlp.training import Recipe, Samples, train

LEARNING_RATES = ("constant", "step")


class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multi-layer perceptron with ReLU layers and softmax, trained by mini-batch gradient descent.

    Names are those of scikit-learn's MLPClassifier where the meaning is.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the hidden layers; () gives multinomial logistic regression.
    backend : str
        "auto" (CuPy on a working GPU, else Numba, else NumPy), "numpy", "numba", "torch", "torch:DEVICE" or "cupy".
    max_iter : int
        Epochs.
    batch_size : int
        Rows a step; the last batch of an epoch may be smaller.
    learning_rate_init : float
        The learning rate of the first epoch.
    learning_rate : {"constant", "step"}
        "step" multiplies the learning rate by 0.1 after every 100 epochs, as the paper does.
    init : {"he", "paper"}
        "he" scales the initial weights to the fan-in; "paper" draws RandomState(random_state).randn(...) / 1000.
    shuffle : bool
        Whether every epoch takes the rows in a new order.
    random_state : int
        The seed of the initial weights and of the orders.
    dtype : {"float32", "float64"}
        The dtype of weights and arithmetic.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,), layer by layer.
    loss_curve_ : list of float
        The mean training loss of every epoch.
    history_ : dict of list
        epoch, learning_rate, train_loss and train_accuracy, an entry an epoch.
    n_iter_, n_features_in_ : int
    backend_ : str
        The backend that trained.
    """

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
        backend: str = "auto",
        max_iter: int = 300,
        batch_size: int = 64,
        learning_rate_init: float = 0.01,
        learning_rate: str = "constant",
        init: str = "he",
        shuffle: bool = True,
        random_state: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.backend = backend
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.init = init
        self.shuffle = shuffle
        self.random_state = random_state
        self.dtype = dtype

    def fit(self, X: ArrayLike, y: ArrayLike) -> MLPClassifier:
        """Train on features X (n, d) and labels y (n,) of any type scikit-learn takes."""
        recipe = self._recipe()
        validated: tuple[NDArray[Any], NDArray[Any]] = validate_data(self, X, y, dtype=self.dtype)
        features, targets = validated
        check_classification_targets(targets)
        self.classes_, labels = np.unique(targets, return_inverse=True)
        sizes = (features.shape[1], *self.hidden_layer_sizes, len(self.classes_))
        parameters = initial_parameters(sizes, self.init, self.random_state, self.dtype)
        backend = open_backend(self.backend)
        network = Network(parameters, backend, min(self.batch_size, len(features)))
        samples = Samples.place(backend, features, labels, self.dtype)
        history = train(network, samples, recipe, self.random_state, shuffle=self.shuffle)
        self._keep(network, history.as_dict())
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Class probabilities (n, n_classes), columns in the order of classes_."""
        return softmax(self._logits(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest class of each row of X (n, d)."""
        return self.classes_[self._logits(X).argmax(axis=1)]

    def _logits(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        features: NDArray[Any] = validate_data(self, X, dtype=self.dtype, reset=False)
        backend = open_backend(self.backend_)
        network = Network(self._parameters, backend, self.batch_size)
        return network.logits(backend.asarray(np.ascontiguousarray(features)))

    def _recipe(self) -> Recipe:
        if self.learning_rate not in LEARNING_RATES:
            raise UsageError(f"learning_rate must be one of {', '.join(LEARNING_RATES)}, not {self.learning_rate!r}.")
        return Recipe(self.max_iter, self.batch_size, self.learning_rate_init, self.learning_rate)

    def _keep(self, network: Network, history: dict[str, list[Any]]) -> None:
        self._parameters = network.parameters
        self.coefs_ = list(self._parameters.weights)
        self.intercepts_ = list(self._parameters.biases)
        self.history_ = {name: values for name, values in history.items() if values}
        self.loss_curve_ = history["train_loss"]
        self.n_iter_ = len(self.loss_curve_)
        self.backend_ = str(network.backend)
