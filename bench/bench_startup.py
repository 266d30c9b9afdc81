"""Start-up times of whole processes: imports, the help, compiled code at its first use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from .contenders import Bound, Contender, Problem
from .peers import keras

DONE = "done"
TRAIN = """
import numpy as np
from fastmlp.estimators.classifier import MLPClassifier
rng = np.random.default_rng(0)
X, y = rng.standard_normal((128, 512), dtype=np.float32), np.arange(128) % 10
MLPClassifier(backend={backend!r}, max_iter=1).fit(X, y)
"""


@dataclass(frozen=True, kw_only=True)
class Startup(Problem):
    """A Python process from start to end."""

    def check(self, what: str, result: str) -> None:
        if DONE not in result:
            raise AssertionError(f"{what}: the process did not come to its end")


def process(problem: Startup, code: str, compiled: bool = True) -> Bound:
    """A process that runs the code; with compiled=False each run has an empty cache of compiled code."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", f"{code}\nprint({DONE!r})"]
    output = ""

    def run() -> None:
        nonlocal output
        with tempfile.TemporaryDirectory() as empty:
            cache = {} if compiled else {"NUMBA_CACHE_DIR": empty}
            output = subprocess.check_output(command, env=environment | cache, text=True)

    return Bound(run, lambda: output)


def import_keras(problem: Startup) -> Bound:
    return process(problem, f"import os; os.environ['KERAS_BACKEND'] = {keras.engine()!r}\nimport keras")


def _problem(title: str, threads: int) -> Startup:
    return Startup(suite="startup", threads=threads, title=title, unit="process", units=1, rounds=1)


TRAIN_NUMBA, TRAIN_NUMPY = TRAIN.format(backend="numba"), TRAIN.format(backend="numpy")
FLOOR = Contender("Python alone", "floor", partial(process, code="pass"))
HELP = "import fastmlp.cli.main, contextlib\nwith contextlib.suppress(SystemExit): fastmlp.cli.main.main(['--help'])"


@pytest.fixture(scope="module")
def imports(threads: int) -> Startup:
    return _problem("import", threads)


@pytest.fixture(scope="module")
def first_batch(threads: int) -> Startup:
    return _problem("first two batches of training", threads)


@pytest.mark.contenders(
    FLOOR,
    Contender("import fastmlp", "ours", partial(process, code="import fastmlp")),
    Contender("fastmlp --help", "ours", partial(process, code=HELP)),
    Contender("import fastmlp.MLPClassifier", "ours", partial(process, code="from fastmlp import MLPClassifier")),
    Contender("import sklearn.neural_network", "peer", partial(process, code="import sklearn.neural_network")),
    Contender("import torch", "peer", partial(process, code="import torch"), needs=("torch",), slow=True),
    Contender("import jax", "peer", partial(process, code="import jax"), needs=("jax",)),
    Contender("import keras", "peer", import_keras, needs=("keras",), slow=True),
)
def bench_import(measure: Callable[[Startup], None], imports: Startup) -> None:
    measure(imports)


@pytest.mark.contenders(
    FLOOR,
    Contender("fastmlp numba, compiled anew", "ours", partial(process, code=TRAIN_NUMBA, compiled=False), slow=True),
    Contender("fastmlp numba, compiled before", "ours", partial(process, code=TRAIN_NUMBA)),
    Contender("fastmlp numpy", "ours", partial(process, code=TRAIN_NUMPY)),
)
def bench_first_batch(measure: Callable[[Startup], None], first_batch: Startup) -> None:
    measure(first_batch)
