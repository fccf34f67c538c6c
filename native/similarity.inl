// How alike two vectors of bytes are.

namespace cairn::CAIRN_ISA {

// Sum of products of numbers from -127 to 127; `count` is a multiple of 32. Exact, the same for every table.
int32_t dot_bytes(const int8_t* a, const int8_t* b, int count) {
#if defined(__AVX2__)
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums = _mm256_setzero_si256();
    for (int i = 0; i < count; i += 32) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i));
        const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + i));
        // |x| * (y with the sign of x): two such products are at most 2 * 127 * 127, which 16 bits hold.
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
    }
    return sum(i32x8(sums));
#else
    int32_t total = 0;
    for (int i = 0; i < count; i++) total += int32_t(a[i]) * b[i];
    return total;
#endif
}

}  // namespace cairn::CAIRN_ISA
