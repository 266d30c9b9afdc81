"""A backbone as a part of an ONNX graph, written by PyTorch."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from torch import nn

from fastmlp.common.errors import BackendError, FastMLPError, first_line
from fastmlp.models.export.graph import OPSET, Graph

FEATURES = "backbone.features"


class _Backbone(nn.Module):
    """A VisionExtractor as a module."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.model, self.extractor = extractor.model, extractor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.extractor.forward(images)


def add_backbone(graph: Graph, extractor: Any) -> str:
    """Features (n, d) of the input `images` uint8 (n, 3, 32, 32); FastMLPError where PyTorch cannot write it."""
    model = _exported(extractor)
    if model.functions or [(opset.domain, opset.version) for opset in model.opset_import] != [("", OPSET)]:
        raise FastMLPError(f"{extractor.name} needs more than ONNX's own operators: export the head alone.")
    graph.nodes += model.graph.node
    graph.constants += model.graph.initializer
    return FEATURES


def _exported(extractor: Any) -> onnx.ModelProto:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BackendError(f"Exporting a backbone needs onnxscript ({error}): pip install 'fastmlp[onnx]'.") from None
    example = torch.zeros((2, 3, 32, 32), dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Backbone(extractor).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[FEATURES],
                dynamic_shapes={"images": {0: torch.export.Dim("n")}},
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001  (the exporter passes on what any operator raises)
        raise FastMLPError(
            f"PyTorch cannot write {extractor.name} as ONNX ({first_line(error)}): export the head alone."
        ) from None
    if program is None:
        raise FastMLPError(f"PyTorch wrote no ONNX of {extractor.name}: export the head alone.")
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which reports its own workings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
