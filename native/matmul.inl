// Products with packed weights: out[t, r] = sum over k of W[r, k] * x[t, k] (+ bias[r]).
//
// Weights stream past once; of the activations a block of tokens is met by each tile while the tile is
// in the first-level cache. Per tile of 16 rows and group of 32 inputs, for each token:
//
//   format     bytes of weights   multiply-adds   done as
//   float32    2048               512             64 fused multiply-adds of 8 lanes
//   bfloat16   1024               512             the same, after a shift or a mask
//   int8        512               512             16 byte pair products, 2 conversions, 2 fused multiply-adds
//   int4        288               512             16 byte pair products, 2 conversions, 2 fused multiply-adds
//
// One number's sum runs over k from first to last in one accumulator, with a fused multiply-add an input or a
// group; how many tokens share a call and in which block a token lies changes nothing.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kAhead = 2048;  // bytes: how far before its use a line of weights is asked for
constexpr bool kRoundsRows = false;  // bfloat16 weights are multiplied with floats
#if defined(CAIRN_VNNI)
constexpr int kInt8Start = -128;  // bytes of weights are taken as w + 128
#else
constexpr int kInt8Start = 0;  // bytes of weights are taken with their sign: `starts` is for int4 alone
#endif

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
#pragma GCC unroll 4
    for (int k = 0; k < width; k++, weights += kTileRows) {
        __builtin_prefetch(reinterpret_cast<const char*>(weights) + kAhead);
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
    const auto add = [&](f32x8 upper, f32x8 lower, int k) {
        for (int t = 0; t < T; t++) {
            const f32x8 value = all(x[t][k]);
            low[t] = fma(upper, value, low[t]);
            high[t] = fma(lower, value, high[t]);
        }
    };
#pragma GCC unroll 4
    for (int k = 0; k < width; k += 2, weights += 64) {
        __builtin_prefetch(weights + kAhead);
        const u32x8 upper = u32x8(load(reinterpret_cast<const float*>(weights)));
        const u32x8 lower = u32x8(load(reinterpret_cast<const float*>(weights) + 8));
        // All tokens' sums before any of them grows again: none waits for itself.
        add(f32x8(upper << 16), f32x8(lower << 16), k);
        add(f32x8(upper & 0xffff0000u), f32x8(lower & 0xffff0000u), k + 1);
    }
    for (int t = 0; t < T; t++) {
        finish(product, first + t, tile, 0, low[t]);
        finish(product, first + t, tile, 8, high[t]);
    }
}

// ---- int8 and int4: a vector of bytes holds 8 rows x 4 inputs, a vector of sums 8 rows

// Two inputs' products in each 16 bits: at most 2 * 128 * 127, or of nibbles 8 * 2 * 15 * 127.
#if defined(__AVX2__)
typedef __m256i Bytes;
CAIRN_INLINE Bytes load_bytes(const uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
CAIRN_INLINE Bytes four_inputs(const int8_t* x) {
    int four;
    std::memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}
CAIRN_INLINE Bytes low_nibbles(Bytes both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
CAIRN_INLINE Bytes high_nibbles(Bytes both) { return low_nibbles(_mm256_srli_epi16(both, 4)); }

#if defined(CAIRN_VNNI)
// VPDPBUSD adds four products of an unsigned and a signed byte to each sum: see matmul_avx512.inl.
CAIRN_INLINE i32x8 add_products(i32x8 sums, Bytes, Bytes size, Bytes x) {
    return i32x8(_mm256_dpbusd_avx_epi32(__m256i(sums), size, x));
}
CAIRN_INLINE Bytes sizes(Bytes w) { return _mm256_xor_si256(w, _mm256_set1_epi8(-128)); }
#else
// Sums of pairs of products, 16 bits: for nibbles alone.
struct PairSums {
    __m256i pairs = _mm256_setzero_si256();
    // Spelled out: GCC regroups the sums of one register into trees that need more of them than there are.
    CAIRN_INLINE void add(Bytes nibbles, Bytes x) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(nibbles, x));
    }
    // The same for many sums at once: left to itself, GCC regroups their additions into trees that need more
    // registers than there are.
    CAIRN_INLINE void add_in_place(Bytes nibbles, Bytes x) {
        Bytes products;
        asm("vpmaddubsw %[x], %[nibbles], %[products]\n\tvpaddw %[products], %[pairs], %[pairs]"
            : [pairs] "+x"(pairs), [products] "=&x"(products)
            : [nibbles] "x"(nibbles), [x] "x"(x));
    }
    CAIRN_INLINE i32x8 rows() const { return i32x8(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }
};
// sums + w . x for signed bytes: |w| * (x with the sign of w).
CAIRN_INLINE i32x8 add_products(i32x8 sums, Bytes w, Bytes size, Bytes x) {
    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, w));
    return sums + i32x8(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
CAIRN_INLINE Bytes sizes(Bytes w) { return _mm256_abs_epi8(w); }
#endif
#else
typedef int8_t Bytes __attribute__((vector_size(32)));
CAIRN_INLINE Bytes load_bytes(const uint8_t* from) {
    Bytes out;
    std::memcpy(&out, from, 32);
    return out;
}
CAIRN_INLINE Bytes four_inputs(const int8_t* x) {
    Bytes out;
    for (int i = 0; i < 32; i++) out[i] = x[i % 4];
    return out;
}
CAIRN_INLINE Bytes low_nibbles(Bytes both) { return both & 15; }
CAIRN_INLINE Bytes high_nibbles(Bytes both) { return both >> 4 & 15; }
CAIRN_INLINE i32x8 add_products(i32x8 sums, Bytes w, Bytes, Bytes x) {
    for (int r = 0; r < 8; r++) {
        for (int i = 0; i < 4; i++) sums[r] += w[4 * r + i] * x[4 * r + i];
    }
    return sums;
}
CAIRN_INLINE Bytes sizes(Bytes w) { return w; }
#endif
#if defined(CAIRN_VNNI) || !defined(__AVX2__)
struct PairSums {
    i32x8 total = {};
    CAIRN_INLINE void add(Bytes nibbles, Bytes x) { total = add_products(total, nibbles, nibbles, x); }
    CAIRN_INLINE void add_in_place(Bytes nibbles, Bytes x) { add(nibbles, x); }
    CAIRN_INLINE i32x8 rows() const { return total; }
};
#endif

// 16 rows x T tokens; of many tokens the finished sums stay in memory and the registers hold a group's.
template <int T>
void int8_tile(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const int num_groups = product.matrix->num_groups();
    const size_t stride = input.num_rows;
    const int8_t* x[T];
    const float* scales[T];
    const int32_t* starts[T];
    f32x8 total[T][2] = {};
    for (int t = 0; t < T; t++) {
        const int row = row_of(product, first + t);
        x[t] = input.bytes.data() + size_t(row) * input.width;
        scales[t] = input.scales.data() + row;
        starts[t] = input.starts.data() + row;
    }
    const uint8_t* weights = product.matrix->tile(tile);
    for (int g = 0; g < num_groups; g++) {
        i32x8 sums[T][2] = {};
        for (int t = 0; kInt8Start && t < T; t++) sums[t][0] = sums[t][1] = i32x8{} + starts[t][g * stride];
#pragma GCC unroll 1  // unrolled, GCC keeps what it loads early on the stack
        for (int c = 0; c < 8; c++, weights += 64) {
            __builtin_prefetch(weights + kAhead);
            const Bytes w[2] = {load_bytes(weights), load_bytes(weights + 32)};
            const Bytes size[2] = {sizes(w[0]), sizes(w[1])};
            for (int t = 0; t < T; t++) {
                const Bytes four = four_inputs(x[t] + g * kGroup + 4 * c);
                for (int h = 0; h < 2; h++) sums[t][h] = add_products(sums[t][h], w[h], size[h], four);
            }
        }
        for (int t = 0; t < T; t++) {
            const f32x8 scale = all(scales[t][g * stride]);
            for (int h = 0; h < 2; h++) total[t][h] = fma(to_float(sums[t][h]), scale, total[t][h]);
        }
    }
    for (int h = 0; h < 2; h++) {
        const f32x8 scale = load(product.matrix->row_scales.data() + size_t(tile) * kTileRows + 8 * h);
        for (int t = 0; t < T; t++) finish(product, first + t, tile, 8 * h, total[t][h] * scale);
    }
}

// A line of nibbles, 16 rows x (4 inputs from `at` on, 4 from `at` + 16 on), with T tokens.
template <int T>
CAIRN_INLINE void add_line(const uint8_t* line, const int8_t* const* x, int at, PairSums (*sums)[2]) {
    const Bytes both[2] = {load_bytes(line), load_bytes(line + 32)};
    const Bytes low[2] = {low_nibbles(both[0]), low_nibbles(both[1])};
    const Bytes high[2] = {high_nibbles(both[0]), high_nibbles(both[1])};
    const auto add = [](PairSums& sum, Bytes nibbles, Bytes four) {
        T == 1 ? sum.add(nibbles, four) : sum.add_in_place(nibbles, four);
    };
    for (int t = 0; t < T; t++) {
        const Bytes early = four_inputs(x[t] + at), late = four_inputs(x[t] + at + 16);
        for (int h = 0; h < 2; h++) add(sums[t][h], low[h], early);
        for (int h = 0; h < 2; h++) add(sums[t][h], high[h], late);
    }
}

template <int T>
void int4_tile(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const int num_groups = product.matrix->num_groups();
    const size_t stride = input.num_rows;
    const int8_t* x[T];
    const float* scales[T];
    const int32_t* starts[T];
    f32x8 total[T][2] = {};
    for (int t = 0; t < T; t++) {
        const int row = row_of(product, first + t);
        x[t] = input.bytes.data() + size_t(row) * input.width;
        scales[t] = input.scales.data() + row;
        starts[t] = input.starts.data() + row;
    }
    const uint8_t* weights = product.matrix->tile(tile);
    for (int g = 0; g < num_groups; g++, weights += 288) {
        PairSums sums[T][2];
        if constexpr (T == 1) {
#pragma GCC unroll 1  // unrolled, GCC keeps what it loads early on the stack
            for (int c = 0; c < 4; c++) {
                __builtin_prefetch(weights + 64 * c + kAhead);
                add_line<T>(weights + 64 * c, x, g * kGroup + 4 * c, sums);
            }
        } else {
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                __builtin_prefetch(weights + 64 * c + kAhead);
                add_line<T>(weights + 64 * c, x, g * kGroup + 4 * c, sums);
            }
        }
        __builtin_prefetch(weights + 256 + kAhead);
        const f32x8 scale[2] = {load_half(weights + 256), load_half(weights + 272)};
        for (int t = 0; t < T; t++) {
            const f32x8 own = all(scales[t][g * stride]);
            for (int h = 0; h < 2; h++) {
                const f32x8 dot = to_float(sums[t][h].rows() + starts[t][g * stride]);
                total[t][h] = fma(dot, scale[h] * own, total[t][h]);
            }
        }
    }
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < 2; h++) finish(product, first + t, tile, 8 * h, total[t][h]);
    }
}

// The most rows that one pass over a tile serves: as many sums as there are registers for.
constexpr int most_rows(Format format) {
    return format == Format::float32 ? 6 : format == Format::bfloat16 ? 5 : 4;
}

template <int T>
CAIRN_INLINE void tile_of(const Product& product, int tile, int first) {
    switch (product.matrix->format) {
        case Format::float32: return float32_tile<T>(product, tile, first);
        case Format::bfloat16: return bfloat16_tile<T>(product, tile, first);
        case Format::int8:
            if constexpr (T <= most_rows(Format::int8)) return int8_tile<T>(product, tile, first);
            else return;
        case Format::int4:
            if constexpr (T <= most_rows(Format::int4)) return int4_tile<T>(product, tile, first);
            else return;
    }
}

}  // namespace

void matmul(const Product& product) {
    // Passes of nearly the same number of rows: two of four rather than one of six and one of two.
    const int most = most_rows(product.matrix->format), passes = (product.num_rows + most - 1) / most;
    for (int tile = product.first_tile; tile < product.first_tile + product.num_tiles; tile++) {
        for (int pass = 0, first = 0; pass < passes; pass++) {
            const int count = (product.num_rows - first) / (passes - pass);
            switch (count) {
                case 1: tile_of<1>(product, tile, first); break;
                case 2: tile_of<2>(product, tile, first); break;
                case 3: tile_of<3>(product, tile, first); break;
                case 4: tile_of<4>(product, tile, first); break;
                case 5: tile_of<5>(product, tile, first); break;
                case 6: tile_of<6>(product, tile, first); break;
            }
            first += count;
        }
    }
}

}  // namespace cairn::CAIRN_ISA
