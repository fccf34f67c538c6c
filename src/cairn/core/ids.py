"""Random bits for ids and seeds, which must differ but need not be secret.

Not from the operating system: asking it gives up the interpreter's lock, and under load whoever asks waits
to get that back.
"""

import os
import random

_source = random.Random()  # of its own: a program that seeds the global one would repeat ids
os.register_at_fork(after_in_child=_source.seed)

random_bits = _source.getrandbits


def random_hex(num_digits: int) -> str:
    """Hexadecimal digits."""
    return f"{random_bits(4 * num_digits):0{num_digits}x}"
