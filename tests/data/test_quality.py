"""Each quality rule by name, on a text that breaks it and nothing before it."""

import pytest

from cairn.data.cleaning import clean_text
from cairn.data.language import detect_language
from cairn.data.quality import RULES, QualityConfig, broken_rule
from tests.data.conftest import ROOT

# Twelve different sentences, so that no rule about repetition is near.
PROSE = """The keeper of the light climbed the stairs that evening with a lamp in her hand. Below, the sea
had begun to rise against the rocks. She counted ships: there were three of them, and one had lost its mast.

Nobody in the village believed in storms before October. They mended nets, they drank their tea, and they
talked about the price of wool. But the gulls knew better. All day long birds came in from the water to sit
on chimneys and along the wall of the old churchyard.

When night fell, a wind went through every street like somebody looking for a lost child. Doors shook. A boy
called Martin woke up and went to his window, where he could see the lamp burning far out on the point."""


def test_prose_passes() -> None:
    assert broken_rule(PROSE, QualityConfig()) == ""
    for path in (ROOT / "src/cairn/data/tutorial").glob("*.md"):
        assert broken_rule(clean_text(path.read_text(encoding="utf-8"))[0], QualityConfig()) == ""


BROKEN = {
    "min_words": "Too short a text.",
    "min_mean_word_length": "a b c of it to be we go I " * 8,
    "max_mean_word_length": "internationalisation characteristically " * 40,
    "forbidden": PROSE + "\n\nLorem ipsum dolor sit amet.",
    "max_symbol_ratio": PROSE + " #" * 60,
    "max_bullet_lines": "\n".join(f"- {line}" for line in PROSE.replace(". ", ".\n").split("\n") if line),
    "max_ellipsis_lines": PROSE.replace(". ", "...\n").replace("\n\n", "...\n"),
    "min_alphabetic_words": PROSE + " 12345 67890" * 40,
    "min_stop_words": " ".join(f"zebra{i} crossing{i} quietly" for i in range(30)),
    "max_duplicate_lines": PROSE + "\nagain and again this" * 9,
    "max_duplicate_line_bytes": PROSE
    + ("\n" + "again and again this line comes here for no reason at all " * 2) * 3,
    "max_duplicate_paragraphs": PROSE.replace(". ", ".\nx\n") + "\n\na b\n\na b\n\na b\n\na b\n\na b",
    "max_top_ngrams": PROSE + " over and over" * 40,
    "max_duplicate_ngrams": PROSE + " " + PROSE[:300],
}


@pytest.mark.parametrize("name", BROKEN)
def test_rules(name: str) -> None:
    config = QualityConfig()
    if name == "max_duplicate_paragraphs":
        config = QualityConfig(max_duplicate_lines=None, max_duplicate_line_bytes=None)
    assert broken_rule(BROKEN[name], config) == name
    off = config.model_copy(update={name: () if name == "forbidden" else None})
    assert broken_rule(BROKEN[name], off) != name


def test_every_rule_is_tested() -> None:
    assert {*BROKEN, "max_words"} == set(RULES)
    assert broken_rule(PROSE, QualityConfig(max_words=100)) == "max_words"
    assert broken_rule("", QualityConfig()) == "min_words"
    assert broken_rule("", QualityConfig(min_words=None)) == ""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", PROSE),
        ("de", "Der Leuchtturmwärter stieg am Abend die Treppe hinauf und zählte die Schiffe auf dem Meer."),
        ("fr", "Le gardien du phare monta l'escalier ce soir-là et compta les bateaux sur la mer."),
        ("es", "El guardián del faro subió la escalera aquella noche y contó los barcos en el mar."),
        ("en", (PROSE + "\n\n") * 20),
    ],
)
def test_languages(code: str, text: str) -> None:
    found, probability = detect_language(text)
    assert found == code
    assert 0.5 < probability <= 1
