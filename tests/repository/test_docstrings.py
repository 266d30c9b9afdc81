"""The public classes' docstrings are numpydoc's: sections in order, every parameter told of, and the examples run."""

import doctest
import inspect
import re
from typing import Any

import pytest

import fastmlp
from fastmlp import Augmenter, FeatureExtractor, MLPClassifier, MLPRegressor

CLASSES = [MLPClassifier, MLPRegressor, FeatureExtractor, Augmenter]
ORDER = ["Parameters", "Attributes", "Returns", "See Also", "Notes", "Examples"]
METHODS = [
    (cls, name)
    for cls in CLASSES
    for name, member in vars(cls).items()
    if inspect.isfunction(member) and not name.startswith("_")
]


def sections(documented: Any) -> dict[str, str]:
    """The underlined sections of a docstring, by title."""
    text = inspect.getdoc(documented) or ""
    parts = re.split(r"^(\w[\w ]+)\n-+$\n", text, flags=re.MULTILINE)
    titles, bodies = parts[1::2], parts[2::2]
    assert titles == [title for title in ORDER if title in titles], f"{documented}: sections out of order: {titles}"
    return dict(zip(titles, bodies, strict=True))


def entries(section: str) -> dict[str, str]:
    """What a section says of each name: `name : type`, then indented lines."""
    found = re.findall(r"^(\w[\w, ]*) : (.+)\n((?:^ +.+\n?|\n)+)", section, re.MULTILINE)
    return {name: f"{kind}\n{text}" for names, kind, text in found for name in names.split(", ")}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_parameter_is_documented_with_its_default(cls: type) -> None:
    told = entries(sections(cls)["Parameters"])
    parameters = inspect.signature(cls).parameters
    assert list(told) == list(parameters)
    for name, parameter in parameters.items():
        default = f'"{parameter.default}"' if isinstance(parameter.default, str) else repr(parameter.default)
        documented = told[name].splitlines()[0].rpartition("default=")[2]
        assert documented == default.replace("0.0001", "1e-4"), name


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_has_every_section(cls: type) -> None:
    assert list(sections(cls)) == [title for title in ORDER if title != "Returns"]


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_every_method_tells_what_it_takes_and_returns(cls: type, name: str) -> None:
    method = getattr(cls, name)
    told = sections(method)
    taken = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    assert list(entries(told["Parameters"])) == taken
    assert entries(told["Returns"])
    summary = (inspect.getdoc(method) or "").splitlines()[0]
    assert summary.endswith(".")


def test_the_attributes_are_those_that_fit_sets() -> None:
    import numpy as np

    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    model = MLPClassifier(backend="numpy", max_iter=2, early_stopping=True).fit(X, y)
    told = set(entries(sections(MLPClassifier)["Attributes"]))
    assert {name for name in vars(model) if name.endswith("_")} == told - {"feature_names_in_"}


@pytest.mark.parametrize("cls", CLASSES)
def test_examples_run(cls: type) -> None:
    runner = doctest.DocTestRunner()
    (test,) = doctest.DocTestFinder(recurse=False).find(cls, cls.__name__, module=False)
    assert runner.run(test).failed == 0
    assert runner.tries > 0


def test_every_public_name_is_there() -> None:
    assert all(hasattr(fastmlp, name) for name in fastmlp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastmlp.nothing
