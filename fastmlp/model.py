"""Models on disk: weights and biases in a safetensors file, whose header tells what they are and holds a checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fastmlp.errors import DataError
from fastmlp.files import atomic_path
from fastmlp.mlp import DTYPES, Parameters

FORMAT = 1
HEADER = "fastmlp"  # one entry only: safetensors writes several in an order of its own, and the bytes would differ


def save(parameters: Parameters, about: dict[str, Any], path: Path) -> None:
    """Write the parameters and a JSON-able description, whole or not at all."""
    tensors = {}
    for layer, (weight, bias) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
        tensors[f"weight_{layer}"] = np.ascontiguousarray(weight)
        tensors[f"bias_{layer}"] = np.ascontiguousarray(bias)
    header = {"format": FORMAT, "sha256": _checksum(parameters, about), "about": about}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER: json.dumps(header)})


def load(path: Path) -> tuple[Parameters, dict[str, Any]]:
    """The parameters and their description; DataError if the file is missing, damaged or something else."""
    if not path.is_file():
        raise DataError(f"There is no model {path}: train one first, or check the path.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        if header.get("format") != FORMAT:
            raise DataError(f"{path} was not written by this version of fastmlp: train the model again.")
        layers = range(len(tensors) // 2)
        parameters = Parameters(
            tuple(tensors[f"weight_{layer}"] for layer in layers), tuple(tensors[f"bias_{layer}"] for layer in layers)
        )
        about = header["about"]
        sound = header["sha256"] == _checksum(parameters, about) and _is_network(parameters)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"The model {path} is damaged ({error}): train it again.") from None
    if not sound:
        raise DataError(f"The model {path} is damaged (its checksum does not hold): train it again.")
    return parameters, about


def _checksum(parameters: Parameters, about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about).encode())
    for array in (*parameters.weights, *parameters.biases):
        digest.update(repr((array.dtype.name, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _is_network(parameters: Parameters) -> bool:
    """Matrices that fit one another, each with its bias, all of one dtype."""
    if not parameters.weights or any(weight.ndim != 2 for weight in parameters.weights):
        return False
    arrays = (*parameters.weights, *parameters.biases)
    chained = all(w.shape[0] == size for w, size in zip(parameters.weights, parameters.sizes, strict=False))
    biased = all(b.shape == w.shape[1:] for w, b in zip(parameters.weights, parameters.biases, strict=True))
    dtypes = {array.dtype.name for array in arrays}
    return chained and biased and len(dtypes) == 1 and dtypes <= set(DTYPES)
