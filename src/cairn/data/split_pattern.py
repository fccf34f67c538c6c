"""How text is split before BPE: GPT-4's pattern in Qwen2's form, with single digits.

Contractions (also with the typographic apostrophe), words with the space before them, each digit alone,
runs of punctuation, line ends, spaces. Spelled without case folding, so that every engine reads it alike.
"""

SPLIT_PATTERN = (
    r"['’](?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
