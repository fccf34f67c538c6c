"""The peers' half of the parsing benchmark; runs in an environment of its own with both of them.

Their own documented readers of a PDF, file by file; both read through pypdf. Prints one JSON line.
"""

import json
import sys
import time
from pathlib import Path

from langchain_community.document_loaders import PyPDFLoader
from llama_index.readers.file import PDFReader


def langchain_pages(path: Path) -> int:
    return sum(1 for _ in PyPDFLoader(str(path)).lazy_load())


def llamaindex_pages(path: Path) -> int:
    return len(PDFReader().load_data(path))


def main(reader: str, paths: list[Path]) -> None:
    read = {"langchain": langchain_pages, "llamaindex": llamaindex_pages}[reader]
    started = time.perf_counter()
    num_pages = sum(map(read, paths))
    print(json.dumps({"seconds": time.perf_counter() - started, "pages": num_pages}))


if __name__ == "__main__":
    main(sys.argv[1], [Path(path) for path in sys.argv[2:]])
