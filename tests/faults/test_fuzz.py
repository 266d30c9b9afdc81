"""Any bytes give an object that is right or one sentence: every parser on what once broke one, and on damaged files."""

import resource
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.common.errors import FastMLPError
from tests.faults.fuzz import PARSERS

CORPUS = Path(__file__).parent / "corpus"
CASES = 250  # of each parser
# Odd, but as good as others.
TAKEN = {"cifar10-meta/eleven-names", "cifar10-meta/escape-codes", "weights-torch/expanded", "weights/float8"}
MOST_SECONDS, MOST_BYTES = 10, 400_000_000  # of one case
NEEDS = {"weights": "torch", "weights-torch": "torch", "table-parquet": "pyarrow", "table-parquet-labels": "pyarrow"}

# What damages numbers, lists and texts in a header more than random bytes do.
ODD = st.sampled_from(
    [b"9" * 18, b"-1", b"[" * 2000, b"null", b"1e999", b"NaN", b"{}", b"true", b"\xff" * 8, b'"', b"\x1b[31m", b"\n"]
)


def need(name: str) -> None:
    """Skip the test where the parser's library is missing."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])


def run(name: str, content: bytes) -> object:
    """What the parser makes of the bytes; fails if that takes long or much memory."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = PARSERS[name].try_bytes(content)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.process_time() - started < MOST_SECONDS
    assert grown * (1 if sys.platform == "darwin" else 1024) < MOST_BYTES
    return found


@pytest.mark.parametrize("path", [pytest.param(p, id=f"{p.parent.name}/{p.name}") for p in sorted(CORPUS.glob("*/*"))])
def test_what_once_broke_a_parser_is_refused(path: Path) -> None:
    need(path.parent.name)
    PARSERS[path.parent.name].try_bytes(b"")  # imports PyTorch, which takes some memory
    found = run(path.parent.name, path.read_bytes())
    assert isinstance(found, Exception) == (f"{path.parent.name}/{path.name}" not in TAKEN)


def test_no_file_of_the_corpus_ran_or_wrote_anything() -> None:
    """Their payloads make these, if they can."""
    assert not Path("/tmp/fastmlp-was-run").exists()
    assert not Path("/tmp/fastmlp-escaped").exists()


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.filterwarnings("ignore")  # what PyTorch and Pillow think of odd files
def test_good_files_are_taken_and_damaged_ones_are_taken_or_refused(name: str) -> None:
    need(name)
    samples = PARSERS[name].samples()
    for sample in samples:
        assert not isinstance(run(name, sample), Exception)

    @settings(max_examples=CASES)
    @given(sample=st.sampled_from(samples), damage=st.data())
    def damaged(sample: bytes, damage: st.DataObject) -> None:
        found = run(name, damage.draw(damaged_versions(sample)))
        assert not isinstance(found, FastMLPError) or found.exit_code in (1, 2, 4)

    damaged()


@st.composite
def damaged_versions(draw: st.DrawFn, sample: bytes) -> bytes:
    """The sample with one to four changes, half of them near its start, where headers are."""
    content = bytearray(sample)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(content), 600)) | st.integers(0, len(content)))
        kind = draw(st.sampled_from(["flip", "insert", "delete", "cut", "overwrite"]))
        if kind == "flip" and place < len(content):
            content[place] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            content[place:place] = draw(ODD | st.binary(max_size=8))
        elif kind == "delete":
            del content[place : place + draw(st.integers(1, 12))]
        elif kind == "cut":
            del content[place:]
        else:
            odd = draw(ODD)
            content[place : place + len(odd)] = odd
    return bytes(content)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25)
@given(content=st.binary(max_size=400))
@pytest.mark.filterwarnings("ignore")
def test_bytes_of_nothing_at_all(name: str, content: bytes) -> None:
    need(name)
    run(name, content)
