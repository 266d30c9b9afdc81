"""Models as ONNX graphs: the head alone, or extractor and head as one graph from uint8 images to probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._version import __version__
from fastmlp.common.errors import BackendError, FastMLPError, UsageError
from fastmlp.common.files import write_bytes
from fastmlp.extractors import Extractor
from fastmlp.extractors.patches import Patches
from fastmlp.extractors.pixels import Pixels
from fastmlp.models.predictor import Predictor
from fastmlp.network.parameters import Parameters

__all__ = ["export_onnx"]

TOLERANCE = 1e-2  # of a probability: more than rounding makes of badly conditioned features, less than a wrong graph
ROWS_CHECKED = 16
LARGEST = 2**31 - 1  # bytes of an ONNX file without files beside it


def export_onnx(predictor: Predictor, path: Path, with_extractor: bool = False) -> float:
    """Write the model as an ONNX file; how far ONNX Runtime's probabilities are from ours on random rows, at most.

    Input: `features` (n, d), float32, or float64 where a feature's mean is more than ten of its deviations; or, with
    the extractor, `images` uint8 (n, 3, 32, 32), which holds images cut to their central square and made 32x32 as
    `fastmlp predict` does. Outputs: `probabilities` float32 (n, classes) and `label` int64 (n,), the place of the class
    in the entry `class_names` (JSON) of the file's metadata, whose entry `feature_names` (JSON) has the order of the
    features where they have names.

    The predictor should run on the CPU. Raises BackendError where onnx or onnxruntime is missing, UsageError for a
    model without an extractor that is asked for one, FastMLPError where the answers differ.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise BackendError(f"Exporting needs onnx and onnxruntime ({error}): pip install 'fastmlp[onnx]'.") from None
    model = _build(predictor, with_extractor)
    if model.ByteSize() > LARGEST:
        raise UsageError("The graph is larger than an ONNX file can be, 2 GB: export the head alone.")
    content = model.SerializeToString()
    difference = _difference(content, predictor, with_extractor)
    if not difference <= TOLERANCE:
        raise FastMLPError(
            f"ONNX Runtime's probabilities differ from ours by {difference:.2g}: nothing is written; try without "
            "--with-extractor, or other versions of the libraries."
        )
    write_bytes(path, content)
    return difference


def _build(predictor: Predictor, with_extractor: bool) -> Any:
    from onnx import TensorProto, checker

    from fastmlp.models.export.graph import Graph, add_head, folds

    graph, parameters = Graph(), predictor.parameters
    kind = TensorProto.FLOAT if folds(parameters) else TensorProto.DOUBLE
    if with_extractor:
        graph.input("images", TensorProto.UINT8, ("n", 3, 32, 32))
        features = _add_extractor(graph, predictor.extractor)
        features = features if kind == TensorProto.FLOAT else graph.add("Cast", features, to=kind)
    else:
        features = graph.input("features", kind, ("n", parameters.sizes[0]))
    add_head(graph, features, parameters)
    names = {"class_names": predictor.class_names, "feature_names": predictor.feature_names}
    known = {entry: json.dumps(value) for entry, value in names.items() if value is not None}
    model = graph.model({**known, "fastmlp": __version__})
    checker.check_model(model, full_check=True)
    return model


def _add_extractor(graph: Any, extractor: Extractor) -> str:
    """Add the extractor to a graph with the input `images`; the name of the features."""
    if isinstance(extractor, Patches | Pixels):
        from fastmlp.models.export.patches import add_patches, add_pixels

        return add_pixels(graph) if isinstance(extractor, Pixels) else add_patches(graph, extractor.codebook)
    from fastmlp.models.export.vision import add_backbone

    return add_backbone(graph, extractor)


def _difference(content: bytes, predictor: Predictor, with_extractor: bool) -> float:
    """The largest difference of a probability, on random rows; NaN if there is one."""
    from onnxruntime import InferenceSession

    rng = np.random.default_rng(0)
    if with_extractor:
        X = rng.integers(0, 256, (ROWS_CHECKED, 3, 32, 32), dtype=np.uint8)
    else:
        X = _random_features(rng, predictor.parameters)
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {session.get_inputs()[0].name: X})
    return float(np.abs(probabilities - predictor.predict_proba(X)).max())


def _random_features(rng: np.random.Generator, parameters: Parameters) -> NDArray[Any]:
    """Normal features of the size that the model was trained on, in the dtype that the graph takes."""
    from fastmlp.models.export.graph import folds

    X, scaling = rng.standard_normal((ROWS_CHECKED, parameters.sizes[0])), parameters.scaling
    if scaling is not None:
        X = scaling.mean + X / scaling.scale
    return X.astype(np.float32 if folds(parameters) else np.float64)
