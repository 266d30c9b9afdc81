"""Two spellings of one text are one text."""

import unicodedata
from typing import Literal

import pytest

from fastmlp.common.text import normalized


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["café", "Äpfel", "한국", "が", "Ångström", "plain"])
def test_composed_and_decomposed_spellings_are_equal(name: str, form: Literal["NFC", "NFD"]) -> None:
    assert normalized(unicodedata.normalize(form, name)) == unicodedata.normalize("NFC", name)


def test_what_only_looks_alike_stays_different() -> None:
    assert normalized("ﬁ ²") == "ﬁ ²"  # which NFKC would rewrite
