"""Language identification by py3langid (Lui and Baldwin 2012) on samples of a text."""

from functools import cache
from typing import Any

from cairn.core.errors import MissingExtraError

_SAMPLE_CHARACTERS = 1000


def detect_language(text: str) -> tuple[str, float]:
    """ISO 639-1 code and probability; long texts are judged by their beginning, middle and end."""
    code, probability = _identifier().classify(_sample(text))
    return str(code), float(probability)


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE_CHARACTERS:
        return text
    middle = (len(text) - _SAMPLE_CHARACTERS) // 2
    parts = (
        text[:_SAMPLE_CHARACTERS],
        text[middle : middle + _SAMPLE_CHARACTERS],
        text[-_SAMPLE_CHARACTERS:],
    )
    return "\n".join(parts)


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 (optional package)
    except ImportError:
        raise MissingExtraError("language identification", "train") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
