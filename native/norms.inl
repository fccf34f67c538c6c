// What happens to a row between products: norms, quantisation, activations, sums, rotation.

namespace cairn::CAIRN_ISA {

// Eight numbers, or what there is of them before `count`, then zeros.
CAIRN_INLINE f32x8 load_some(const float* from, int at, int count) {
    if (at + 8 <= count) return load(from + at);
    f32x8 out = {};
    for (int i = 0; at + i < count; i++) out[i] = from[at + i];
    return out;
}
CAIRN_INLINE void store_some(float* to, int at, int count, f32x8 value) {
    if (at + 8 <= count) return store(to + at, value);
    for (int i = 0; at + i < count; i++) to[at + i] = value[i];
}

void take_group(const float* from, Activations& to, int row, int group) {
    const size_t at = size_t(row) * to.width + size_t(group) * kGroup;
#if defined(CAIRN_BF16) || defined(CAIRN_AMX)
    if (to.format == Format::bfloat16) {
        uint16_t* rounded = to.rounded.data() + at;
        for (int i = 0; i < kGroup; i += 16) store_bfloat16(rounded + i, load16(from + i));
        return;
    }
#endif
    if (to.format == Format::float32 || to.format == Format::bfloat16) {
        std::memcpy(to.values.data() + at, from, kGroup * sizeof(float));
        return;
    }
    // q = round(x * 127 / max |x|), scale = max |x| / 127: 8-bit numbers of 32 inputs.
    f32x8 x[4], top = {};
    for (int i = 0; i < 4; i++) {
        x[i] = load(from + 8 * i);
        top = larger(magnitude(x[i]), top);
    }
    const float extreme = largest(top);
    const f32x8 inverse = all(extreme > 0 ? 127.0f / extreme : 0.0f);
    const size_t slot = to.slot(row, group);
    to.scales[slot] = extreme / 127.0f;
    i32x8 q[4];
    for (int i = 0; i < 4; i++) q[i] = to_int(x[i] * inverse);
    store_bytes(to.bytes.data() + at, q);
    const int start = to.format == Format::int4 ? -8 : kInt8Start;
    if (start) to.starts[slot] = start * sum((q[0] + q[1]) + (q[2] + q[3]));
}

void take_row(const float* from, int count, Activations& to, int row) {
    for (int group = 0; group < to.num_groups(); group++) {
        const int at = group * kGroup;
        if (at + kGroup <= count) {
            take_group(from + at, to, row, group);
        } else {
            float rest[kGroup] = {};
            for (int i = 0; at + i < count; i++) rest[i] = from[at + i];
            take_group(rest, to, row, group);
        }
    }
}

// RMS norm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight.
// Layer norm (Ba et al. 2016): (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias.
void norm(const float* from, int count, const NormSpec& spec, float* to) {
    float mean = 0.0f;
    if (spec.bias) {
        f32x8 total = {};
        for (int i = 0; i < count; i += 8) total += load_some(from, i, count);
        mean = sum(total) / float(count);
    }
    f32x8 squares = {};
    for (int i = 0; i < count; i += 8) {
        f32x8 x = load_some(from, i, count);
        if (spec.bias) {
            x -= all(mean);
            for (int j = count - i; j < 8; j++) x[j] = 0.0f;
        }
        squares = fma(x, x, squares);
    }
    const f32x8 inverse = all(1.0f / std::sqrt(sum(squares) / float(count) + spec.eps));
    for (int i = 0; i < count; i += 8) {
        f32x8 x = (load_some(from, i, count) - all(mean)) * inverse * load_some(spec.weight, i, count);
        if (spec.bias) x += load_some(spec.bias, i, count);
        store_some(to, i, count, x);
    }
}

void add(const float* a, const float* b, int count, float* to) {
    for (int i = 0; i < count; i += 8) {
        store_some(to, i, count, load_some(a, i, count) + load_some(b, i, count));
    }
}

CAIRN_INLINE f32x8 apply(f32x8 x, Activation activation) {
    switch (activation) {
        case Activation::silu: return x * sigmoid(x);
        // 0.5 x (1 + tanh u) = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
        case Activation::gelu_tanh:
            return x * sigmoid(all(1.5957691216057308f) * x * fma(all(0.044715f) * x, x, all(1.0f)));
        // 0.5 x (1 + erf(x / sqrt 2))
        case Activation::gelu: return all(0.5f) * x * (all(1.0f) + erf(x * all(0.70710678f)));
        case Activation::relu: return larger(x, f32x8{});
    }
    return x;
}

void activate(const float* inner, const float* up, int count, Activation activation, float* to) {
    for (int i = 0; i < count; i += 8) {
        f32x8 value = apply(load_some(inner, i, count), activation);
        if (up) value *= load_some(up, i, count);
        store_some(to, i, count, value);
    }
}

void softcap(float* scores, int count, float cap) {
    for (int i = 0; i < count; i += 8) {
        store_some(scores, i, count, all(cap) * tanh(load_some(scores, i, count) / all(cap)));
    }
}

void softmax(float* scores, int count) {
    float top = scores[0];
    for (int i = 1; i < count; i++) top = scores[i] > top ? scores[i] : top;
    float total = 0.0f;
    for (int i = 0; i < count; i++) total += scores[i] = std::exp(scores[i] - top);
    for (int i = 0; i < count; i++) scores[i] /= total;
}

// Rotary embedding (Su et al. 2021), halves against each other: for i < D / 2
//   x'[i] = x[i] cos[i] - x[i + D/2] sin[i],   x'[i + D/2] = x[i + D/2] cos[i] + x[i] sin[i]
void rotate(float* head, int rotary_dim, const float* cos, const float* sin) {
    const int half = rotary_dim / 2;
    for (int i = 0; i < half; i += 8) {
        const f32x8 c = load_some(cos, i, half), s = load_some(sin, i, half);
        const f32x8 first = load_some(head, i, half), second = load_some(head + half, i, half);
        store_some(head, i, half, fma(first, c, -(second * s)));
        store_some(head + half, i, half, fma(second, c, first * s));
    }
}

float peak(const float* scores, int count) {
    f32x8 top = all(-INFINITY), flaw = {};  // NaN and infinities show in the sum of x * 0
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        const f32x8 x = load(scores + i);
        top = larger(x, top);
        flaw += x * all(0.0f);
    }
    float best = largest(top), wrong = sum(flaw);
    for (; i < count; i++) {
        best = scores[i] > best ? scores[i] : best;
        wrong += scores[i] * 0.0f;
    }
    return wrong == 0.0f ? best : NAN;
}

}  // namespace cairn::CAIRN_ISA
