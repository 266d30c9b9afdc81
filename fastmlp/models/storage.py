"""Models on disk: weights and biases in a safetensors file, whose header describes them and holds a checksum.

Where features are standardised first, the file holds their mean and scale, float64, too, and `unit` where their rows
are brought to unit length before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_bytes

from fastmlp.common.errors import DataError, first_line
from fastmlp.common.files import read_safetensors, write_bytes
from fastmlp.network.parameters import DTYPES, Parameters
from fastmlp.network.scaling import Scaling
from fastmlp.network.trainer import Trainer

FORMAT = 1
HEADER = "fastmlp"  # one entry only: safetensors writes several in an arbitrary order, and the bytes would differ
State = Mapping[str, NDArray[Any]]
STATE = "state."  # the prefix of the names of a training state's tensors


class Saved(NamedTuple):
    """What a file holds: parameters, a JSON-able description, and the state that training resumes from."""

    parameters: Parameters
    about: dict[str, Any]
    state: dict[str, NDArray[Any]]


def save(parameters: Parameters, about: dict[str, Any], path: Path, state: State | None = None) -> None:
    """Write the parameters, a JSON-able description and a training state (none by default), whole or not at all."""
    state = state or {}
    tensors = {STATE + name: array for name, array in state.items()}
    for layer, (weight, bias) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
        tensors[f"weight_{layer}"] = np.ascontiguousarray(weight)
        tensors[f"bias_{layer}"] = np.ascontiguousarray(bias)
    if parameters.scaling is not None:
        tensors |= {"mean": parameters.scaling.mean, "scale": parameters.scaling.scale}
        tensors |= {"unit": np.array([1])} if parameters.scaling.unit else {}
    header = {"format": FORMAT, "sha256": _checksum(parameters, about, state), "about": about}
    write_bytes(path, to_bytes(tensors, metadata={HEADER: json.dumps(header)}))


def load(path: Path) -> Saved:
    """What `save` wrote; DataError if the file is missing, damaged or something else."""
    if not path.is_file():
        raise DataError(f"There is no model {path}: train one first, or check the path.")
    try:
        metadata, tensors = read_safetensors(path)
        header = json.loads(metadata.get(HEADER, "{}"))
        if header.get("format") != FORMAT or not isinstance(header["about"], dict):
            raise DataError(f"{path} was not written by this version of fastmlp: train the model again.")
        state = {name.removeprefix(STATE): tensors.pop(name) for name in sorted(tensors) if name.startswith(STATE)}
        unit = tensors.pop("unit", None) is not None
        scaling = Scaling(tensors.pop("mean"), tensors.pop("scale"), unit) if "mean" in tensors else None
        layers = range(len(tensors) // 2)
        weights, biases = (tuple(tensors[f"{kind}_{layer}"] for layer in layers) for kind in ("weight", "bias"))
        parameters = Parameters(weights, biases, scaling)
        about = header["about"]
        sound = header["sha256"] == _checksum(parameters, about, state) and _is_network(parameters)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"The model {path} is damaged ({first_line(error)}): train it again.") from None
    if not sound:
        raise DataError(f"The model {path} is damaged (its checksum does not hold): train it again.")
    return Saved(parameters, about, state)


def restore(network: Trainer, state: State) -> None:
    """Put back the state that training resumes from; ValueError if it is not of a network like this one."""
    own = network.state
    known = {**own, "mean": np.zeros(network.sizes[0]), "scale": np.zeros(1)}
    fits = own.keys() <= state.keys() <= known.keys() and ("mean" in state) == ("scale" in state)
    if not fits or any(a.shape != known[name].shape or a.dtype.kind not in "if" for name, a in state.items()):
        raise ValueError("its training state is of another network")
    network.state = state


def _checksum(parameters: Parameters, about: dict[str, Any], state: State) -> str:
    digest = hashlib.sha256(json.dumps([about, sorted(state)] if state else about).encode())
    scaling = () if parameters.scaling is None else (parameters.scaling.mean, parameters.scaling.scale)
    for array in (*parameters.weights, *parameters.biases, *(state[name] for name in sorted(state)), *scaling):
        digest.update(repr((array.dtype.name, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    if parameters.scaling is not None and parameters.scaling.unit:
        digest.update(b"unit")
    return digest.hexdigest()


def _is_network(parameters: Parameters) -> bool:
    """Matrices that fit one another, each with its bias, all of one dtype, none empty; a scaling that fits."""
    if not parameters.weights or any(weight.ndim != 2 for weight in parameters.weights) or min(parameters.sizes) < 1:
        return False
    arrays = (*parameters.weights, *parameters.biases)
    chained = all(w.shape[0] == size for w, size in zip(parameters.weights, parameters.sizes, strict=False))
    biased = all(b.shape == w.shape[1:] for w, b in zip(parameters.weights, parameters.biases, strict=True))
    dtypes = {array.dtype.name for array in arrays}
    scaling = () if parameters.scaling is None else (parameters.scaling.mean, parameters.scaling.scale)
    scaled = all(a.dtype == np.float64 and a.shape == (parameters.sizes[0],) for a in scaling)
    return chained and biased and scaled and len(dtypes) == 1 and dtypes <= set(DTYPES)
