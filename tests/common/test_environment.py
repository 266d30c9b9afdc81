"""How many cores a process may use, by its affinity and by its container's quota."""

import builtins
import io
import os
import subprocess
import sys
from typing import Any

import pytest

from fastmlp.backends import open_backend
from fastmlp.common.environment import available_cores, sees_too_many_cores

V2, V1 = "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_{}_us"
QUOTAS = {
    "version 2, two cores": ({V2: "200000 100000"}, 2),
    "version 2, a core and a half": ({V2: "150000 100000"}, 2),
    "version 2, a tenth of a core": ({V2: "10000 100000"}, 1),
    "version 2, none": ({V2: "max 100000"}, 64),
    "version 1, three cores": ({V1.format("quota"): "300000", V1.format("period"): "100000"}, 3),
    "version 1, none": ({V1.format("quota"): "-1", V1.format("period"): "100000"}, 64),
    "no cgroups": ({}, 64),
}


def on_a_large_host(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], affinity: int = 64) -> None:
    """A host of 64 cores, on which the control groups' files read so."""
    exists, opened = os.path.exists, builtins.open

    def fake_open(path: Any, *arguments: Any, **options: Any) -> Any:
        return io.StringIO(files[path]) if path in files else opened(path, *arguments, **options)

    monkeypatch.setattr(os.path, "exists", lambda path: path in files if "/cgroup/cpu" in str(path) else exists(path))
    monkeypatch.setattr(builtins, "open", fake_open)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)


@pytest.mark.parametrize("quota", QUOTAS)
def test_a_quota_counts(quota: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cores = QUOTAS[quota]
    on_a_large_host(monkeypatch, files)
    assert available_cores() == cores
    assert sees_too_many_cores() == (cores < 64)


def test_affinity_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_large_host(monkeypatch, {V2: "800000 100000"}, affinity=5)
    assert available_cores() == 5
    assert not sees_too_many_cores()


def test_a_backend_starts_no_more_threads_than_a_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastmlp.backends.numpy import NumpyBackend

    limits: list[int] = []
    monkeypatch.setattr(NumpyBackend, "set_threads", lambda _, threads: limits.append(threads))
    on_a_large_host(monkeypatch, {V2: "max 100000"})
    open_backend("numpy")
    assert limits == []  # what the libraries start is right
    on_a_large_host(monkeypatch, {V2: "200000 100000"})
    open_backend("numpy")
    open_backend("numpy", 7)
    assert limits == [2, 7]


def test_importing_counts_no_cores() -> None:
    """What counts them is slow to import."""
    code = "import fastmlp, fastmlp.backends, sys; sys.exit('joblib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
