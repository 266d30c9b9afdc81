"""scikit-learn's own tests of its MLPs, as they are installed, run on our classes in their place."""

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sklearn.neural_network

from fastmlp import MLPClassifier, MLPRegressor

SUITE = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"
EXCEPTIONS = {
    "test_gradient": "calls a private method of theirs; tests/network/test_objective.py differentiates our losses",
}


def suite() -> ModuleType:
    """Their module, for which scikit-learn's two classes are ours while it is imported."""
    spec = importlib.util.spec_from_file_location("scikit_learns_test_mlp", SUITE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        defaults = sklearn.neural_network.MLPClassifier().get_params()  # which a test reads, where ours are None
        classifier = partial(MLPClassifier, preset="sklearn", backend="numpy", **defaults)
        patch.setattr(sklearn.neural_network, "MLPClassifier", classifier)
        patch.setattr(sklearn.neural_network, "MLPRegressor", partial(MLPRegressor, backend="numpy"))
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def global_random_seed() -> int:
    """Of scikit-learn's conftest."""
    return 42


TESTS: dict[str, Any] = {name: test for name, test in vars(suite()).items() if name.startswith("test_")}
globals().update({name: test for name, test in TESTS.items() if name not in EXCEPTIONS})
pytestmark = pytest.mark.filterwarnings("default")  # their tests ignore what they expect one by one, or not at all


def test_nothing_else_is_left_out() -> None:
    assert EXCEPTIONS.keys() <= TESTS.keys()
    assert len(EXCEPTIONS) <= 2
