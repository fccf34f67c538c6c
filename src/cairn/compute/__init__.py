"""compute: what the machine can do, and what a model will ask of it.

The device probe and the measured machine profile, FLOP and memory formulas over a
`ModelShape`, and `plan`, which turns both into a prediction. Importing it needs no torch;
measuring a profile does.
"""

from cairn.compute.shape import ModelShape

__all__ = ["ModelShape"]
