"""The same labelled images as folders, Parquet files and tar archives."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.photos import CLASSES

Sample = tuple[str, bytes, str]  # a name, an image file's content, and a class
LAYOUTS = ("folder", "parquet", "tar")


def samples_in(folder: Path) -> list[Sample]:
    """Of folders of images, one a class."""
    paths = sorted(folder.glob("*/*.png"))
    return [(f"{path.parent.name}-{path.stem}", path.read_bytes(), path.parent.name) for path in paths]


def halves(samples: Sequence[Sample]) -> Iterator[tuple[str, Sequence[Sample]]]:
    middle = len(samples) // 2 + 1
    yield "00000-of-00002", samples[:middle]
    yield "00001-of-00002", samples[middle:]


def write_parquet(path: Path, samples: Sequence[Sample], rows: int = 5, named: bool = True, **columns: Any) -> None:
    """With row groups of so many rows; named: labels are numbers of classes, as Hugging Face's datasets have them.

    columns: instead of image and label, or beside them.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": f"{name}.png"} for name, content, _ in samples]
    labels = [CLASSES.index(label) if named else label for _, _, label in samples]
    table = pa.table({"image": images, "label": labels} | columns)
    about = {"info": {"features": {"label": {"_type": "ClassLabel", "names": list(CLASSES)}}}}
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    parquet.write_table(table, path, row_group_size=rows)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def members_of(samples: Sequence[Sample]) -> list[tuple[str, bytes]]:
    return [
        member
        for name, content, label in samples
        for member in ((f"{name}.png", content), (f"{name}.cls", label.encode()))
    ]


def write_layouts(photos: Path) -> None:
    """parquet/ and tar/ beside the folder of photos, which has train/ and test/."""
    for split in ("train", "test"):
        for number, part in halves(samples_in(photos / split)):
            write_parquet(photos.with_name("parquet") / f"{split}-{number}.parquet", part)
            write_tar(photos.with_name("tar") / f"{split}-{number}.tar", members_of(part))
