"""evaluation: what a model can do, in numbers that compare.

Bits per byte of held-out text beside `xz -9` and a Kneser-Ney 5-gram on the same text,
whether a chat model follows its template and stops, and how much it repeats itself.
Generation is handed in by whoever is above: this room never imports the engine.
`evaluation.scoring` needs torch and is imported by its own name.
"""

from cairn.evaluation.compression import XzBaseline, xz_bits_per_byte
from cairn.evaluation.diversity import Diversity, diversity, repetition
from cairn.evaluation.following import Reply, TemplateFollowing, template_following
from cairn.evaluation.kneser_ney import KneserNey

__all__ = [
    "Diversity",
    "KneserNey",
    "Reply",
    "TemplateFollowing",
    "XzBaseline",
    "diversity",
    "repetition",
    "template_following",
    "xz_bits_per_byte",
]
