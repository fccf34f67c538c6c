"""The names of the parts of a model that lies in several GGUF files: NAME-00001-of-00003.gguf and so on."""

import re
from collections.abc import Iterator

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)


def split_name(name: str) -> tuple[str, int, int] | None:
    """What comes before the numbers, which part it is (from 1) and of how many; None for a whole file."""
    match = _PART.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def part_names(name: str) -> Iterator[str]:
    """The names of all parts, given that of one; of a whole file its own."""
    match = _PART.fullmatch(name)
    if match is None:
        yield name
        return
    for index in range(1, int(match[3]) + 1):
        yield f"{match[1]}-{index:05d}-of-{match[3]}{match[4]}"
