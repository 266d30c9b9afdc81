"""Fake programs, for tests of the scripts that run real ones."""

from pathlib import Path


def program(path: Path, script: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def is_one_sentence(text: object) -> bool:
    return isinstance(text, str) and text.endswith(".") and "\n" not in text
