"""Confidence: what is a text is trusted in any language, what is none is not."""

import pytest

from cairn.data.parsing.confidence import assess, assess_glyphs

TEXTS = {
    "English": "Every trip needs an approval by the manager before it is booked for the team. ",
    "German": "Der Vertrag wird nicht durch die Änderung der Rechtsschutzversicherungsbedingungen berührt. ",
    "Czech": "Strč prst skrz krk je věta, která neobsahuje žádnou samohlásku, ale tato část jich má dost. ",
    "Latin": "Sed do eiusmod tempor incididunt ut labore et dolore magna aliqua, sed non in culpa. ",
    "Finnish": "Hääyöaie on sana, jossa on monta vokaalia peräkkäin, ja työ jatkuu yhä ensi viikolla. ",
    "Welsh": "Mae hen wlad fy nhadau yn annwyl i mi, gwlad beirdd a chantorion, enwogion o fri. ",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. ",
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах. ",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. ",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. ",
    "Hungarian": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. ",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl sahiptirler. ",
    "Zulu": "Bonke abantu bazalwa bekhululekile belingana ngesithunzi nangamalungelo. ",
    "code": "for ptr in range(len(src)):\n    dst[ptr] = copy(src[ptr] + offset)\n",
    "numbers": "2024-11-15 4,287.50 97.2% 450 289 -23\n" * 20,
    "acronyms": "HTTP TCP UDP DNS TLS SSH SQL XML CSS HTML JSON PNG JPG GIF MP3 PDF FTP RPC\n",
}
ENGLISH = TEXTS["English"] * 4


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_trusted(name: str) -> None:
    assert assess(TEXTS[name] * 4) == assess_glyphs(TEXTS[name] * 4, 0) == (1.0, [])


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH[::-1],
        ENGLISH.replace(" ", ""),
        ENGLISH.translate({at: at + 1 for at in range(97, 122)}),
        "".join(chr(0xE000 + ord(letter)) for letter in ENGLISH),
        ENGLISH.replace("e", "\ufffd").replace("a", "\x03"),
    ],
)
def test_what_is_no_text_is_garbled(text: str) -> None:
    confidence, problems = assess_glyphs(text, 0)
    assert confidence <= 0.5
    assert problems[0][0] == "garbled"


def test_a_little_damage_costs_a_little() -> None:
    confidence, problems = assess(ENGLISH + "\ufffd")
    assert 0.9 < confidence < 1.0
    assert not problems
    assert assess_glyphs(ENGLISH, 200)[0] == 0.0
    assert assess(" \n\t ") == (0.0, [("empty", "no text on this page")])


def test_a_long_text_is_sampled_in_several_places() -> None:
    text = ENGLISH * 100 + ENGLISH[::-1] * 400
    assert assess_glyphs(text, 0)[0] == 0.2
    assert assess(text)[0] == 1.0
