"""The comparisons and the cases: each is seen to fail where it must."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fastmlp.testing import CASES, OpCase, Trial
from fastmlp.testing.compare import assert_close, assert_equal, assert_levels, assert_rounded, assert_same_kind, error
from fastmlp.testing.parity import truth
from fastmlp.testing.tolerances import OP_FLOOR, STEP, levels_allowed, limit

EPS = float(np.finfo(np.float32).eps)


# The comparisons.


def test_error_is_relative_to_the_largest_reference() -> None:
    assert error(np.array([1.0, 0.01]), np.array([1.0, 0.0])) == pytest.approx(0.01)
    assert error(np.array([0.0, -2.0]), np.array([0.0, -4.0])) == pytest.approx(0.5)
    assert error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert error(np.zeros(3), np.zeros(3)) == 0
    assert error(np.array([1e-30]), np.array([0.0])) == np.inf


@pytest.mark.parametrize(
    ("got", "reference"),
    [
        ([np.nan, 1], [1, 1]),
        ([1, 1], [np.nan, 1]),
        ([np.nan, 1], [1, np.nan]),
        ([np.inf, 1], [-np.inf, 1]),
        ([np.inf, 1], [1, 1]),
        ([3e38, 1], [np.inf, 1]),
        ([np.nan, 1], [np.inf, 1]),
    ],
)
def test_nan_and_infinity_must_be_in_their_places(got: list[float], reference: list[float]) -> None:
    assert error(np.array(got), np.array(reference)) == np.inf
    with pytest.raises(AssertionError, match="error inf is over the tolerance"):
        assert_close("it", np.array(got), np.array(reference), 1e9)


def test_nan_and_infinity_in_their_places_do_not_hide_an_error() -> None:
    reference = np.array([np.nan, np.inf, -np.inf, 2.0])
    assert error(reference.copy(), reference) == 0
    assert error(np.array([np.nan, np.inf, -np.inf, 2.5]), reference) == pytest.approx(0.25)


def test_a_failure_names_the_worst_index_both_values_and_the_tolerance() -> None:
    got, reference = np.zeros((3, 4)), np.zeros((3, 4))
    reference[0, 0], reference[2, 1], got[2, 1], got[0, 0] = 4, 1, 3, 4.5
    with pytest.raises(
        AssertionError, match=r"it: error 0.5 is over the tolerance 0.001; worst at \(2, 1\): got 3.0, expected 1.0"
    ):
        assert_close("it", got, reference, 1e-3)


def test_a_nan_tolerance_fails() -> None:
    with pytest.raises(AssertionError):
        assert_close("it", np.ones(1), np.ones(1), float("nan"))


@pytest.mark.parametrize("assert_same", [assert_equal, assert_levels, lambda what, a, b: assert_close(what, a, b, 1.0)])
def test_shapes_do_not_broadcast(assert_same: Callable[..., None]) -> None:
    with pytest.raises(AssertionError, match=r"shape \(1,\), expected \(3,\)"):
        assert_same("it", np.zeros(1, np.uint8), np.zeros(3, np.uint8))


def test_another_dtype_or_shape_fails() -> None:
    with pytest.raises(AssertionError, match="got float64"):
        assert_same_kind("it", np.zeros(2), (2,), "float32")
    with pytest.raises(AssertionError, match=r"expected float64 \(2, 1\)"):
        assert_same_kind("it", np.zeros(2), (2, 1), "float64")


def test_equal_means_every_element() -> None:
    assert_equal("it", np.array([1, np.nan]), np.array([1, np.nan]))
    with pytest.raises(AssertionError, match=r"1 of 3 elements differ; first at \(1,\): got 5, expected 4"):
        assert_equal("it", np.array([1, 5, 2]), np.array([1, 4, 2]))


def test_levels() -> None:
    reference = np.full((3000,), 100, np.uint8)
    few, many, far = reference.copy(), reference.copy(), reference.copy()
    few[: levels_allowed(3000)] += 1
    many[: levels_allowed(3000) + 1] -= 1
    far[7] += 2
    assert_levels("it", few, reference)
    with pytest.raises(AssertionError, match="6 of 3000 pixels are off by one level, where at most 5 may"):
        assert_levels("it", many, reference)
    with pytest.raises(AssertionError, match=r"off by 2 levels at \(7,\): got 102, expected 100"):
        assert_levels("it", far, reference)
    with pytest.raises(AssertionError, match="off by 255 levels"):  # not one level, wrapped around
        assert_levels("it", np.array([255], np.uint8), np.array([0], np.uint8))


def test_bytes_are_exact_levels_rounded_and_either_neighbour_only_near_a_tie() -> None:
    levels = np.array([[99.4, 99.5001, 100, 254.6, 0, np.nan]])
    for sound in ([99, 99, 100, 255, 0, 170], [99, 100, 100, 255, 0, 170]):
        assert_rounded("it", np.array([sound], np.uint8), levels, 170)
    for place, wrong, expected in ((0, 100, "99.4"), (2, 101, "100"), (3, 254, "254.6"), (4, 255, "0"), (5, 0, "170")):
        got = np.array([[99, 100, 100, 255, 0, 170]], np.uint8)
        got[0, place] = wrong
        with pytest.raises(
            AssertionError, match=rf"1 of 6.*at \(0, {place}\): got {wrong}, expected {expected} rounded"
        ):
            assert_rounded("it", got, levels, 170)


def test_float32_may_err_twice_as_much_as_numpy() -> None:
    assert limit("float32", 3e-6, OP_FLOOR) == 6e-6
    assert limit("float32", 0.0, OP_FLOOR) == 4 * EPS
    assert limit("float32", 1.0, OP_FLOOR) == STEP["float32"]
    assert limit("float64", 1.0, OP_FLOOR) == STEP["float64"]


# Cases.


def test_inputs_depend_on_the_trial_alone() -> None:
    trial = Trial(CASES["softmax_xent"], (37, 10), "float32", "plain", seed=3)
    one, two, other = trial.inputs(), trial.inputs(), replace(trial, seed=4).inputs()
    np.testing.assert_array_equal(one["logits"], two["logits"])
    assert (one["logits"] != other["logits"]).any()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cases_draw_what_they_say(case: OpCase, seed: int) -> None:
    assert any(0 in shape for shape in case.shapes)
    for dtype in case.dtypes:
        for trial in (trial for trial in case.trials(dtype, seed) if trial.layout == "contiguous"):
            floats = [
                v for v in trial.inputs().values() if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size
            ]
            if case.hazard != "not finite":
                assert all(np.isnan(array).any() for array in floats) == (trial.draw == "nan" or not floats)
            if trial.draw == "inf":
                assert all(np.isinf(array).any() for array in floats)
        assert all(case.flops(shape) >= 0 and case.bytes(shape, 4) > 0 for shape in case.shapes if 0 not in shape)


def test_draws_keep_away_from_relus_kink() -> None:
    inputs = Trial(CASES["bias_relu"], (64, 64), "float32").inputs()
    assert np.abs(inputs["z"] + inputs["bias"]).min() > 0.09


def test_truth_is_computed_in_float64() -> None:
    trial = Trial(CASES["matmul"], (64, 512, 64), "float32")
    inputs = trial.inputs()
    exact = truth(trial)["out"]
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(exact, inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64))
    assert (exact != (inputs["a"] @ inputs["b"])).any()


def test_bytes_count_what_moves() -> None:
    case = CASES["softmax_xent"]
    inputs = Trial(case, (64, 10), "float32").inputs()
    outputs = [np.empty(shape, dtype) for shape, dtype in case.outputs(inputs).values()]
    assert case.bytes((64, 10), 4) == sum(array.nbytes for array in (*inputs.values(), *outputs))
