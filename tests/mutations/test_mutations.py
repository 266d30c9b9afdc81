from collections import Counter

import pytest

from fastmlp.testing import CASES
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.testing.suite import checks
from tests.mutations.__main__ import sample, score
from tests.mutations.judge import open_judged
from tests.mutations.table import KINDS, ROOT, Bug, bugs
from tests.mutations.trial import Outcome, try_each

BUGS = bugs()
# Of single ops, which compile fast, but for an epoch on the emulated GPU; Numba's takes a minute, twice.
OPS = [bug for bug in BUGS if bug.caught_by.partition(", ")[0] in CASES]
EPOCHS = [bug for bug in BUGS if bug.backend == EmulatedBackend.name and bug not in OPS]
SAMPLE = [*sample(OPS, 6, seed=7), *sample(EPOCHS, 1, seed=7)]
WITHOUT_NUMBERS = {
    "kernels/cpu/pace.py": "says how many threads work, which changes no number",
    "kernels/cpu/records.py": "records",
    "kernels/cpu/stored_rows.py": "reads files, of which the suite has no case",
    "kernels/cpu/workers.py": "hands work to threads",
    "kernels/cuda/cluster.cuh": "PTX, which no CPU runs",
    "kernels/cuda/copy.cuh": "PTX, which no CPU runs",
    "kernels/cuda/driver.py": "CuPy's launches, which the emulated driver stands in for",
    "kernels/cuda/emulation.py": "the emulation itself",
}


def test_every_edit_fits_one_place():
    for bug in BUGS:
        text = (ROOT / bug.file).read_text()
        assert bug.planted_in(text) != text


def test_an_edit_that_no_longer_fits_is_refused():
    bug = Bug("numba", "file", "is old", "formula", "", old="a", new="b")
    for text in ("", "a a"):
        with pytest.raises(ValueError, match="must be one"):
            bug.planted_in(text)


def test_the_table_is_large_and_its_words_tell_bugs_apart():
    assert len(BUGS) >= 120
    assert [name for name, count in Counter(map(str, BUGS)).items() if count > 1] == []
    assert {bug.kind for bug in BUGS} == set(KINDS)


def test_every_kernel_has_bugs():
    files = [path for path in (ROOT / "kernels").rglob("*") if path.suffix in {".py", ".cu", ".cuh"}]
    names = {path.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py"}
    assert names - {bug.file for bug in BUGS} == set(WITHOUT_NUMBERS)


def test_the_checks_that_should_catch_bugs_exist():
    for backend in {bug.backend for bug in BUGS} if EmulatedBackend.probe().usable else ["numba"]:
        names = "\n".join(check.name for check in checks(open_judged(backend)))
        assert [str(bug) for bug in BUGS if bug.backend == backend and bug.caught_by not in names] == []


def test_a_sample_is_the_same_every_time():
    assert sample(BUGS, 10, 1) == sample(BUGS, 10, 1) != sample(BUGS, 10, 2)


def test_the_score_counts_by_kind_and_names_what_survived():
    first, second = (Bug("numba", "file", does, "width", "", "", "") for does in ("does this", "does that"))
    table = score([Outcome(first, "caught", "add_bias, kernel"), Outcome(second, "survived")])
    assert "| width | 2 | 1 | 0 | 1 |" in table
    assert "| all | 2 | 1 | 0 | 1 |" in table
    assert "does that" in table
    assert "does this" not in table


@pytest.mark.slow
def test_the_public_check_catches_a_sample_of_them(tmp_path):
    if not EmulatedBackend.probe().usable:
        pytest.skip("no C++ compiler: the emulated GPU needs one")
    outcomes = try_each(SAMPLE, tmp_path)
    assert [outcome for outcome in outcomes if outcome.verdict != "caught"] == []


@pytest.mark.slow
def test_an_edit_that_changes_nothing_survives_and_one_that_does_not_compile_is_invalid(tmp_path):
    same, broken = (
        Bug("numba", "kernels/cpu/dense.py", does, "formula", "add_bias, kernel, float64", "out[i, j] += bias[j]", new)
        for does, new in (("same", "out[i, j] += 1 * bias[j]"), ("broken", "out[i, j] += nothing[j]"))
    )
    assert [outcome.verdict for outcome in try_each([same, broken], tmp_path)] == ["survived", "invalid"]
