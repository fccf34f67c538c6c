"""Which GGUF file of a repository is meant: by quantisation, as much of a name as tells it, or the usual one.

Without a word the first of Q4_K_M and Q8_0 that is there, as llama.cpp's `-hf` does; where there is neither,
or more than one fits, all are listed with their sizes instead of one being guessed.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from cairn.core.errors import IntegrityError, InvalidRequestError, NotFoundError, UnsupportedModelError
from cairn.models.gguf_split import part_names, split_name
from cairn.providers.sizes import gigabytes

_USUAL = ("Q4_K_M", "Q8_0")
_SUFFIX = ".gguf"
_NO_MODELS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""In the names of what lies beside models: image encoders, calibration data, heads that guess ahead."""
_QUANTISATION = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:I?Q\d(?:_[0-9A-Z]+)*|TQ\d_\d|BF16|F16|F32|FP16|FP32|MXFP4(?:_MOE)?|NVFP4))"
    r"(?![A-Z0-9_])"
)
_NOT_READ = re.compile(r"(?:UD-)?(?:IQ\d|Q[123]_|TQ|MXFP4|NVFP4)")


@dataclass(frozen=True, slots=True)
class GgufChoice:
    """One model among a repository's files."""

    stem: str
    """Its path without number and suffix."""
    paths: tuple[str, ...]
    """All of its parts, the first first."""
    size: int
    missing: str = ""
    """A part that is not among the files."""

    @property
    def quantisation(self) -> str:
        """What the name says of it, in capitals; empty where it says nothing."""
        found = _QUANTISATION.findall(self.stem.upper())
        return str(found[-1]) if found else ""

    @property
    def is_read(self) -> bool:
        """Whether Cairn reads the number formats that the name promises."""
        return not _NOT_READ.match(self.quantisation)


def gguf_choices(sizes: Mapping[str, int]) -> list[GgufChoice]:
    """The models among files, which are given by path and size."""
    groups: dict[tuple[str, int], list[str]] = {}
    for path in sorted(sizes):
        name = path.rpartition("/")[2].lower()
        if name.endswith(_SUFFIX) and not any(part in name for part in _NO_MODELS):
            stem, _, count = split_name(path) or (path[: -len(_SUFFIX)], 1, 1)
            if (stem, count) not in groups:
                # A name may say 99,999 parts: one more than there are files is enough to miss one.
                groups[stem, count] = list(islice(part_names(path), len(sizes) + 1)) or [path]
    return [
        GgufChoice(
            stem,
            tuple(paths),
            sum(sizes.get(part, 0) for part in paths),
            next((part for part in paths if part not in sizes), ""),
        )
        for (stem, _), paths in groups.items()
    ]


def choose_gguf(choices: list[GgufChoice], wanted: str, repository: str) -> GgufChoice:
    """The one that `wanted` means, a quantisation or more of a name in any case; empty: the usual one."""
    if not choices:
        raise NotFoundError(
            f"{repository} holds no GGUF file", remedy=f"leave {wanted!r} out, or name another repository"
        )
    wanted = wanted[: -len(_SUFFIX)] if wanted.lower().endswith(_SUFFIX) else wanted
    readable = [choice for choice in choices if choice.is_read]
    for usual in () if wanted else _USUAL:
        if found := _matching(readable, usual):
            return _one(found, choices, usual, repository)
    return _one(_matching(choices, wanted) if wanted else readable, choices, wanted, repository)


def _matching(choices: list[GgufChoice], wanted: str) -> list[GgufChoice]:
    """Those whose quantisation or whole name it is; if none, those that have it in their name."""
    names = [(choice, choice.stem.rpartition("/")[2].upper()) for choice in choices]
    exact = [choice for choice, name in names if wanted.upper() in (choice.quantisation, name)]
    pattern = re.compile(rf"(?<![A-Z0-9]){re.escape(wanted.upper())}(?![A-Z0-9_])")
    return exact or [choice for choice in choices if pattern.search(choice.stem.upper())]


def _one(found: list[GgufChoice], choices: list[GgufChoice], wanted: str, repository: str) -> GgufChoice:
    listed = "choose one:" + "".join(f"\n    {line}" for line in _lines(choices, repository))
    if not found:
        what = f"no GGUF file {wanted!r}" if wanted else "no GGUF file in a number format that is read"
        raise NotFoundError(f"{repository} holds {what}", remedy=listed)
    if len(found) > 1:
        what = f"{len(found)} GGUF files {wanted}".rstrip()
        raise InvalidRequestError(f"{repository} holds {what}", remedy=listed, param="repository")
    if found[0].missing:
        raise IntegrityError(
            f"{repository} lacks {found[0].missing}, one of {len(found[0].paths)} parts of the model",
            remedy=listed,
        )
    if not found[0].is_read:
        raise UnsupportedModelError(
            f"{found[0].paths[0]} is in a number format that is not read: {found[0].quantisation}",
            remedy=listed,
        )
    return found[0]


def _lines(choices: list[GgufChoice], repository: str) -> list[str]:
    """Each with the command's argument that means it alone, and its size."""
    times = Counter(choice.quantisation for choice in choices)
    tags = [
        choice.quantisation
        if choice.quantisation and times[choice.quantisation] == 1
        else choice.stem.rpartition("/")[2]
        for choice in choices
    ]
    width = max(map(len, tags))
    return [
        f"cairn pull {repository}:{tag:<{width}}  {gigabytes(choice.size)}"
        + (", not whole" if choice.missing else "" if choice.is_read else ", not read")
        for tag, choice in zip(tags, choices, strict=True)
    ]
