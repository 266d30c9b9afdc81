"""Model files: the same bits back, the same bytes for the same model, and no damage taken for a model."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fastmlp.common.errors import DataError
from fastmlp.models import storage
from fastmlp.network.parameters import initial_parameters

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ABOUT = {"history": {"epoch": [1, 2]}, "fingerprint": {"seed": 0}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    storage.save(initial_parameters((5, 4, 3), "he"), ABOUT, path)
    return path


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5), dtype=st.sampled_from(["float32", "float64"]))
@QUICK
def test_round_trip(tmp_path: Path, sizes: list[int], dtype: str) -> None:
    parameters = initial_parameters(sizes, "he", seed=1, dtype=dtype)
    storage.save(parameters, ABOUT, tmp_path / "m.safetensors")
    loaded, about, _ = storage.load(tmp_path / "m.safetensors")
    assert about == ABOUT
    assert loaded.sizes == tuple(sizes)
    assert loaded.dtype == dtype
    for a, b in zip((*parameters.weights, *parameters.biases), (*loaded.weights, *loaded.biases), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_state_comes_back_and_is_guarded(tmp_path: Path) -> None:
    parameters, path = initial_parameters((5, 4, 3), "he"), tmp_path / "m.safetensors"
    state = {"steps": np.array([7]), "moment_1_weights": np.linspace(0, 1, 32, dtype="f4")}
    storage.save(parameters, ABOUT, path, state)
    loaded = storage.load(path)
    assert loaded.parameters.sizes == (5, 4, 3)
    assert loaded.state.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(loaded.state[name], array)
        assert loaded.state[name].dtype == array.dtype
    content = path.read_bytes()
    for array in state.values():
        damaged = content.replace(array.tobytes(), (array + 1).tobytes())
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="checksum"):
            storage.load(path)


def test_the_same_model_gives_the_same_bytes(saved: Path) -> None:
    before = saved.read_bytes()
    for _ in range(10):
        storage.save(initial_parameters((5, 4, 3), "he"), ABOUT, saved)
        assert saved.read_bytes() == before


@given(data=st.data())
@QUICK
def test_any_flipped_byte_or_cut_is_seen(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    with contextlib.suppress(DataError):
        parameters, about, _ = storage.load(damaged)  # the header is JSON: a changed space changes nothing
        assert about == ABOUT
        np.testing.assert_array_equal(parameters.weights[0], initial_parameters((5, 4, 3), "he").weights[0])


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(DataError, match="There is no model"):
        storage.load(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="damaged"):
        storage.load(path)
    save_file({"weight_0": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(DataError, match="not written by this version"):
        storage.load(path)


def test_a_failed_write_leaves_the_old_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        storage.save(initial_parameters((5, 4, 3), "he", seed=2), ABOUT, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
