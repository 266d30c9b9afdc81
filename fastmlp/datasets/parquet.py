"""Parquet files with a column of encoded images and one of labels, as Hugging Face's datasets have them.

The images are bytes, or have bytes and a path; labels are whole numbers or words. Row groups are read one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastmlp.common.errors import BackendError, DataError, first_line
from fastmlp.common.progress import warn
from fastmlp.datasets import image_store
from fastmlp.datasets.base import Dataset, LeftOut
from fastmlp.datasets.image_files import PART, decoded, of_bytes, samples_of, stacked
from fastmlp.datasets.image_shards import find_shards
from fastmlp.datasets.image_store import Listing
from fastmlp.datasets.places import Place, stamp_of
from fastmlp.datasets.reading import Reading
from fastmlp.datasets.sources import Label, Named, OfFile, Put, Reader, Samples

ENDINGS = (".parquet",)
BUFFER = 2**20  # bytes that are read at a time
IMAGES, LABELS = ("image", "img", "images"), ("label", "labels", "y", "target")


class Columns(NamedTuple):
    """The column of the images, and that of the labels; names: of the classes, where labels are their numbers."""

    image: str
    label: str
    names: tuple[str, ...] | None


def load(place: Place, reading: Reading, reader: Reader | None = None, keep: Path | None = None) -> Dataset:
    """The dataset in a Parquet file, or in a folder, glob or braces of them; errors as for `image_store.load`.

    Raises BackendError if pyarrow is missing, DataError if a file is damaged, lacks a column of images or labels, or
    has several, or does not go with the others.
    """
    shards = find_shards(place, ENDINGS)
    first: tuple[Place, Columns] | None = None
    spare: dict[str, int] = {}
    splits = []
    for files in shards.splits:
        sources = list[RowGroups]()
        for file in files:
            columns, others, groups = _described(file)
            if first is None:
                first, spare = (file, columns), {f"column {name!r}": 1 for name in others}
            if columns != first[1]:
                raise DataError(f"{file} has its images and labels in other columns than {first[0]}: save them alike.")
            sources += _parts(Named.of(file), columns, groups)
        splits.append(sources)
    if spare:
        warn(f"Left out of {place}: {LeftOut(spare)}.")
    names = first[1].names if first else None
    listing = Listing(f"parquet:{place}", splits, names, shards.told, dict(shards.others) | spare)
    return image_store.load(listing, reading, reader, keep)


@dataclass(frozen=True)
class RowGroups(OfFile):
    """A source of the rows of row groups of a file, which start with that row of it."""

    columns: Columns
    numbers: tuple[int, ...]
    start: int
    count: int

    def identity(self) -> list[Any]:
        place = self.file.place
        return ["parquet", self.file.shown, str(place), self.columns, self.numbers, self.start, stamp_of(place)]

    def read(self, max_pixels: int, threads: int, put: Put) -> Samples:
        samples, start = Samples([], {}, {}), self.start
        with _opened(self.file.place) as file:
            for batch in file.iter_batches(PART, self.numbers, list(self.columns[:2]), use_threads=False):
                labels = self._labels(batch.column(self.columns.label), start)
                found = decoded(_contents(batch.column(self.columns.image)), of_bytes, max_pixels, threads)
                put(stacked(found))
                some = samples_of(found, labels, [self._row(start + place) for place in range(len(found))])
                samples = Samples(samples.labels + some.labels, samples.reasons | some.reasons, {})
                start += len(found)
        return samples

    def _row(self, row: int) -> str:
        return f"{self.file.shown}#{row}"

    def _labels(self, column: Any, start: int) -> list[Label]:
        """Names of classes, or whole numbers from 0 on."""
        names, labels = self.columns.names, list[Label]()
        for row, value in enumerate(column.to_pylist(), start=start):
            if value is None or (not isinstance(value, str) and value < 0):
                label = "no label" if value is None else f"the label {value}, which stands for none"
                raise DataError(f"{self._row(row)} has {label}: give one to every image, or remove the row.")
            if names is not None and value >= len(names):
                raise DataError(f"{self._row(row)} has label {value}, but the file names {len(names)} classes: fix it.")
            labels.append(value if names is None else names[value])
        return labels


def _parts(file: Named, columns: Columns, rows: Sequence[int]) -> list[RowGroups]:
    """Row groups one by one or, where they are small, several together."""
    parts, numbers, start, count = list[RowGroups](), list[int](), 0, 0
    for number, own in enumerate(rows):
        numbers.append(number)
        count += own
        if count >= PART or (count and number == len(rows) - 1):
            parts.append(RowGroups(file, columns, tuple(numbers), start, count))
            numbers, start, count = [], start + count, 0
    return parts


def _contents(column: Any) -> list[bytes | None]:
    """The bytes of each image, which may be missing."""
    of_structs = hasattr(column.type, "get_field_index") and column.type.get_field_index("bytes")
    contents: list[bytes | None] = (column if of_structs is False else column.flatten()[of_structs]).to_pylist()
    return contents


# What a file has.


def _described(place: Place) -> tuple[Columns, list[str], list[int]]:
    """The columns of its images and labels, others that could be these, and the rows of its row groups."""
    with _opened(place) as file:
        schema, about = file.schema_arrow, file.metadata
        columns, others = _columns(schema, place)
        return columns, others, [about.row_group(number).num_rows for number in range(about.num_row_groups)]


@contextmanager
def _opened(place: Place) -> Iterator[Any]:
    """The file, of which little is in memory at a time. Raises DataError for what is wrong with it within the block."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BackendError("Parquet files need pyarrow: pip install 'fastmlp[parquet]'.") from None
    try:
        with ExitStack() as stack:
            source = str(place) if isinstance(place, Path) else stack.enter_context(place.open("rb"))
            yield stack.enter_context(parquet.ParquetFile(source, buffer_size=BUFFER, pre_buffer=False))
    except (ArrowException, OSError) as error:
        raise DataError(f"{place} cannot be read ({first_line(error)}): fetch or write it again.") from None


def _columns(schema: Any, place: Place) -> tuple[Columns, list[str]]:
    images = [field.name for field in schema if _holds_images(field.type)]
    labels = [field.name for field in schema if field.name in LABELS]
    image = _one(images, IMAGES, "images", schema, place)
    label = _one(labels, LABELS[:1], "labels", schema, place)
    names = _class_names(schema, label)
    kind = schema.field(label).type
    if not (_is_number(kind) or (_is_word(kind) and names is None)):
        raise DataError(f"Column {label!r} of {place} is of type {kind}: give labels that are whole numbers or words.")
    return Columns(image, label, names), [name for name in images + labels if name not in (image, label)]


def _one(found: list[str], usual: tuple[str, ...], what: str, schema: Any, place: Place) -> str:
    """The only column, or the one with the most usual name. Raises DataError if there is none, or are several."""
    if len(set(found)) < len(found):
        twice = max(found, key=found.count)
        raise DataError(f"{place} has {found.count(twice)} columns called {twice!r}: rename all but the one of {what}.")
    named = [name for name in usual if name in found]
    if len(found) != 1 and not named:
        has = f"has columns {' and '.join(map(repr, found))}, each of which could be the {what}"
        lacks = f"has no column of {what}, only {', '.join(schema.names)}"
        kind = "of bytes, or of bytes and path," if what == "images" else "of whole numbers or words"
        raise DataError(f"{place} {has if found else lacks}: call one {kind} {usual[0]!r}.")
    return found[0] if len(found) == 1 else named[0]


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind))


def _is_word(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Those that Hugging Face's datasets write into the file."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return tuple(map(str, about["names"])) if about["_type"] == "ClassLabel" else None
    except (LookupError, ValueError, TypeError):
        return None
