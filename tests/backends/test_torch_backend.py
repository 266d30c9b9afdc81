"""What is special about PyTorch: autograd kept out, and its own ways with NaN."""

import multiprocessing
import os
from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer

torch = pytest.importorskip("torch")


def test_buffers_made_without_autograd_can_be_written_to_with_it() -> None:
    """An epoch makes a network's buffers, and leaves them, and autograd, as if it had not."""
    backend = open_backend("torch:cpu")
    trainer = Trainer(initial_parameters((6, 4, 3)), backend, batch_size=5)
    features, labels = backend.asarray(np.ones((7, 6), "f4")), backend.asarray(np.zeros(7, np.int64))
    trainer.train_epoch(features, labels, np.arange(7), np.full(2, 0.1))
    assert not torch.is_inference_mode_enabled()
    loss, hits = backend.empty((1,), "float32"), backend.empty((1,), "int64")
    trainer.gradients((features, labels, None), backend.asarray(np.arange(5)), loss, hits)
    leaf = torch.ones(3, requires_grad=True)
    bias = trainer.network.biases.values[-1]
    (leaf * bias).sum().backward()
    assert torch.equal(leaf.grad, bias)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_row_with_nan_is_a_miss_even_where_the_nan_is_at_the_label(label: int) -> None:
    """PyTorch's largest of a row with NaN is the NaN."""
    backend = open_backend("torch:cpu")
    logits = torch.tensor([[0.0, float("nan"), 2.0], [0.0, 3.0, 2.0]])
    loss, hits = backend.empty((1,), "float32"), backend.empty((1,), "int64")
    backend.network_ops.softmax_xent(logits, torch.tensor([label, 1]), torch.empty(2, 3), loss, hits)
    assert hits.item() == 1
    assert loss.isnan().item()


def test_split_gives_views_of_all_rows() -> None:
    backend = open_backend("torch:cpu")
    array = backend.asarray(np.arange(7))
    parts = backend.split(array, 3)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    parts[1].fill_(9)
    assert array.tolist() == [0, 1, 2, 9, 9, 9, 6]


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i8", "f2", "f4", "f8", ">f4", ">i8"])
def test_arrays_in_any_order(dtype: str) -> None:
    """PyTorch itself takes no negative strides, of axes of length 1 neither, no other byte order, nothing read-only."""
    whole = np.arange(12).reshape(3, 4).astype(dtype)
    fixed = whole.copy()
    fixed.flags.writeable = False
    backend = open_backend("torch:cpu")
    for view in (
        whole[::-1],
        whole[:, ::-1],
        whole[::-1, ::-2],
        whole[:1][::-1],
        whole[:, :1][:, ::-1],
        whole.T,
        fixed,
    ):
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(view)), view)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # later Pythons warn of every fork beside threads
@pytest.mark.parametrize("name", ["torch:cpu", "numba", "numpy"])
def test_a_forked_child_computes(name: str) -> None:
    """OpenMP's threads do not survive a fork: PyTorch's products would wait for them."""
    backend, a = open_backend(name, 2), np.ones((600, 600))
    expected = float(a.sum() * 600)
    assert _sum_of_square(backend, a) == expected
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(_sum_of_square(open_backend(name, 2), a)))
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        child.join()
        pytest.fail("the child hangs")
    assert results.get() == expected


def _sum_of_square(backend: Any, a: np.ndarray) -> float:
    placed = backend.asarray(a)
    return float((placed @ placed).sum())
