"""Tables about a data set: a Parquet index of what is there, and a CSV list of what is not."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import Place


def index_missing() -> str | None:
    """Why no Parquet index can be written here, with the cure; None when it can."""
    if importlib.util.find_spec("pyarrow") is None:
        return "pyarrow is not installed; pip install 'vidtok-onnx[dataset]' and give the same command again"
    return None


def write_index(path: Place, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]) -> None:
    """Write facts and metadata of every clip as Parquet; raises OutputError.

    Metadata are text; where they have the name of a fact, `given_` goes in front.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {name: pa.string() for name in ("clip", "tar", "file", "sha256", "fps")}
    facts |= {name: pa.int64() for name in ("size", "frames", "height", "width")}
    columns: dict[str, list[Any]] = {name: [row.get(name) for row, _ in rows] for name in facts}
    given = sorted({name for _, metadata in rows for name in metadata})
    for name in given:
        columns[f"given_{name}" if name in facts else name] = [metadata.get(name) for _, metadata in rows]
    types = [(name, facts.get(name, pa.string())) for name in columns]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(types)), buffer, compression="zstd")
    PartFile(path, force=True).write_whole(buffer.getvalue())


def write_quarantine(path: Place, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV with the columns clip, tries and reason; no file where nothing failed. Raises OutputError."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("clip", "tries", "reason"))
    table.writerows((row["failed"], row["tries"], row["reason"]) for row in rows)
    PartFile(path, force=True).write_whole(text.getvalue().encode())
