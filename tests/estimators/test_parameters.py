"""Whatever is wrong with a parameter, the error names that parameter, as it was typed, and its value."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.common.errors import UsageError

X = np.random.default_rng(0).normal(size=(30, 3))
Y = (X[:, 0] > 0).astype(int)
NEVER: list[Any] = [-1, np.int64(-3), np.float32(-1), np.nan, np.float64("nan"), -np.inf, "x", "", b"adam", 1j, object,
                    (64.0,), [(1, 2), 3], ("a",), (True,), (0,), (4, -1), {"a": -1}, np.array(["a"])]  # fmt: skip
FLAGS, NUMBERS = [True, np.bool_(True)], [0.5, np.float64(1.5)]
WRONG: dict[str, list[Any]] = {
    "hidden_layer_sizes": [0, *FLAGS, *NUMBERS, "64", np.inf],
    "activation": ["tanh", "logistic", "identity", 0, *FLAGS],
    "preset": [None, 3, "Tabular", "papr", *FLAGS],
    "backend": [None, 3, "numby", *FLAGS],
    "solver": ["lbfgs", "Adam", 0, *FLAGS],
    "alpha": ["auto", 10**400, np.inf, *FLAGS, []],
    "label_smoothing": ["auto", 1, np.inf, *FLAGS, []],
    "batch_size": ["Auto", 0, np.inf, 32.0, *FLAGS, []],
    "learning_rate": ["adaptive", 0.1, *FLAGS],
    "learning_rate_init": [0, 10**400, np.inf, "0.1", *FLAGS],
    "max_iter": [0, 10.0, np.inf, "10", *FLAGS],
    "init": ["xavier", 0, *FLAGS],
    "standardize": ["yes", 0, 1],
    "shuffle": [None, 0, "no"],
    "random_state": [1.5, "0", 2**32, np.random.default_rng(0), *FLAGS],
    "early_stopping": [None, 1, "auto"],
    "validation_fraction": [None, 1, 1.5, "0.1", *FLAGS],
    "n_iter_no_change": [None, *FLAGS],
    "tol": [None, *FLAGS],
    "class_weight": ["auto", "balance", 2, *FLAGS],
    "warm_start": [None, 1, "yes"],
    "dtype": ["double", np.float32, *FLAGS],
    "verbose": [None, "yes", 0.5],
    "power_t": [0.5, *FLAGS],
    "momentum": [0.9, 1, *FLAGS],
    "nesterovs_momentum": [0, 1, *FLAGS],
    "beta_1": [0.5, 1, *FLAGS],
    "beta_2": [0.9, *FLAGS],
    "epsilon": [1e-7, 0, *FLAGS],
    "max_fun": [15_000, *FLAGS],
    "threads": [0, "all", 1.5, *FLAGS],
}
CASES = [(name, value) for name, values in WRONG.items() for value in [*values, *NEVER]]


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=[f"{name}={value!r}".partition(" at 0x")[0] for name, value in CASES]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_error_names_the_parameter(name: str, value: Any, method: str) -> None:
    model = MLPClassifier(**{"backend": "numpy", "max_iter": 1, name: value})
    with pytest.raises(UsageError) as raised:
        model.fit(X, Y) if method == "fit" else model.partial_fit(X, Y, classes=[0, 1])
    assert str(raised.value).startswith(f"{name} must be ")
    assert f"not {value!r}" in str(raised.value)


def test_every_parameter_is_in_the_table() -> None:
    assert set(WRONG) == set(MLPClassifier().get_params())


# What scikit-learn's training cannot have either; the rest of its parameters are like ours.
OF_SKLEARN: dict[str, list[Any]] = {
    "hidden_layer_sizes": [0, *FLAGS, "64"],
    "activation": ["ReLU", "softmax", 0],
    "solver": ["momentum", "Adam"],
    "alpha": ["auto", np.inf],
    "label_smoothing": [0, 0.1],
    "batch_size": ["Auto", 0, 32.0],
    "learning_rate": ["one-cycle", "step", 0.1],
    "learning_rate_init": [0, "0.1"],
    "power_t": ["0.5", *FLAGS],
    "max_iter": [0, 10.0],
    "init": ["he", "paper"],
    "standardize": [True, 1],
    "shuffle": [None, 0],
    "tol": [None, *FLAGS],
    "verbose": [None, 0.5],
    "momentum": [1.5, *FLAGS],
    "nesterovs_momentum": [0, 1, 0.9],
    "early_stopping": [None, 1],
    "validation_fraction": [None, 1],
    "beta_1": [1, *FLAGS],
    "beta_2": [1.0, *FLAGS],
    "epsilon": [0, *FLAGS],
    "n_iter_no_change": [0, 1.5, None],
    "max_fun": [0, 1e4],
    "class_weight": ["auto", 2],
    "dtype": ["double", np.float32],
}
OF_REGRESSOR = {
    "loss": ["log_loss", None, 0],
    **{
        name: [None, *values]
        for name, values in OF_SKLEARN.items()
        if name not in ("label_smoothing", "init", "standardize", "class_weight", "dtype")
    },
}
THEIRS = [
    *((partial(MLPClassifier, preset="sklearn"), name, value) for name in OF_SKLEARN for value in OF_SKLEARN[name]),
    *((MLPRegressor, name, value) for name in OF_REGRESSOR for value in OF_REGRESSOR[name]),
]


@pytest.mark.parametrize(("model", "name", "value"), THEIRS)
def test_so_does_the_error_of_scikit_learns_training(model: Any, name: str, value: Any) -> None:
    with pytest.raises(UsageError) as raised:
        model(**{"backend": "numpy", name: value}).fit(X, Y)
    assert str(raised.value).startswith(f"{name} must be ")
    assert f"not {value!r}" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [("preset", "papr", "paper"), ("solver", "Adam", "adam"), ("class_weight", "balance", "balanced"),
     ("dtype", "float34", "float"),
     ("backend", "nunba", "numba"), ("learning_rate", "one_cycle", "one-cycle")],
)  # fmt: skip
def test_near_names_are_offered(name: str, value: str, near: str) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=rf"^{name} must be .*, not '{value}', did you mean {near}.*\.$"):
        MLPClassifier(**options).fit(X, Y)


@pytest.mark.parametrize(
    "options",
    [{"hidden_layer_sizes": np.array([4])}, {"hidden_layer_sizes": 4}, {"alpha": np.float32(1)},
     {"label_smoothing": np.float32(0.1)},
     {"batch_size": np.int32(8)}, {"random_state": None}, {"random_state": np.random.RandomState(0)},
     {"activation": "relu", "batch_size": "auto", "beta_1": 0.9, "epsilon": 1e-8, "verbose": 0},
     {"solver": "momentum", "momentum": 0.5, "nesterovs_momentum": False}, {"hidden_layer_sizes": None},
     {"shuffle": np.bool_(False)}, {"tol": np.inf}, {"class_weight": {0: 1, 1: 2.5}}, {"threads": np.int64(1)}],
)  # fmt: skip
def test_what_is_right_in_another_type(options: dict[str, Any]) -> None:
    MLPClassifier(**{"backend": "numpy", "max_iter": 1, **options}).fit(X, Y)
