"""ONNX Runtime on a network that PyTorch exports."""

from __future__ import annotations

import io
import warnings

from ..contenders import Bound
from ..extracting import Features, Images, ResNetExtraction

BATCH_SIZE = 16


def extract(problem: ResNetExtraction) -> Bound:
    import torch
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = problem.threads
    session = InferenceSession(_exported(problem), options, providers=["CPUExecutionProvider"])

    def extracted(images: Images) -> Features:
        with torch.inference_mode():
            pixels = problem.preprocessed(torch.from_numpy(images).float()).numpy()
        return session.run(None, {"pixels": pixels})[0]

    return problem.bound(extracted, BATCH_SIZE)


def _exported(problem: ResNetExtraction) -> bytes:
    """Uses the exporter that needs the fewest packages."""
    import torch

    pixels, file = torch.zeros(2, 3, problem.image_size, problem.image_size), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            problem.network(),
            (pixels,),
            file,  # type: ignore[arg-type]  # a file too, which its types leave out
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "n"}},
            dynamo=False,
        )
    return file.getvalue()
