"""The measurement of all ways of convolutions, by trials of our own."""

import pytest

pytest.importorskip("torch")

from fastmlp.bench import ways
from fastmlp.bench.variants import LATE
from fastmlp.common.errors import BackendError
from fastmlp.extractors.ways import BATCHES, PATHS, UnfitError


class Found:
    """Trials in which only the plain way is fit."""

    def __init__(self, dtype):
        if dtype == "tf32":
            raise BackendError("T4 has no TF32.")
        self.dtype = dtype

    def images_per_second(self, way):
        if way.path != "plain":
            raise UnfitError("no such kernel")
        return 1000.4


def test_every_way_of_every_dtype_is_told():
    rows: list[ways.Row] = []
    ways.measure(Found, rows.append, 1000)
    each = len(PATHS) + len(BATCHES) - 1
    assert [row["dtype"] for row in rows] == [*["bfloat16"] * each, *["float32"] * each, *["float16"] * each, "tf32"]
    assert [row["way"] for row in rows[:4]] == ["plain", "cudnn", "compiled", "plain:64"]
    table = ways.table(rows).splitlines()
    assert table[2].startswith("| bfloat16 | plain | 1,000 | 0.0 |")
    assert table[3] == "| bfloat16 | cudnn | no such kernel |  |"
    assert table[-1] == "| tf32 |  | T4 has no TF32. |  |"


def test_none_begins_once_the_time_is_over():
    rows: list[ways.Row] = []
    ways.measure(Found, rows.append, -1)
    assert {row["unfit"] for row in rows if row["way"]} == {LATE}


def test_what_a_second_process_compiles_is_told_apart():
    rows: list[ways.Row] = []
    with pytest.raises(UnfitError):
        ways.compile_again(Found("bfloat16"), rows.append)
    assert rows == [{"dtype": "bfloat16", "way": "compiled, in a second process", "unfit": "no such kernel"}]
