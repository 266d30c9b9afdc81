"""An ONNX graph, built node by node, and the head as a part of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fastmlp._version import __version__
from fastmlp.network.parameters import Parameters
from fastmlp.network.scaling import Scaling

SMALL_OFFSET = 10.0  # of a feature's mean, in deviations: a float32 sum then loses about a digit
OPSET, IR_VERSION = 18, 10  # what ONNX Runtime knows from version 1.18 on


class Graph:
    """Nodes, constants, inputs and outputs; every value has a unique name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: tuple[str | int, ...]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: tuple[str | int, ...]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, array: NDArray[Any]) -> str:
        name = f"fastmlp.constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, *inputs: str | NDArray[Any] | float, output: str | None = None, **attributes: Any) -> str:
        """A node of values, by name, and of constants: arrays, or numbers as float32; the name of what it gives."""
        name = output or f"fastmlp.{op}_{len(self.nodes)}"
        values = [value if isinstance(value, str) else self.constant(_array(value)) for value in inputs]
        self.nodes.append(helper.make_node(op, values, [name], name=f"node_{name}", **attributes))
        return name

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "fastmlp", self.inputs, self.outputs, self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fastmlp",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        return model


def _array(value: NDArray[Any] | float) -> NDArray[Any]:
    return np.array(value, np.float32) if isinstance(value, float) else value


def folds(parameters: Parameters) -> bool:
    """Whether weights for features as they come lose no digits that count, as their offsets are small."""
    scaling = parameters.scaling
    small = scaling is None or bool(np.abs(scaling.mean * scaling.scale).max() <= SMALL_OFFSET)
    return small and not (scaling is not None and scaling.unit)


def _add_scaling(graph: Graph, features: str, scaling: Scaling) -> str:
    """Standardise float64 features, and round them to float32 last."""
    values = _add_unit_length(graph, features) if scaling.unit else features
    centred = graph.add("Sub", values, scaling.mean)
    return graph.add("Cast", graph.add("Mul", centred, scaling.scale), to=TensorProto.FLOAT)


def _add_unit_length(graph: Graph, features: str) -> str:
    """Divide each row by its Euclidean length, unless it has none."""
    lengths = graph.add("ReduceL2", features, np.array([1]), keepdims=1)
    none = graph.add("Equal", lengths, np.zeros(1))
    return graph.add("Div", features, graph.add("Where", none, np.ones(1), lengths))


def add_head(graph: Graph, features: str, parameters: Parameters) -> None:
    """The network, in float32, from features (n, d) to the outputs `probabilities` (n, classes) and `label` (n,).

    features are float64 where their scaling is not `folds` of the parameters, else float32.
    """
    scaling = parameters.scaling
    if scaling is None or folds(parameters):
        values, parameters = features, parameters.plain
    else:
        values = _add_scaling(graph, features, scaling)
    last, rounded = len(parameters.weights) - 1, parameters.astype("float32")
    for layer, (weight, bias) in enumerate(zip(rounded.weights, rounded.biases, strict=True)):
        values = graph.add("Gemm", values, weight, bias)
        if layer < last:
            values = graph.add("Relu", values)
    graph.add("Softmax", values, output="probabilities", axis=1)
    graph.add("ArgMax", values, output="label", axis=1, keepdims=0)
    graph.output("probabilities", TensorProto.FLOAT, ("n", parameters.sizes[-1]))
    graph.output("label", TensorProto.INT64, ("n",))
