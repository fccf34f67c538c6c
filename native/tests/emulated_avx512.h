// AVX-512 and AVX-VNNI in AVX2 by SIMDe, for a test build alone (CAIRN_EMULATE_AVX512): included before anything else.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#define _mm256_dpbusd_avx_epi32(sums, a, b) simde_mm256_dpbusd_epi32(sums, a, b)

#if !defined(_mm512_maskz_cvtph_ps)  // SIMDe 0.7 lacks it
static inline __m512 cairn_cvtph_ps(__m256i halves) {
    __m512 out;
    const __m256 parts[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                             _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
    __builtin_memcpy(&out, parts, sizeof out);
    return out;
}
#define _mm512_maskz_cvtph_ps(all, halves) cairn_cvtph_ps(halves)
#endif

#if !defined(_mm512_maskz_cvtepi8_epi32)  // likewise
static inline __m512i cairn_cvtepi8_epi32(__m128i bytes) {
    __m512i out;
    const __m256i parts[2] = {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
    __builtin_memcpy(&out, parts, sizeof out);
    return out;
}
#define _mm512_maskz_cvtepi8_epi32(all, bytes) cairn_cvtepi8_epi32(bytes)
#endif
#if !defined(_mm512_maskz_cvtepu16_epi32)  // likewise
static inline __m512i cairn_cvtepu16_epi32(__m256i halves) {
    __m512i out;
    const __m256i parts[2] = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(halves)),
                              _mm256_cvtepu16_epi32(_mm256_extracti128_si256(halves, 1))};
    __builtin_memcpy(&out, parts, sizeof out);
    return out;
}
#define _mm512_maskz_cvtepu16_epi32(all, halves) cairn_cvtepu16_epi32(halves)
#endif

#if !defined(_mm512_maskz_reduce_ps)  // likewise
// x - floor(x): what 0x09 asks for.
static inline __m512 cairn_reduce_ps(__m512 x) {
    __m512 out;
    __m256 parts[2];
    __builtin_memcpy(parts, &x, sizeof x);
    for (int i = 0; i < 2; i++) {
        const __m256 infinite = _mm256_cmp_ps(_mm256_sub_ps(parts[i], parts[i]), parts[i], _CMP_UNORD_Q);
        parts[i] = _mm256_andnot_ps(infinite, _mm256_sub_ps(parts[i], _mm256_floor_ps(parts[i])));
    }
    __builtin_memcpy(&out, parts, sizeof out);
    return out;
}
#define _mm512_maskz_reduce_ps(all, x, how) cairn_reduce_ps(x)
#endif

// VDPBF16PS as Intel's manual says: of each pair first the odd product, then the even one, each added with one
// rounding; subnormal numbers that come in or out are zeros. SIMDe adds the pair first.
typedef float cairn_f32x8 __attribute__((vector_size(32)));
typedef int cairn_i32x8 __attribute__((vector_size(32)));
static inline cairn_f32x8 cairn_flushed(cairn_f32x8 x) {
    const cairn_i32x8 bits = (cairn_i32x8)x, is_normal = (bits & 0x7f800000) != 0;
    return (cairn_f32x8)(bits & (is_normal | (int)0x80000000));
}
static inline cairn_f32x8 cairn_add_pairs(cairn_f32x8 sum, const cairn_i32x8* pairs) {
    for (int is_even = 0; is_even < 2; is_even++) {
        cairn_f32x8 x[2];
        for (int i = 0; i < 2; i++) {
            x[i] = cairn_flushed((cairn_f32x8)(is_even ? pairs[i] << 16 : pairs[i] & (int)0xffff0000));
        }
        sum = cairn_flushed(
            (cairn_f32x8)_mm256_fmadd_ps((__m256)x[0], (__m256)x[1], (__m256)cairn_flushed(sum)));
    }
    return sum;
}
static inline __m256 cairn_dpbf16_ps256(__m256 sums, __m256bh a, __m256bh b) {
    cairn_i32x8 pairs[2];
    __builtin_memcpy(pairs, &a, 32);
    __builtin_memcpy(pairs + 1, &b, 32);
    return (__m256)cairn_add_pairs((cairn_f32x8)sums, pairs);
}
static inline __m512 cairn_dpbf16_ps(__m512 sums, __m512bh a, __m512bh b) {
    cairn_f32x8 sum[2];
    cairn_i32x8 parts[2][2];
    __builtin_memcpy(sum, &sums, 64);
    __builtin_memcpy(parts[0], &a, 64);
    __builtin_memcpy(parts[1], &b, 64);
    for (int half = 0; half < 2; half++) {
        const cairn_i32x8 pairs[2] = {parts[0][half], parts[1][half]};
        sum[half] = cairn_add_pairs(sum[half], pairs);
    }
    __builtin_memcpy(&sums, sum, 64);
    return sums;
}
#undef _mm512_dpbf16_ps
#undef _mm256_dpbf16_ps
#define _mm512_dpbf16_ps(sums, a, b) cairn_dpbf16_ps(sums, a, b)
#define _mm256_dpbf16_ps(sums, a, b) cairn_dpbf16_ps256(sums, a, b)
