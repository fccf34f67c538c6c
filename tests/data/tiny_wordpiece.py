"""A small WordPiece tokenizer in BERT's layout, as transformers saves it."""

from pathlib import Path

import transformers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    *("the", "a", "cat", "dog", "sat", "on", "mat", "ran", "to", "house", "what", "where", "is", "who"),
    *("red", "blue", "green", "one", "two", "three", "of", "and"),
)


def save_wordpiece(folder: Path, *, vocab_size: int = 199) -> None:
    """Write tokenizer.json and its config into a folder."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *_WORDS, *"0123456789[].,?!'-"]
    pieces = list(dict.fromkeys(pieces))[:vocab_size]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=80).save_pretrained(folder)
