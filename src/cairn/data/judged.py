"""Documents, queries, and which document is relevant to which query: what a search is judged by.

Files are in the formats that such sets come in; each is told by what its first line says:

    documents   JSON lines {"_id" or "id", "text", "title"}
    queries     JSON lines {"_id" or "id", "text", "answers": [...]}, or lines `id TAB text`
    judgements  TREC's `query 0 document relevance`, `query TAB document TAB relevance` with or without BEIR's
                heading, or JSON lines {"query", "document", "relevance"}

A folder holds `documents.jsonl` (or BEIR's `corpus.jsonl`), `queries.jsonl` or `.tsv`, and `judgements.jsonl`
or `.tsv` or `.txt` (or BEIR's `qrels/test.tsv`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cairn.core.errors import ConfigError, NotFoundError

_DOCUMENTS = ("documents.jsonl", "corpus.jsonl")
_QUERIES = ("queries.jsonl", "queries.tsv")
_JUDGEMENTS = ("judgements.jsonl", "judgements.tsv", "judgements.txt", "qrels.txt", "qrels/test.tsv")


@dataclass(frozen=True, slots=True)
class Queries:
    """Texts by id, and the right answers of those that have any."""

    texts: Mapping[str, str]
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Relevant = Mapping[str, Mapping[str, int]]
"""Query to document to relevance, above 0."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Texts by id, queries, and for each query which documents are relevant."""

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Relevant
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_judged(folder: Path) -> Judged:
    """A judged set in a folder."""
    documents = {
        _id(row): titled(str(row.get("title", "")), str(row["text"]))
        for row in _json_rows(_one_of(folder, _DOCUMENTS), "text")
    }
    queries = read_queries(_one_of(folder, _QUERIES))
    return Judged(documents, queries.texts, read_judgements(_one_of(folder, _JUDGEMENTS)), queries.answers)


def read_queries(path: Path) -> Queries:
    """Queries of a file; those of lines without an id are numbered from 1."""
    lines = _lines(path)
    if lines and lines[0].startswith("{"):
        rows = list(_json_rows(path, "text"))
        return Queries(
            {_id(row): str(row["text"]) for row in rows},
            {_id(row): tuple(map(str, row["answers"])) for row in rows if "answers" in row},
        )
    pairs = (line.split("\t", 1) for line in lines)
    return Queries({pair[0] if pair[1:] else str(n): pair[-1] for n, pair in enumerate(pairs, start=1)})


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Judgements of a file; what is not relevant is left out."""
    lines = _lines(path)
    if lines and lines[0].startswith("{"):
        rows = [
            (str(r["query"]), str(r["document"]), r.get("relevance", 1))
            for r in _json_rows(path, "query", "document")
        ]
    else:
        rows = [_judgement(path, number, line) for number, line in enumerate(lines, start=1)]
        if rows and not _is_number(rows[0][2]):
            del rows[0]  # a heading
    found: dict[str, dict[str, int]] = {}
    for number, (query, document, relevance) in enumerate(rows, start=1):
        if not _is_number(relevance):
            raise ConfigError(f"{path}: judgement {number} says {relevance!r}, allowed: a whole number")
        if int(relevance) > 0:
            found.setdefault(query, {})[document] = int(relevance)
    return found


def titled(title: str, text: str) -> str:
    """A text as Markdown with its title as the heading."""
    heading = " ".join(title.split())
    return f"# {heading}\n\n{text}" if heading else text


def _judgement(path: Path, number: int, line: str) -> tuple[str, str, Any]:
    parts = line.split("\t") if "\t" in line else line.split()
    if len(parts) == 4:  # TREC's second column says nothing
        return parts[0], parts[2], parts[3]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    raise ConfigError(
        f"{path}:{number}: {line[:80]!r}, allowed: query, 0, document, relevance", remedy="mend that line"
    )


def _is_number(value: Any) -> bool:
    try:
        int(value)
    except (TypeError, ValueError):
        return False
    return True


def _id(row: Mapping[str, Any]) -> str:
    found = row.get("_id", row.get("id"))
    if found is None:
        raise ConfigError(f'{str(row)[:80]} lacks "id"', remedy="mend that line")
    return str(found)


def _json_rows(path: Path, *keys: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number} is not JSON: {error}", remedy="mend that line") from None
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise ConfigError(f'{path}:{number} lacks "{missing[0]}"', remedy="mend that line")
        yield row


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}", remedy="check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", remedy="save the file as UTF-8") from None


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise NotFoundError(f"{folder} has none of {', '.join(names)}", remedy="check the path")
    return found
