// Eight lanes of float, on whatever the file that includes this is compiled for.
//
// GCC's and Clang's vector types become the registers there are (one of AVX2, two of NEON or SSE2);
// only what the language cannot say is spelled in intrinsics. Every operation is exact in its order:
// nothing here may be reassociated, so a kernel's bits depend on its inputs alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "layout.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn::CAIRN_ISA {

typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int8_t i8x8 __attribute__((vector_size(8)));

CAIRN_INLINE f32x8 load(const float* from) {
    f32x8 out;
    std::memcpy(&out, from, 32);
    return out;
}
CAIRN_INLINE void store(float* to, f32x8 value) { std::memcpy(to, &value, 32); }
CAIRN_INLINE f32x8 all(float value) { return f32x8{value, value, value, value, value, value, value, value}; }

// a * b + c, rounded once where the machine can.
CAIRN_INLINE f32x8 fma(f32x8 a, f32x8 b, f32x8 c) {
#if defined(__FMA__)
    return f32x8(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
#elif defined(__aarch64__)
    f32x8 out;
    float32x4_t part[3][2];
    std::memcpy(part[0], &a, 32);
    std::memcpy(part[1], &b, 32);
    std::memcpy(part[2], &c, 32);
    part[2][0] = vfmaq_f32(part[2][0], part[0][0], part[1][0]);
    part[2][1] = vfmaq_f32(part[2][1], part[0][1], part[1][1]);
    std::memcpy(&out, part[2], 32);
    return out;
#else
    return a * b + c;
#endif
}

CAIRN_INLINE f32x8 select(i32x8 mask, f32x8 yes, f32x8 no) {
    return f32x8((i32x8(yes) & mask) | (i32x8(no) & ~mask));
}
CAIRN_INLINE f32x8 larger(f32x8 a, f32x8 b) { return select(a > b, a, b); }
CAIRN_INLINE f32x8 magnitude(f32x8 a) { return f32x8(i32x8(a) & 0x7fffffff); }

// Sum and maximum over the lanes, always in this tree.
CAIRN_INLINE float sum(f32x8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
CAIRN_INLINE float largest(f32x8 v) {
#if defined(__AVX2__)
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(__m256(v)), _mm256_extractf128_ps(__m256(v), 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
#else
    float out = v[0];
    for (int i = 1; i < 8; i++) out = v[i] > out ? v[i] : out;
    return out;
#endif
}

CAIRN_INLINE f32x8 to_float(i32x8 v) { return __builtin_convertvector(v, f32x8); }

// To the nearest integer, ties to even; for magnitudes below 2^22.
CAIRN_INLINE i32x8 to_int(f32x8 v) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the integer
    return i32x8(v + all(kMagic)) - i32x8(all(kMagic));
}

// 32 small integers to 8 bits.
CAIRN_INLINE void store_bytes(int8_t* to, const i32x8* from) {
#if defined(__AVX2__)
    const __m256i low = _mm256_packs_epi32(__m256i(from[0]), __m256i(from[1]));
    const __m256i high = _mm256_packs_epi32(__m256i(from[2]), __m256i(from[3]));
    // Packing works within halves of 128 bits: their fours come out as 0, 2, 4, 6, 1, 3, 5, 7.
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
#else
    for (int i = 0; i < 32; i++) to[i] = int8_t(from[i / 8][i % 8]);
#endif
}
CAIRN_INLINE int32_t sum(i32x8 v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// Stored numbers, eight at a time.
CAIRN_INLINE f32x8 load_as_float(const float* from) { return load(from); }
CAIRN_INLINE f32x8 load_as_float(const uint16_t* from) {  // bfloat16
    u16x8 bits;
    std::memcpy(&bits, from, 16);
    return f32x8(__builtin_convertvector(bits, u32x8) << 16);
}
CAIRN_INLINE f32x8 load_as_float(const int8_t* from) {
    i8x8 bytes;
    std::memcpy(&bytes, from, 8);
    return __builtin_convertvector(bytes, f32x8);
}
CAIRN_INLINE f32x8 load_half(const uint8_t* from) {
#if defined(__F16C__)
    return f32x8(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
    f32x8 out;
    for (int i = 0; i < 8; i++) {
        uint16_t half;
        std::memcpy(&half, from + 2 * i, 2);
        out[i] = half_to_float(half);
    }
    return out;
#endif
}

// e^x to about 2 units in the last place; exactly 0 below -87, so that what is masked weighs nothing.
// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7.
CAIRN_INLINE f32x8 exp(f32x8 x) {
    const i32x8 is_tiny = x < all(-87.0f);
    x = select(x > all(88.0f), all(88.0f), select(is_tiny, all(0.0f), x));
    const i32x8 n = to_int(x * all(1.44269504088896341f));
    const f32x8 count = to_float(n);
    f32x8 r = fma(count, all(-0.693359375f), x);
    r = fma(count, all(2.12194440e-4f), r);
    f32x8 p = all(1.0f / 5040);
    p = fma(p, r, all(1.0f / 720));
    p = fma(p, r, all(1.0f / 120));
    p = fma(p, r, all(1.0f / 24));
    p = fma(p, r, all(1.0f / 6));
    p = fma(p, r, all(0.5f));
    p = fma(p, r, all(1.0f));
    p = fma(p, r, all(1.0f));
    const f32x8 power = f32x8((n + 127) << 23);
    return select(is_tiny, all(0.0f), p * power);
}

// The error function to 2e-7 (Abramowitz and Stegun 1964, 7.1.26): for x >= 0
// erf(x) = 1 - (a1 t + a2 t^2 + ... + a5 t^5) e^(-x^2), t = 1 / (1 + p x).
CAIRN_INLINE f32x8 erf(f32x8 x) {
    const f32x8 positive = magnitude(x);
    const f32x8 t = all(1.0f) / fma(all(0.3275911f), positive, all(1.0f));
    f32x8 p = all(1.061405429f);
    p = fma(p, t, all(-1.453152027f));
    p = fma(p, t, all(1.421413741f));
    p = fma(p, t, all(-0.284496736f));
    p = fma(p, t, all(0.254829592f));
    const f32x8 value = all(1.0f) - p * t * exp(-(positive * positive));
    return f32x8(i32x8(value) | (i32x8(x) & int32_t(0x80000000)));
}

CAIRN_INLINE f32x8 sigmoid(f32x8 x) { return all(1.0f) / (all(1.0f) + exp(-x)); }
CAIRN_INLINE f32x8 tanh(f32x8 x) { return all(2.0f) * sigmoid(x + x) - all(1.0f); }

}  // namespace cairn::CAIRN_ISA
