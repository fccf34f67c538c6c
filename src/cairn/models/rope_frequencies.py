"""Frequencies of rotary position embedding, in every scaling, as plain numbers.

Formulas: Su et al. 2021; yarn: Peng et al. 2023, sections 3.2 to 3.4; llama3: Llama 3.1's reference code.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cairn.models.specs import RopeSpec

Frequencies = NDArray[np.float32]


def frequencies_of(spec: RopeSpec) -> Frequencies:
    """Radians per position, float32 [rotary_dim / 2]."""
    exponents = np.arange(0, spec.rotary_dim, 2, dtype=np.float32) / np.float32(spec.rotary_dim)
    frequencies: Frequencies = (1.0 / np.float32(spec.theta) ** exponents).astype(np.float32)
    if spec.scaling == "linear":
        return frequencies / np.float32(spec.factor)
    if spec.scaling == "llama3":
        return _llama3(spec, frequencies)
    if spec.scaling == "yarn":
        return _yarn(spec, frequencies)
    return frequencies


def attention_factor(spec: RopeSpec) -> float:
    """Factor on cosines and sines; 1 but for yarn (equation 22 and DeepSeek's mscale)."""
    if spec.scaling != "yarn":
        return 1.0
    if spec.attention_factor is not None:
        return spec.attention_factor

    def mscale(weight: float) -> float:
        return 1.0 if spec.factor <= 1 else 0.1 * weight * math.log(spec.factor) + 1.0

    if spec.mscale and spec.mscale_all_dim:
        return mscale(spec.mscale) / mscale(spec.mscale_all_dim)
    return mscale(1.0)


def _llama3(spec: RopeSpec, frequencies: Frequencies) -> Frequencies:
    assert spec.original_max_position is not None
    context = float(spec.original_max_position)
    wavelengths = 2 * math.pi / frequencies
    width = spec.high_freq_factor - spec.low_freq_factor or 1.0  # equal factors leave nothing between them
    ramp = (context / wavelengths - spec.low_freq_factor) / width
    blended = (1 - ramp) * frequencies / spec.factor + ramp * frequencies
    is_low = wavelengths > context / spec.low_freq_factor
    is_high = wavelengths < context / spec.high_freq_factor
    stretched: Frequencies = np.where(
        is_low, frequencies / spec.factor, np.where(is_high, frequencies, blended)
    ).astype(np.float32)
    return stretched


def _yarn(spec: RopeSpec, frequencies: Frequencies) -> Frequencies:
    assert spec.original_max_position is not None
    context = float(spec.original_max_position)

    def dimension(rotations: float) -> float:
        """The dimension that turns `rotations` times within the original context."""
        return spec.rotary_dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(spec.theta))

    low, high = dimension(spec.beta_fast), dimension(spec.beta_slow)
    if spec.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.rotary_dim - 1)
    steps = np.arange(spec.rotary_dim // 2, dtype=np.float32)
    ramp = ((steps - low) / (high - low if high != low else 0.001)).clip(0, 1)
    stretched: Frequencies = (frequencies / spec.factor * ramp + frequencies * (1 - ramp)).astype(np.float32)
    return stretched
