"""A trained model's folder: the model, its config and history, and a card for those who receive it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastmlp.common.files import write_json, write_text
from fastmlp.models import card, storage
from fastmlp.network.parameters import Parameters

MODEL = "model.safetensors"
CODEBOOK = "codebook.safetensors"


def write(folder: Path, parameters: Parameters, about: dict[str, Any], description: dict[str, Any]) -> None:
    """Write all that `fastmlp predict` and a reader need; the model itself comes last.

    about: the model's fingerprint and history; description: what config.json holds beside the fingerprint.
    """
    fingerprint, history = about["fingerprint"], about["history"]
    config = {**fingerprint, **description}
    write_json(folder / "config.json", config)
    write_text(folder / card.NAME, card.model_card(config, history))
    write_json(folder / "history.json", history)
    storage.save(parameters, about, folder / MODEL)
