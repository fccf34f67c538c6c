"""How many multiply-adds a cycle llvm-mca predicts for the inner loops of the AVX-512 kernels.

    python native/tools/predicted.py [--cpu znver4]

Compiles the tables to assembly as CMakeLists.txt does and runs the loops of a product or of attention that
do most at once, each 300 times, with all data in the first-level cache: memory, other caches and what stands
around the loops are not covered. LLVM's model of Zen 4 has wrong costs for three instructions: it makes
VPDPBUSD take 2 cycles and VDPBF16PS 3, where they were measured at one a cycle, like multiply-adds of floats
(github.com/pigirons/cpufp, Ryzen 7 8845HS: 648, 325 and 164 GOPS), and it makes a broadcast from memory use
the pipes that multiply. For znver4 they are therefore taken as a multiply-add of floats and as a load.

Needs g++, c++filt and llvm-mca 17 or later.
"""

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

NATIVE = Path(__file__).resolve().parent.parent
AVX512 = "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
FLAGS = {"avx512bf16": f"{AVX512} -mavx512bf16", "avx512": AVX512}
OPTIONS = "-std=c++20 -O3 -ffp-contract=off -Wno-psabi -fPIC -fvisibility=hidden -S -o -"
LANES = {"zmm": 16, "ymm": 8}
PRODUCTS = {"vpdpbusd": 4, "vdpbf16ps": 2, "vfmadd": 1}  # of a lane
ITERATIONS = 300
MCA = shutil.which("llvm-mca-19") or "llvm-mca"
KERNELS = [  # what, the tables, the function whose loop it is, the peak of Zen 4
    ("int4, 6 rows", "avx512bf16", "int4_tiles<6, 2>", 64),
    ("int4, one row", "avx512bf16", "int4_tiles<1, 2>", 64),
    ("int8, 6 rows", "avx512bf16", "int8_tiles<6, 2>", 64),
    ("int8, one row", "avx512bf16", "int8_tiles<1, 2>", 64),
    ("bfloat16, 6 rows", "avx512bf16", "bfloat16_tiles<6, 2>", 32),
    ("bfloat16, 6 rows", "avx512", "bfloat16_tiles<6, 2>", 16),
    ("float32, 6 rows", "avx512bf16", "float32_tiles<6, 2>", 16),
    ("attention, 6 queries, bfloat16: scores", "avx512bf16", "score_rows<6, unsigned short>", 32),
    ("attention, 6 queries, bfloat16: sums", "avx512bf16", "weigh_rows<6, true>", 32),
    ("attention, 6 queries, others: scores", "avx512", "score_rows<6, float>", 16),
    ("attention, 6 queries, others: sums", "avx512", "weigh_rows<6, false>", 16),
    ("attention, one query, bfloat16", "avx512", "attend_rows<1, unsigned short>", 16),
    ("attention, one query, int8", "avx512", "attend_rows<1, signed char>", 16),
    ("adapters, 4 rows, bfloat16", "avx512", "low_rank_rows<unsigned short, 4>", 16),
]


def functions(isa: str) -> dict[str, list[str]]:
    """The functions of a table and their assembly, by their names without arguments."""
    command = ["g++", *OPTIONS.split(), *FLAGS[isa].split(), f"-I{NATIVE}", f"{NATIVE}/kernels_{isa}.cpp"]
    assembly = subprocess.run(command, check=True, capture_output=True).stdout
    text = subprocess.run(["c++filt"], input=assembly, check=True, capture_output=True).stdout.decode()
    text = re.sub(rf"cairn::{isa}::|\(anonymous namespace\)::", "", text)
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if start := re.match(r"(?:void )?([\w<>, ]+)(?:\(.*\).*)?:$", line):
            found[start[1]] = []
        elif found:
            found[next(reversed(found))].append(line)
    return found


def loops(lines: list[str]) -> Iterator[list[str]]:
    """The innermost loops: from a label to a jump back to it, with no other label between."""
    labels: dict[str, int] = {}
    for i, line in enumerate(lines):
        if label := re.match(r"(\.L\d+):", line):
            labels[label[1]] = i
        jump = re.match(r"\tj\w+\t(\.L\d+)", line)
        if jump and labels and jump[1] == next(reversed(labels)):
            yield [x for x in lines[labels[jump[1]] : i + 1] if re.match(r"\t[a-z]", x)]


def multiply_adds(loop: list[str]) -> int:
    """Those of the quickest kind of product in a loop: with VPDPBUSD the rest is scaling."""
    counts = dict.fromkeys(PRODUCTS, 0)
    for line in loop:
        for name, products in PRODUCTS.items():
            if line.startswith(f"\t{name}") and (register := re.search("[zy]mm", line)):
                counts[name] += products * LANES[register[0]]
    return next((count for count in counts.values() if count), 0)


def as_measured(line: str) -> str:
    line = re.sub(r"^\t(vpdpbusd|vdpbf16ps)\t", "\tvfmadd231ps\t", line)
    return re.sub(r"^\t(vpbroadcastd|vbroadcastss)\t([^%].*\))", "\tvmovups\t\\2", line)


def cycles(loop: list[str], cpu: str) -> float:
    code = "\n".join(as_measured(line) if cpu == "znver4" else line for line in loop)
    command = [MCA, "-mtriple=x86_64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    out = subprocess.run(command, input=code, check=True, capture_output=True, text=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", out)
    assert total, out
    return int(total[1]) / ITERATIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", default="znver4", help="as llvm-mca calls it; its own costs but for znver4")
    cpu = parser.parse_args().cpu
    tables = {isa: functions(isa) for isa in FLAGS}
    print("| loop | table | multiply-adds a cycle | peak of Zen 4 |\n|---|---|---|---|")
    for what, isa, name, peak in KERNELS:
        loop = max(loops(tables[isa][name]), key=multiply_adds)
        print(f"| {what} | `{isa}` | {multiply_adds(loop) / cycles(loop, cpu):.1f} | {peak} |")


if __name__ == "__main__":
    main()
