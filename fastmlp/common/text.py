"""Text from outside in the one spelling in which two that look the same are equal."""

import unicodedata


def normalized(text: str) -> str:
    """The text in Unicode's composed form, NFC: "é" is one character, also where macOS writes "e" and an accent."""
    return unicodedata.normalize("NFC", text)
