"""The peer's half of the data benchmark; runs in an environment of its own with datatrove.

Its own documented way: clean and sign, bucket, cluster, then filter and tokenise. Prints one JSON line.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter


def main(corpus: Path, tokenizer: Path, work: Path, workers: int) -> None:
    def stage(name: str, pipeline: list[object], tasks: int) -> None:
        LocalPipelineExecutor(
            pipeline=pipeline,
            tasks=tasks,
            workers=min(workers, tasks),
            logging_dir=str(work / "logs" / name),
        ).run()

    started = time.perf_counter()
    stage(
        "sign",
        [
            JsonlReader(str(corpus)),
            FTFYFormatter(normalization="NFC"),
            JsonlWriter(str(work / "clean"), compression=None),
            MinhashDedupSignature(str(work / "signatures")),
        ],
        workers,
    )
    stage("bucket", [MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"))], 14)
    stage("cluster", [MinhashDedupCluster(str(work / "buckets"), str(work / "remove"))], 1)
    stage(
        "tokenise",
        [
            JsonlReader(str(work / "clean")),
            MinhashDedupFilter(str(work / "remove")),
            DocumentTokenizer(
                str(work / "tokens"), str(tokenizer), eos_token="<|endoftext|>", shuffle_documents=False
            ),
        ],
        workers,
    )
    seconds = time.perf_counter() - started
    tokens = sum(path.stat().st_size for path in (work / "tokens").glob("*.ds")) // 2
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
