// Products with packed weights: out[t, r] = sum over k of W[r, k] * x[t, k] (+ bias[r]).
//
// Weights stream past once; of the activations a block of tokens is met by each tile while the tile is
// in the first-level cache. Per tile of 16 rows and group of 32 inputs, for each token:
//
//   format     bytes of weights   multiply-adds   done as
//   float32    2048               512             64 fused multiply-adds of 8 lanes
//   bfloat16   1024               512             the same, after a shift or a mask
//   int8        512               512             32 16-bit pair products, 4 conversions, 4 fused multiply-adds
//   int4        288               512             16 byte pair products, 2 conversions, 2 fused multiply-adds
//
// One number's sum runs over k from first to last in one accumulator (for int8: two, of the even and odd
// pairs of inputs), with a fused multiply-add an input or a group; how many tokens share a call and in
// which block a token lies changes nothing.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kAhead = 2048;  // bytes: how far before its use a line of weights is asked for

CAIRN_INLINE int row_of(const Product& product, int t) { return product.rows ? product.rows[t] : t; }

// Write 8 finished rows of token `t`.
CAIRN_INLINE void finish(const Product& product, int t, int tile, int row, f32x8 value) {
    if (product.bias) value += load(product.bias + size_t(tile) * kTileRows + row);
    const size_t column = size_t(tile - product.first_tile) * kTileRows + row;
    store(product.out + product.stride * t + column, value);
}

// ---- float32 and bfloat16: 16 rows x T tokens

template <int T>
void float32_tile(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const auto* weights = reinterpret_cast<const float*>(product.matrix->tile(tile));
    const int width = product.matrix->width();
    const float* x[T];
    f32x8 low[T], high[T];
    for (int t = 0; t < T; t++) {
        x[t] = input.values.data() + size_t(row_of(product, first + t)) * input.width;
        low[t] = high[t] = f32x8{};
    }
    for (int k = 0; k < width; k++, weights += kTileRows) {
        if (T == 1) __builtin_prefetch(reinterpret_cast<const char*>(weights) + kAhead);
        const f32x8 upper = load(weights), lower = load(weights + 8);
        for (int t = 0; t < T; t++) {
            const f32x8 value = all(x[t][k]);
            low[t] = fma(upper, value, low[t]);
            high[t] = fma(lower, value, high[t]);
        }
    }
    for (int t = 0; t < T; t++) {
        finish(product, first + t, tile, 0, low[t]);
        finish(product, first + t, tile, 8, high[t]);
    }
}

template <int T>
void bfloat16_tile(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const uint8_t* weights = product.matrix->tile(tile);
    const int width = product.matrix->width();
    const float* x[T];
    f32x8 low[T], high[T];
    for (int t = 0; t < T; t++) {
        x[t] = input.values.data() + size_t(row_of(product, first + t)) * input.width;
        low[t] = high[t] = f32x8{};
    }
    for (int k = 0; k < width; k += 2, weights += 64) {
        if (T == 1) __builtin_prefetch(weights + kAhead);
        const u32x8 upper = u32x8(load(reinterpret_cast<const float*>(weights)));
        const u32x8 lower = u32x8(load(reinterpret_cast<const float*>(weights) + 8));
        for (int t = 0; t < T; t++) {
            const f32x8 even = all(x[t][k]), odd = all(x[t][k + 1]);
            low[t] = fma(f32x8(upper << 16), even, low[t]);
            high[t] = fma(f32x8(lower << 16), even, high[t]);
            low[t] = fma(f32x8(upper & 0xffff0000u), odd, low[t]);
            high[t] = fma(f32x8(lower & 0xffff0000u), odd, high[t]);
        }
    }
    for (int t = 0; t < T; t++) {
        finish(product, first + t, tile, 0, low[t]);
        finish(product, first + t, tile, 8, high[t]);
    }
}

// ---- int8: a vector of sums holds 4 rows, each as (inputs 0, 1) and (inputs 2, 3) of every four

// sums + the pair products of 4 rows x 4 inputs (16 bytes) with 4 numbers of the activations.
CAIRN_INLINE i32x8 add_pairs(i32x8 sums, const uint8_t* weights, const int16_t* x) {
#if defined(__AVX2__)
    const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
    long long four;
    std::memcpy(&four, x, 8);
    return i32x8(_mm256_add_epi32(__m256i(sums), _mm256_madd_epi16(w, _mm256_set1_epi64x(four))));
#else
    for (int pair = 0; pair < 8; pair++) {
        const int at = pair % 2 * 2;
        sums[pair] += int8_t(weights[2 * pair]) * x[at] + int8_t(weights[2 * pair + 1]) * x[at + 1];
    }
    return sums;
#endif
}

// Rows 4 * FIRST .. of a tile, H vectors of 4 rows x T tokens.
template <int T, int H>
CAIRN_INLINE void int8_rows(const Product& product, int tile, int first, int quarter) {
    const Activations& input = *product.input;
    const int num_groups = product.matrix->num_groups(), stride = input.num_groups();
    const int16_t* x[T];
    const float* scales[T];
    f32x8 total[T][H];
    for (int t = 0; t < T; t++) {
        const size_t row = row_of(product, first + t);
        x[t] = input.wide.data() + row * input.width;
        scales[t] = input.scales.data() + row * stride;
        for (int h = 0; h < H; h++) total[t][h] = f32x8{};
    }
    const uint8_t* weights = product.matrix->tile(tile) + 16 * quarter;
    for (int g = 0; g < num_groups; g++, weights += 512) {
        i32x8 sums[T][H];
        for (int t = 0; t < T; t++) {
            for (int h = 0; h < H; h++) sums[t][h] = i32x8{};
        }
#pragma GCC unroll 1  // unrolled, GCC keeps what it loads early on the stack
        for (int c = 0; c < 8; c++) {
            if (T == 1) __builtin_prefetch(weights + 64 * c + kAhead);
            for (int t = 0; t < T; t++) {
                for (int h = 0; h < H; h++) {
                    sums[t][h] = add_pairs(sums[t][h], weights + 64 * c + 16 * h, x[t] + g * kGroup + 4 * c);
                }
            }
        }
        for (int t = 0; t < T; t++) {
            for (int h = 0; h < H; h++) total[t][h] = fma(to_float(sums[t][h]), all(scales[t][g]), total[t][h]);
        }
    }
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < H; h += 2) {
            f32x8 both;
            for (int r = 0; r < 4; r++) {
                both[r] = total[t][h][2 * r] + total[t][h][2 * r + 1];
                both[r + 4] = total[t][h + 1][2 * r] + total[t][h + 1][2 * r + 1];
            }
            const int row = 4 * (quarter + h);
            const f32x8 scale = load(product.matrix->row_scales.data() + size_t(tile) * kTileRows + row);
            finish(product, first + t, tile, row, both * scale);
        }
    }
}

template <int T>
void int8_tile(const Product& product, int tile, int first) {
    if constexpr (T == 1) {
        int8_rows<1, 4>(product, tile, first, 0);
    } else {
        int8_rows<T, 2>(product, tile, first, 0);
        int8_rows<T, 2>(product, tile, first, 2);
    }
}

// ---- int4: a vector of bytes holds 8 rows x 4 inputs

// Sums of byte products, two inputs in 16 bits: 8 products of a nibble and a signed byte, each pair at most
// 2 * 15 * 127, fit without overflow.
struct PairSums {
#if defined(__AVX2__)
    __m256i pairs = _mm256_setzero_si256();
    CAIRN_INLINE void add(__m256i nibbles, const int8_t* x) {
        int four;
        std::memcpy(&four, x, 4);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(nibbles, _mm256_set1_epi32(four)));
    }
    CAIRN_INLINE i32x8 rows() const { return i32x8(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }
#else
    i32x8 total = {};
    CAIRN_INLINE void add(const uint8_t* nibbles, const int8_t* x) {
        for (int r = 0; r < 8; r++) {
            for (int i = 0; i < 4; i++) total[r] += nibbles[4 * r + i] * x[i];
        }
    }
    CAIRN_INLINE i32x8 rows() const { return total; }
#endif
};

// Rows 8 * half .. of a tile, H halves x T tokens.
template <int T, int H>
CAIRN_INLINE void int4_rows(const Product& product, int tile, int first, int half) {
    const Activations& input = *product.input;
    const int num_groups = product.matrix->num_groups(), stride = input.num_groups();
    const int8_t* x[T];
    const float* scales[T];
    const int32_t* starts[T];
    f32x8 total[T][H];
    for (int t = 0; t < T; t++) {
        const size_t row = row_of(product, first + t);
        x[t] = input.bytes.data() + row * input.width;
        scales[t] = input.scales.data() + row * stride;
        starts[t] = input.starts.data() + row * stride;
        for (int h = 0; h < H; h++) total[t][h] = f32x8{};
    }
    const uint8_t* weights = product.matrix->tile(tile);
    for (int g = 0; g < num_groups; g++, weights += 288) {
        PairSums sums[T][H];
#pragma GCC unroll 1
        for (int c = 0; c < 4; c++) {
            if (T == 1) __builtin_prefetch(weights + 64 * c + kAhead);
            for (int h = 0; h < H; h++) {
                const uint8_t* line = weights + 64 * c + 32 * (half + h);
#if defined(__AVX2__)
                const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
                const __m256i low = _mm256_and_si256(both, _mm256_set1_epi8(15));
                const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
#else
                uint8_t low[32], high[32];
                for (int i = 0; i < 32; i++) low[i] = line[i] & 15, high[i] = line[i] >> 4;
#endif
                for (int t = 0; t < T; t++) {
                    sums[t][h].add(low, x[t] + g * kGroup + 4 * c);
                    sums[t][h].add(high, x[t] + g * kGroup + 16 + 4 * c);
                }
            }
        }
        if (T == 1) __builtin_prefetch(weights + 256 + kAhead);
        for (int h = 0; h < H; h++) {
            const f32x8 scale = load_half(weights + 256 + 16 * (half + h));
            for (int t = 0; t < T; t++) {
                const f32x8 dot = to_float(sums[t][h].rows() + starts[t][g]);
                total[t][h] = fma(dot, scale * all(scales[t][g]), total[t][h]);
            }
        }
    }
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < H; h++) finish(product, first + t, tile, 8 * (half + h), total[t][h]);
    }
}

template <int T>
void int4_tile(const Product& product, int tile, int first) {
    if constexpr (T == 1) {
        int4_rows<1, 2>(product, tile, first, 0);
    } else {
        int4_rows<T, 1>(product, tile, first, 0);
        int4_rows<T, 1>(product, tile, first, 1);
    }
}

template <int T>
CAIRN_INLINE void tile_of(const Product& product, int tile, int first) {
    switch (product.matrix->format) {
        case Format::float32: return float32_tile<T>(product, tile, first);
        case Format::bfloat16: return bfloat16_tile<T>(product, tile, first);
        case Format::int8: return int8_tile<T>(product, tile, first);
        case Format::int4: return int4_tile<T>(product, tile, first);
    }
}

}  // namespace

void matmul(const Product& product) {
    for (int tile = product.first_tile; tile < product.first_tile + product.num_tiles; tile++) {
        int t = 0;
        for (; t + 4 <= product.num_rows; t += 4) tile_of<4>(product, tile, t);
        switch (product.num_rows - t) {
            case 3: tile_of<3>(product, tile, t); break;
            case 2: tile_of<2>(product, tile, t); break;
            case 1: tile_of<1>(product, tile, t); break;
        }
    }
}

}  // namespace cairn::CAIRN_ISA
