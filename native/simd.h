// Eight lanes of float, on whatever the file that includes this is compiled for; sixteen with AVX-512.
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
// a where it is larger, else b, also where one of them is not a number.
CAIRN_INLINE f32x8 larger(f32x8 a, f32x8 b) {
#if defined(__AVX2__)
    return f32x8(_mm256_max_ps(__m256(a), __m256(b)));
#else
    return select(a > b, a, b);
#endif
}
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

// Stored numbers, eight at a time. Spelled out: GCC 12 converts halves of a register, or number by number.
CAIRN_INLINE f32x8 load_as_float(const float* from) { return load(from); }
CAIRN_INLINE f32x8 load_as_float(const uint16_t* from) {  // bfloat16
#if defined(__AVX2__)
    return f32x8(u32x8(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))) << 16);
#else
    u16x8 bits;
    std::memcpy(&bits, from, 16);
    return f32x8(__builtin_convertvector(bits, u32x8) << 16);
#endif
}
CAIRN_INLINE f32x8 load_as_float(const int8_t* from) {
#if defined(__AVX2__)
    return f32x8(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)))));
#else
    i8x8 bytes;
    std::memcpy(&bytes, from, 8);
    return __builtin_convertvector(bytes, f32x8);
#endif
}
CAIRN_INLINE float one_as_float(float from) { return from; }
CAIRN_INLINE float one_as_float(uint16_t from) { return bfloat16_to_float(from); }
CAIRN_INLINE float one_as_float(int8_t from) { return float(from); }
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

// Calls `run` with a constant, 1 to 6: how many rows a pass takes.
template <typename Run>
CAIRN_INLINE void with_count(int count, const Run& run) {
    switch (count) {
        case 1: return run.template operator()<1>();
        case 2: return run.template operator()<2>();
        case 3: return run.template operator()<3>();
        case 4: return run.template operator()<4>();
        case 5: return run.template operator()<5>();
        default: return run.template operator()<6>();
    }
}

// Sixteen lanes: a register of AVX-512, elsewhere two of eight. kSums: how many of them a loop may add to without
// running out of registers.
#if defined(CAIRN_AVX512)
constexpr int kSums = 16;
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));

CAIRN_INLINE f32x16 to_float(i32x16 v) { return __builtin_convertvector(v, f32x16); }
CAIRN_INLINE f32x16 load16(const float* from) {
    f32x16 out;
    std::memcpy(&out, from, 64);
    return out;
}
CAIRN_INLINE f32x16 load16(const uint16_t* from) {  // bfloat16
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return f32x16(u32x16(_mm512_maskz_cvtepu16_epi32(0xffff, bits)) << 16);
}
CAIRN_INLINE f32x16 load16(const int8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return to_float(i32x16(_mm512_maskz_cvtepi8_epi32(0xffff, bytes)));
}
CAIRN_INLINE f32x16 load_half16(const uint8_t* from) {
    return f32x16(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}
CAIRN_INLINE void store(float* to, f32x16 value) { std::memcpy(to, &value, 64); }
// As float_to_bfloat16.
CAIRN_INLINE void store_bfloat16(uint16_t* to, f32x16 value) {
    const u32x16 bits = u32x16(value);
    const u32x16 is_nan = u32x16((bits & 0x7fffffffu) > 0x7f800000u);
    const u32x16 rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    const u16x16 out = __builtin_convertvector((rounded & ~is_nan) | ((bits >> 16 | 0x40) & is_nan), u16x16);
    std::memcpy(to, &out, 32);
}
// Pairs of bfloat16 are 32 bits that no one but these looks into: a[i] and b[i] as lane i.
CAIRN_INLINE f32x16 pairs16(const uint16_t* a, const uint16_t* b) {
    constexpr uint16_t kOrder[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i first = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
    const __m512i second = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
    return f32x16(_mm512_permutex2var_epi16(first, _mm512_loadu_si512(kOrder), second));
}
#if defined(CAIRN_BF16)
// sum + both products of the pairs of a lane.
CAIRN_INLINE f32x16 add_pairs(f32x16 a, f32x16 b, f32x16 sum) {
    return f32x16(_mm512_dpbf16_ps(__m512(sum), __m512bh(a), __m512bh(b)));
}
CAIRN_INLINE f32x8 add_pairs(f32x8 a, f32x8 b, f32x8 sum) {
    return f32x8(_mm256_dpbf16_ps(__m256(sum), __m256bh(a), __m256bh(b)));
}
#endif
CAIRN_INLINE f32x16 all16(float value) { return f32x16(_mm512_set1_ps(value)); }
CAIRN_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return f32x16(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
}
#else
constexpr int kSums = 4;
struct f32x16 {
    f32x8 low, high;
    CAIRN_INLINE void operator*=(f32x16 by) { low *= by.low, high *= by.high; }
};
template <typename T>
CAIRN_INLINE f32x16 load16(const T* from) {
    return {load_as_float(from), load_as_float(from + 8)};
}
CAIRN_INLINE void store(float* to, f32x16 value) {
    store(to, value.low);
    store(to + 8, value.high);
}
CAIRN_INLINE f32x16 all16(float value) { return {all(value), all(value)}; }
CAIRN_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
}
#endif

// Eight or sixteen lanes, as `V` says.
template <typename V, typename T>
CAIRN_INLINE V load_lanes(const T* from) {
    if constexpr (sizeof(V) == 64) return load16(from);
    else return load_as_float(from);
}
template <typename V>
CAIRN_INLINE V all_lanes(float value) {
    if constexpr (sizeof(V) == 64) return all16(value);
    else return all(value);
}

// e^x for -87 <= x <= 88, to about 2 units in the last place: 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2;
// e^r by its Taylor polynomial of degree 7.
CAIRN_INLINE f32x8 exp_within(f32x8 x) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: the sum's last bits are n
    const f32x8 shifted = fma(x, all(1.44269504088896341f), all(kMagic));
    const f32x8 n = shifted - all(kMagic);
    f32x8 r = fma(n, all(-0.693359375f), x);
    r = fma(n, all(2.12194440e-4f), r);
    f32x8 p = all(1.0f / 5040);
    p = fma(p, r, all(1.0f / 720));
    p = fma(p, r, all(1.0f / 120));
    p = fma(p, r, all(1.0f / 24));
    p = fma(p, r, all(1.0f / 6));
    p = fma(p, r, all(0.5f));
    p = fma(p, r, all(1.0f));
    p = fma(p, r, all(1.0f));
    return p * f32x8((i32x8(shifted) << 23) + (127 << 23));
}

// e^x, at most e^88; exactly 0 below -87.
CAIRN_INLINE f32x8 exp(f32x8 x) {
    const f32x8 bounded = larger(all(-87.0f), select(x > all(88.0f), all(88.0f), x));
    return f32x8(i32x8(exp_within(bounded)) & ~(x < all(-87.0f)));
}

constexpr float kLog2E = 1.44269504088896341f;

// 2^x for x <= 127, to about 3 units in the last place, 1 at 0; exactly 0 below -125, so that what is masked weighs
// nothing: 2^n * 2^r with n = round(x), 2^r by the polynomial of degree 5 with the least relative error, 9e-8.
CAIRN_INLINE f32x8 exp2_below(f32x8 x) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: the sum's last bits are n
    const f32x8 shifted = x + all(kMagic);
    const f32x8 r = x - (shifted - all(kMagic));
    f32x8 p = all(0.00132647269f);
    p = fma(p, r, all(0.00967151266f));
    p = fma(p, r, all(0.0555073374f));
    p = fma(p, r, all(0.240222421f));
    p = fma(p, r, all(0.693146978f));
    p = fma(p, r, all(1.0f));
    return f32x8((i32x8(p) + (i32x8(shifted) << 23)) & ~(x < all(-125.0f)));
}

#if defined(CAIRN_AVX512)
// The same, sixteen at a time and in fewer instructions: n = floor(x), 2^r for r from 0 to 1; 0 only below -149.
CAIRN_INLINE f32x16 exp2_below(f32x16 x) {
    const f32x16 r = f32x16(_mm512_maskz_reduce_ps(0xffff, __m512(x), 0x09));
    f32x16 p = all16(0.00186713017f);
    p = fma(p, r, all16(0.00901702978f));
    p = fma(p, r, all16(0.0557999127f));
    p = fma(p, r, all16(0.240164444f));
    p = fma(p, r, all16(0.693151295f));
    p = fma(p, r, all16(1.0f));
    return f32x16(_mm512_maskz_scalef_ps(0xffff, __m512(p), __m512(x)));
}
#endif

// The error function to 4e-7: x P(x^2) / Q(x^2), fitted for the least error up to 3.92; beyond, where 1 - erf(x) is
// 3e-8 and less, exactly 1, so that the GELU of what is far below 0 is 0.
CAIRN_INLINE f32x8 erf(f32x8 x) {
    const f32x8 z = x * x;
    f32x8 p = all(1.99213281e-8f);
    p = fma(p, z, all(-1.99429397e-6f));
    p = fma(p, z, all(1.48986705e-4f));
    p = fma(p, z, all(3.97289841e-3f));
    p = fma(p, z, all(5.13972992e-2f));
    p = fma(p, z, all(0.206114441f));
    p = fma(p, z, all(1.12837878f));
    f32x8 q = all(1.02412480e-3f);
    q = fma(q, z, all(1.48892313e-2f));
    q = fma(q, z, all(0.117564641f));
    q = fma(q, z, all(0.515992932f));
    q = fma(q, z, all(1.0f));
    const f32x8 one = f32x8((i32x8(x) & int32_t(0x80000000)) | i32x8(all(1.0f)));
    return select(magnitude(x) > all(3.92f), one, x * p / q);
}

CAIRN_INLINE f32x8 sigmoid(f32x8 x) { return all(1.0f) / (all(1.0f) + exp(-x)); }
CAIRN_INLINE f32x8 tanh(f32x8 x) { return all(2.0f) * sigmoid(x + x) - all(1.0f); }

}  // namespace cairn::CAIRN_ISA
