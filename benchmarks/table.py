"""Make `docs/benchmarks.md` and the README's table from the recorded results.

`python -m benchmarks.table` writes both; `--check` fails when they are not what the records
say, so a number cannot be edited by hand. A record that misses its bar stays, marked as a miss.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
START, END = "<!-- numbers: made by `python -m benchmarks.table` -->", "<!-- /numbers -->"

INTRODUCTION = """# Benchmarks

Made from `benchmarks/results/*.json` by `python -m benchmarks.table`; do not edit. Cairn and its peer run
in turn in one run on the same machine, medians are kept, and a ratio above 1 means that Cairn is better.
Measure on your own machine with `make bench AREA=engine` (or `data`, `training`, `server`, `starter`).
A bar is what we asked of ourselves before measuring: a ratio where there is a peer, else a limit. A miss
stays in the table as a miss. Some numbers stand there twice, for two kinds of processor with two cores each:
the Intel Xeon has AVX-512 and AMX, the AMD EPYC ends at AVX2.

"""


def load_records() -> list[dict[str, Any]]:
    """All records, by id and machine."""
    records = [record for path in RESULTS.glob("*.json") for record in json.loads(path.read_text())]
    return sorted(records, key=lambda record: (str(record["id"]), str(record["machine"])))


def number(value: float | None) -> str:
    """Three significant digits and thousands separators; an empty cell for None."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdict(record: dict[str, Any]) -> str:
    """`yes`, `miss`, or an empty cell where no bar was set."""
    return "" if record["bar"] is None else "yes" if record["holds"] else "**miss**"


def bar(record: dict[str, Any]) -> str:
    """The least ratio where there is a peer, else the limit in the number's own unit."""
    if record["bar"] is None:
        return ""
    return f"{number(record['bar'])}x" if record["peer"] else f"{number(record['bar'])} {record['unit']}"


def processor(record: dict[str, Any]) -> str:
    """Maker and model, without marks and the word itself."""
    name = str(record["machine"]).partition(",")[0]
    return name.replace("(R)", "").replace("(TM)", "").replace(" Processor", "")


def row(record: dict[str, Any]) -> str:
    """One table line: what, processor, Cairn, peer, ratio, bar, verdict."""
    peer = f"{number(record['peer_value'])} ({record['peer']})" if record["peer"] else ""
    ratio = f"{number(record['ratio'])}x" if record["ratio"] is not None else ""
    value = f"{number(record['cairn'])} {record['unit']}"
    cells = [record["what"], processor(record), value, peer, ratio, bar(record), verdict(record)]
    return "| " + " | ".join(cells) + " |"


def table(records: list[dict[str, Any]]) -> str:
    """The Markdown table of these records."""
    head = "| what | on | Cairn | peer | ratio | bar | holds |\n|---|---|---|---|---|---|---|\n"
    return head + "\n".join(row(record) for record in records) + "\n"


def page(records: list[dict[str, Any]]) -> str:
    """The whole of `docs/benchmarks.md`: a table and the provenance of every number in it."""
    parts = [INTRODUCTION, table(records), "\n## Where each number comes from\n"]
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        parts.append(
            f"\n**`{record['id']}`** {record['what']}. `{record['command']}` on {record['machine']}, "
            f"commit `{record['commit'][:12]}`, {record['date'][:10]}. {versions}.\n"
        )
    return "".join(parts)


def readme(records: list[dict[str, Any]]) -> str:
    """The README with the table between its markers made anew."""
    text = README.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(records)}{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is stale")
    is_check = parser.parse_args().check
    records = load_records()
    stale = 0
    for path, text in ((PAGE, page(records)), (README, readme(records))):
        if path.exists() and path.read_text() == text:
            continue
        if is_check:
            print(f"{path.relative_to(ROOT)} is not what the records say: run python -m benchmarks.table")
            stale += 1
        else:
            path.write_text(text)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
