"""The suite itself: turns, parity before timing, absence, memory, and `fastmlp bench`."""

import subprocess
import sys
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp.backends import open_backend, probe
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.bench import command, imitating, memory, ours, results, training, variants
from fastmlp.bench.busy import busy_processes
from fastmlp.bench.contenders import AbsentError, Bound, Contender, Problem
from fastmlp.bench.heads import GRIDS
from fastmlp.bench.measure import Session
from fastmlp.bench.threads import variables
from fastmlp.cli.main import main
from fastmlp.network.tiers import Tier

ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20


# A benchmark with one contender that is right, one that is wrong and one that cannot run here; each logs its runs.
BENCHMARK = """
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastmlp.bench.contenders import AbsentError, Bound, Contender, Problem

LOG = Path(__file__).with_suffix(".log")


@dataclass(frozen=True, kw_only=True)
class Sum(Problem):
    def check(self, what, result):
        assert result == 5, what


def adding(name, answer):
    def bind(problem):
        def run():
            with LOG.open("a") as log:
                log.write(name + " ")
        return Bound(run, lambda: answer)
    return Contender(name, "ours", bind)


MISSING = Contender("missing", "peer", adding, needs=("no_such_library",))


@pytest.fixture(scope="module")
def problem(threads):
    return Sum(suite="sum", threads=threads, title="2 + 3", unit="sum", units=2, rounds=2)


@pytest.mark.contenders(adding("right", 5), adding("wrong", 6), MISSING, adding("also right", 5))
def bench_sum(measure, problem):
    measure(problem)
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """That benchmark with two turns each: pytest's output, the measurements, and the order of the runs."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "bench_sum.py").write_text(BENCHMARK)
    arguments = [
        "-c", ROOT / "bench" / "pytest.ini", "-p", "fastmlp.bench.conftest", folder / "bench_sum.py", "--turns=2",
        "--threads=1", "--results", folder / "results.jsonl", "--benchmark-json", folder / "benchmark.json",
    ]  # fmt: skip
    command = [sys.executable, "-m", "pytest", *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # one of them fails
    measurements = {one.contender: one for one in results.read(folder / "results.jsonl")}
    order = (folder / "bench_sum.log").read_text().replace("also right", "also").split()
    return SimpleNamespace(output=process.stdout, found=measurements, order=order, folder=folder)


def test_who_fails_parity_is_not_timed(suite):
    assert suite.order.count("wrong") == 1, "it ran once, to be checked"
    assert suite.found["wrong"].status == "failed"
    assert suite.found["wrong"].seconds == {}
    assert "2 failed" in suite.output


def test_who_is_absent_is_named_with_the_reason(suite):
    assert suite.found["missing"].status == "absent"
    assert suite.found["missing"].reason == "no_such_library not installed: pip install 'fastmlp[bench]'."
    assert "no_such_library not installed" in suite.output


def test_everybody_has_a_turn_before_anybody_has_the_next(suite):
    checked_and_timed = ["right", "wrong", "also"]
    assert [name for name, _ in groupby(suite.order)] == [*checked_and_timed, "right", "also"]


def test_all_turns_are_one_measurement(suite):
    right = suite.found["right"]
    assert (right.status, right.rounds, right.threads, right.unit) == ("measured", 4, 1, "sum")
    assert 0 < right.seconds["min"] <= right.seconds["q1"] <= right.median <= right.seconds["q3"]


def test_the_usual_options_work(suite):
    assert (suite.folder / "benchmark.json").stat().st_size > 0


def test_threads_are_the_same_for_all_libraries():
    assert set(variables(3).values()) == {"3", "cpu"}


# The problem of training.


@pytest.fixture(scope="module")
def problem():
    return training.draw("step", 1, rows=500, sizes=(64, 16, 10))


def train_wrongly(problem, **changes):
    bound = ours.train(open_backend("numpy", 1), replace(problem, **changes), None)
    bound.run()
    assert bound.result
    return bound.result()


def test_right_training_passes(problem):
    problem.check("numpy", train_wrongly(problem))


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.0105}, {"order": np.arange(448)}, {"batch_size": 63}, {"labels": np.zeros(500, int)}],
)
def test_wrong_training_is_seen(problem, changes):
    with pytest.raises(AssertionError, match="loss: error"):
        problem.check("numpy", train_wrongly(problem, **changes))


def test_a_bound_contender_must_be_checked_somehow(problem):
    unchecked = Contender("unchecked", "peer", lambda problem: Bound(lambda: None))
    with pytest.raises(TypeError, match="neither a result"):
        Session(1, smoke=True).bound(unchecked, problem)


def test_the_floor_is_checked_by_itself(problem):
    session = Session(1, smoke=True)
    for floor in ours.FLOORS:
        session.bound(floor, problem).run()


# The problems of scikit-learn's MLPs.


@pytest.fixture(scope="module", params=["float64", "float32"])
def fitting(request):
    return imitating.draw_fitting("digits", request.param, 1, smoke=True)


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.1}, {"max_iter": 1}, {"random_state": 1}])
def test_a_fit_that_is_not_scikit_learns_is_seen(fitting, changes):
    bound = ours.fit_as_sklearn(open_backend("numpy", 1), replace(fitting, settings={**fitting.settings, **changes}))
    bound.run()
    assert bound.result
    with pytest.raises(AssertionError, match=r"numpy: (coefs_|losses|1 epochs)") if changes else nullcontext():
        fitting.check("numpy", bound.result())


@pytest.mark.parametrize("kind", imitating.SEARCHES)
def test_a_search_that_is_not_scikit_learns_is_seen(kind):
    problem = imitating.draw_searching("digits", kind, 1, smoke=True, epochs=2)
    bound = ours.search_as_sklearn(open_backend("numpy", 1), problem)
    bound.run()
    assert bound.result
    found = bound.result()
    problem.check("numpy", found)
    with pytest.raises(AssertionError, match="numpy: error"):
        problem.check("numpy", found * 1.001)


# Memory.


def hold(problem):
    """A contender that allocates 32 MiB and keeps them."""
    held = []
    return Bound(lambda: held.append(np.ones(32 * MEBIBYTE, np.uint8)))


def small_problem(axis, value):
    return Problem(suite="growth", threads=1, title="hold", unit="run", units=1, axis=axis, value=value)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell how much memory a process holds")
def test_peak_memory_is_what_a_contender_takes():
    peaks = memory.Peaks(small_problem)
    try:
        for value in (1, 2):
            peak = peaks.of(Contender("hold", "ours", hold), small_problem("rows", value))
            assert peak == pytest.approx(32 * MEBIBYTE, rel=0.1)
    finally:
        peaks.close()


# The command.


@pytest.mark.slow
def test_a_smoke_run_writes_everything(tmp_path, capfd):
    out, lines = tmp_path / "out", tmp_path / "kept.jsonl"
    lines.write_text("")
    argv = ["bench", "--smoke", "--only", "ops", "--threads", "1", "--out", str(out), "--results", str(lines)]
    assert main(argv) == 0
    captured = capfd.readouterr()
    assert "bench_ops[gather-turn 1-fastmlp numba]" in captured.err, "no progress"
    assert "| fastmlp numba |" in captured.out
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "charts" / "ops.png").exists()
    measurements = results.read(lines)
    assert {one.smoke for one in measurements} == {True}
    assert {one.threads for one in measurements} == {1}
    assert {"gather, 64 x 512", "softmax_xent, 64 x 10"} <= {one.title for one in measurements}


def test_without_pytest_benchmark_the_mend_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "find_spec", lambda module: None if module == "pytest_benchmark" else object())
    assert main(["bench", "--out", str(tmp_path)]) == 3
    assert capsys.readouterr().err.strip() == (
        "fastmlp: fastmlp bench needs pytest_benchmark: pip install 'fastmlp[bench]'."
    )


def test_an_unknown_benchmark_is_a_usage_error(capsys, tmp_path):
    assert main(["bench", "--only", "speed", "--out", str(tmp_path)]) == 2
    names = "augment, busy, extract, growth, heads, ops, probe, sklearn, startup, step, sweep, train"
    assert f"There is no benchmark 'speed': choose one of {names}." in " ".join(capsys.readouterr().err.split())


def test_without_a_gpu_none_is_measured(capsys, tmp_path):
    if probe("cupy").usable:
        pytest.skip("there is a GPU")
    assert main(["bench", "--device", "cuda", "--out", str(tmp_path)]) == 3
    assert "Backend cupy cannot run here" in capsys.readouterr().err


def test_a_benchmark_of_the_cpu_is_none_for_a_gpu(capsys, tmp_path):
    assert main(["bench", "--device", "cuda", "--only", "ops", "--out", str(tmp_path)]) == 2
    told = "'ops' only runs on the CPU: on a GPU, choose from augment, extract, heads, step, sweep"
    assert told in capsys.readouterr().err


def test_everybody_computes_in_full_float32_on_a_gpu():
    found = variables(3, "cuda")
    assert (found["NVIDIA_TF32_OVERRIDE"], found["JAX_DEFAULT_MATMUL_PRECISION"]) == ("0", "highest")
    assert "JAX_PLATFORMS" not in found


def test_a_quick_run_leaves_out_what_takes_long_to_set_up():
    slow = Contender("slow", "peer", lambda problem: Bound(lambda: None, check=lambda what: None), slow=True)
    problem = training.draw("step", 1, rows=100, sizes=(8, 4, 2))
    with pytest.raises(AbsentError, match="left out of quick runs: its set-up takes long"):
        Session(1, smoke=False, quick=True).bound(slow, problem)
    Session(1, smoke=False).bound(slow, problem)


def test_variants_go_on_after_one_that_is_wrong_or_absent(monkeypatch):
    class Ways(NumpyBackend):
        def epoch_ways(self):
            yield from (self._confined("wrong"), self._confined("absent"), self._confined("right"))

        def _confined(self, way):
            confined = copy(self)
            confined.way = way
            return confined

    def per_epoch(backend, tier, problem, epochs):
        if backend.way == "wrong":
            raise RuntimeError("a launch failure")
        if backend.way == "absent":
            raise AbsentError("too little shared memory.")
        return 1e-6 * (problem.steps + 5)  # and 5 us besides the steps

    monkeypatch.setattr(variants, "_per_epoch", per_epoch)
    monkeypatch.setattr(variants, "MOST_EMULATED", None)
    found = list(variants.measured(Ways(), "emulated"))
    assert [one["variant"] for one in found] == ["tier 3", "tier 2", "tier 3, wrong", "tier 3, absent", "tier 3, right"]
    assert found[2]["wrong"] == "RuntimeError: a launch failure"
    assert found[3]["absent"] == "too little shared memory."
    assert (found[4]["epoch"], found[4]["kernels"]) == (2.67, 1.0)  # of three steps
    assert variants.table(found).splitlines()[-1] == "| tier 3, right | 2.67 | 1.0 |"


def test_each_layout_is_measured_with_so_many_heads_at_once(monkeypatch):
    class Ways(NumpyBackend):
        def epoch_ways(self):
            yield self
            pytest.fail("only the first is emulated")

    def per_epoch(backend, tier, problem, epochs):
        assert (tier, len(problem.heads)) == (Tier.FUSED_EPOCH, problem.units // problem.heads[0].steps)
        return 1e-6 * (2 * problem.units + 5)

    monkeypatch.setattr(variants, "_per_epoch", per_epoch)
    monkeypatch.setitem(variants.HEADS, "emulated", (1, 8))
    found = list(variants.of_heads(Ways(), "emulated"))
    assert [one["variant"] for one in found] == ["1 at once, ", "8 at once, "]
    assert [(one["epoch"], one["kernels"]) for one in found] == [(3.67, 2.0), (2.21, 2.0)]  # of three steps each
    assert [len(rates) * seeds for rates, seeds in GRIDS.values()] == list(GRIDS) == [1, 8, 16, 32, 64, 132]


def test_no_variant_begins_once_the_time_is_up(monkeypatch):
    monkeypatch.setattr(variants, "_per_epoch", lambda *arguments: pytest.fail("it began"))
    found = list(variants.measured(NumpyBackend(), "emulated", seconds=-1))
    assert [one["absent"] for one in found] == [variants.LATE] * 2


def test_a_variant_is_held_to_the_reference():
    class Wrong(NumpyBackend):
        def to_numpy(self, array):
            return 1.5 * super().to_numpy(array)

    problems = [training.draw("step", 1, rows=rows, sizes=(8, 4, 2)) for rows in (130, 64)]
    assert set(variants._judged(NumpyBackend(), Tier.ARRAY_CODE, problems, 1)) == {"epoch", "kernels"}
    assert "loss" in variants._judged(Wrong(), Tier.ARRAY_CODE, problems, 1)["wrong"]


def test_a_failure_is_reported_after_the_report(monkeypatch, capsys, tmp_path):
    """The suite ends with a failed contender: exit code 1, but a report on what was measured."""

    def fake(only, how, thread_count, lines, device):
        problem = training.draw("step", 1, rows=100, sizes=(8, 4, 2))
        session = Session(1, smoke=True)
        session.add(ours.FLOORS[0], problem, [1.0])
        wrong = Contender("wrong", "peer", lambda problem: Bound(lambda: None, lambda: problem.parameters))
        with pytest.raises(AssertionError):
            session.bound(wrong, problem)
        results.append(lines, session.measurements())
        return 1

    monkeypatch.setattr(command, "_pytest", fake)
    assert main(["bench", "--out", str(tmp_path)]) == 1
    assert "wrong failed and was not timed" in capsys.readouterr().err
    assert "wrong failed on 8-4-2" in (tmp_path / "report.html").read_text()


def test_busy_processes_end_with_the_block() -> None:
    with pytest.raises(ValueError, match="in the block"), busy_processes(2) as processes:  # noqa: PT012
        assert [process.poll() for process in processes] == [None, None]
        raise ValueError("in the block")
    assert all(process.poll() is not None for process in processes)
