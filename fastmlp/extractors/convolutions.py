"""The networks of all ways: as it is, with cuDNN's fused convolutions, or compiled.

After batch norms are folded, a ReLU or a sum with a shortcut still reads and writes every number that a convolution has
written, once for the bias, once for the sum, once for the ReLU. cuDNN does all of them before a number is written;
PyTorch's compiler does them in one pass behind the convolution.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fastmlp.common.files import cache_dir
from fastmlp.extractors.ways import COMPILED, CUDNN, UnfitError

Network = Callable[[torch.Tensor], torch.Tensor]

RELUS = {nn.functional.relu, torch.relu, torch.relu_, "relu", "relu_"}
SUMS = {operator.add, torch.add, "add"}
SUMS_IN_PLACE = {operator.iadd, "add_"}  # which change their first number


def network_by(path: str, model: nn.Module, pixels: torch.Tensor) -> Network:
    """The model as that path computes it; pixels: an example of its input (1, 3, size, size).

    Raises UnfitError if the path has nothing to offer to this model.
    """
    if path == CUDNN:
        return fused(model, pixels)
    return compiled(model) if path == COMPILED else model


# What all paths have in common.


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """The same function with every batch norm that follows a convolution folded into that convolution's weights.

    A model that torch.fx cannot trace (its control flow depends on its input) is returned as it is: slower, not wrong.
    """
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    try:
        return fuse(model, inplace=True)
    except (TraceError, TypeError, RuntimeError):  # depends on its code
        return model


def channels_last(model: nn.Module) -> nn.Module:
    """The model with its convolutions' weights laid out for channels-last images."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return model


# cuDNN's fused convolutions.


class ConvolutionReLU(nn.Module):
    """max(0, convolution(x) + bias + other), by cuDNN in one kernel."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        geometry = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
        self._geometry: tuple[Any, ...] = geometry

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        if other is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self._geometry)
        return torch.cudnn_convolution_add_relu(x, self.weight, other, 1.0, self.bias, *self._geometry)


def fused(model: nn.Module, pixels: torch.Tensor) -> nn.Module:
    """The model, of the same weights, with each ReLU done by the convolution before it, and a sum between the two also.

    Raises UnfitError if there is no such ReLU, or if torch.fx cannot trace the model.
    """
    if not isinstance(model, fx.GraphModule):
        raise UnfitError("torch.fx cannot trace the model")
    traced = fx.symbolic_trace(model)
    with torch.inference_mode():
        ShapeProp(traced).propagate(pixels)
    found = [relu for relu in traced.graph.nodes if _fuse(relu, traced)]
    if not found:
        raise UnfitError("no ReLU follows a convolution")
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _fuse(relu: fx.Node, traced: fx.GraphModule) -> bool:
    """Let the convolution before that node do it, if it is a ReLU behind one."""
    if not _is_relu(relu, traced):
        return False
    between = relu.all_input_nodes[0]
    fitting = (order for order in _orders(between) if _is_fusible(order[0], traced) and _same_kind(order))
    convolution, *others = next(fitting, (None,))
    if convolution is None or len(between.users) > 1:
        return False
    module = traced.get_submodule(str(convolution.target))
    assert isinstance(module, nn.Conv2d)
    name = f"fused_{relu.name}"
    traced.add_submodule(name, ConvolutionReLU(module))
    with traced.graph.inserting_before(relu):
        one = traced.graph.call_module(name, (convolution.args[0], *others))
    one.meta = relu.meta
    relu.replace_all_uses_with(one)
    for node in dict.fromkeys((relu, between, convolution)):
        traced.graph.erase_node(node)
    return True


def _is_relu(node: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), nn.ReLU)
    return node.op in ("call_function", "call_method") and node.target in RELUS


def _orders(node: fx.Node) -> list[tuple[fx.Node, ...]]:
    """What may be the convolution, and the other number where that node is a sum of two: in one order or in both."""
    nodes = tuple(node.all_input_nodes)
    is_sum = node.op in ("call_function", "call_method") and node.target in SUMS | SUMS_IN_PLACE
    if not is_sum:
        return [(node,)]
    if len(node.args) != 2 or len(nodes) != 2 or node.kwargs:  # with a number, of a thing with itself, or scaled
        return []
    return [nodes, nodes[::-1]] if node.target in SUMS else [nodes]


def _is_fusible(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Whether that is a convolution of the kind that cuDNN fuses, whose result only one node reads."""
    if node.op != "call_module" or len(node.users) > 1:
        return False
    module = traced.get_submodule(str(node.target))
    plain = type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _same_kind(nodes: tuple[fx.Node, ...]) -> bool:
    """Whether all have one shape and dtype: cuDNN reads a shortcut as if it had the result's."""
    metas: list[Any] = [node.meta.get("tensor_meta") for node in nodes]
    return all(meta is not None and (meta.shape, meta.dtype) == (metas[0].shape, metas[0].dtype) for meta in metas)


# PyTorch's compiler.


def compiled(model: nn.Module) -> Network:
    """The model compiled for each size of batch, once: a later process reads the kernels from fastmlp's cache."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))  # where PyTorch sets it, too
    from torch import _inductor  # here, because it takes a second

    options: dict[str, Any] = {"fx_graph_cache": True}
    if "deterministic" in _inductor.list_options():  # from PyTorch 2.9 on: what changes bits is not timed
        options["deterministic"] = True
    network: Network = torch.compile(model, dynamic=False, options=options)
    return network
