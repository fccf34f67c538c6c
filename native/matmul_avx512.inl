// Products with packed weights by AVX-512: the same sums in the same order as in matmul.inl, sixteen at a time.
//
//   out[t, r] = sum over k of W[r, k] * x[t, k] (+ bias[r])
//
// A line of 64 bytes is one register, a tile's 16 rows are the lanes of one accumulator. Six tokens share what is
// read and unpacked, two tiles the broadcast of what is multiplied with it: twelve sums, or of one token two, that do
// not wait for each other, and as many of a group's whole numbers. More would have no registers. Per tile of 16 rows
// and group of 32 inputs:
//
//   format     bytes of weights   multiply-adds   done once             done for each token
//   float32    2048               512             32 loads              32 fused multiply-adds
//   bfloat16   1024               512             16 shifts, 16 masks   32 fused multiply-adds
//   int8        512               512             8 exclusive ors       8 VPDPBUSD, 1 conversion, 1 fused multiply-add
//   int4        288               512             4 shifts, 8 masks     the same and 1 product of scales
//
// Where there is VDPBF16PS (CAIRN_BF16), bfloat16 weights are multiplied with activations that are rounded to bfloat16
// once, when the row is taken: a line of weights, 16 rows x 2 inputs, is what it takes as it is. It adds both products
// to the sum in float32, the odd input's first.
//
// VPDPBUSD adds to each of 16 sums four products of an unsigned and a signed byte. Weights are the unsigned ones:
// a nibble n stands for n - 8 and the byte w ^ 0x80 = w + 128 for w, and
//
//   sum of (u - z) * x = -z * (sum of x) + sum of u * x
//
// so that each sum begins at `starts` of the activations and comes out exact: at most 32 * 255 * 127 < 2^20. The
// other way around, x + 128 times signed weights, would need the sums of the weights instead, one for each row and
// group. The whole sum of a group and the order in which groups are added are those of AVX2: so are the bits.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kAhead = 8192;  // bytes: how far before its use a line of weights is asked for
constexpr int kInt8Start = -128;
#if defined(CAIRN_BF16) || defined(CAIRN_AMX)
constexpr bool kRoundsRows = true;  // bfloat16 weights are multiplied with bfloat16
#else
constexpr bool kRoundsRows = false;
#endif
constexpr int kMostTokens = 6;  // whose sums are in registers at once

CAIRN_INLINE int row_of(const Product& product, int t) { return product.rows ? product.rows[t] : t; }

// The sums of T tokens and the 16 rows of B tiles. Unrolled, or GCC keeps them in memory at the beginning and the end.
template <int T, int B>
struct Totals {
    f32x16 of[T][B];

    CAIRN_INLINE Totals() {
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
#pragma GCC unroll 2
            for (int b = 0; b < B; b++) of[t][b] = f32x16{};
        }
    }
    // Write them, times `scales` and with the bias; 1 and -0 are the numbers that leave every other as it is.
    CAIRN_INLINE void finish(const Product& product, int tile, int first, const float* scales) const {
        float* out = product.out + product.stride * first + size_t(tile - product.first_tile) * kTileRows;
#pragma GCC unroll 2
        for (int b = 0; b < B; b++) {
            const size_t row = size_t(tile + b) * kTileRows;
            const f32x16 scale = scales ? load16(scales + row) : all16(1.0f);
            const f32x16 bias = product.bias ? load16(product.bias + row) : all16(-0.0f);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) store(out + product.stride * t + kTileRows * b, of[t][b] * scale + bias);
        }
    }
};

CAIRN_INLINE u32x16 load_line(const uint8_t* from) {
    u32x16 out;
    std::memcpy(&out, from, 64);
    return out;
}

// ---- float32 and bfloat16: B tiles x T tokens, so that one token's sums do not only wait for each other

template <int T, int B>
void float32_tiles(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const size_t step = product.matrix->tile_bytes() / sizeof(float);
    const auto* weights = reinterpret_cast<const float*>(product.matrix->tile(tile));
    const int width = product.matrix->width();
    const float* x[T];
    for (int t = 0; t < T; t++) x[t] = input.values.data() + size_t(row_of(product, first + t)) * input.width;
    Totals<T, B> totals;
    for (int k = 0; k < width; k++, weights += kTileRows) {
        f32x16 w[B];
        for (int b = 0; b < B; b++) {
            __builtin_prefetch(reinterpret_cast<const char*>(weights + b * step) + kAhead);
            w[b] = load16(weights + b * step);
        }
        for (int t = 0; t < T; t++) {
            for (int b = 0; b < B; b++) totals.of[t][b] = fma(w[b], all16(x[t][k]), totals.of[t][b]);
        }
    }
    totals.finish(product, tile, first, nullptr);
}

#if defined(CAIRN_BF16)
template <int T, int B>
void bfloat16_tiles(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const size_t step = product.matrix->tile_bytes();
    const uint8_t* weights = product.matrix->tile(tile);
    const int width = product.matrix->width();
    const uint16_t* x[T];
    for (int t = 0; t < T; t++) x[t] = input.rounded.data() + size_t(row_of(product, first + t)) * input.width;
    Totals<T, B> totals;
    for (int k = 0; k < width; k += 2, weights += 64) {
        u32x16 w[B];
        for (int b = 0; b < B; b++) {
            __builtin_prefetch(weights + b * step + kAhead);
            w[b] = load_line(weights + b * step);
        }
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
            int two;
            std::memcpy(&two, x[t] + k, 4);
            const __m512i pair = _mm512_set1_epi32(two);
            for (int b = 0; b < B; b++) {
                totals.of[t][b] = f32x16(_mm512_dpbf16_ps(__m512(totals.of[t][b]), __m512bh(w[b]), __m512bh(pair)));
            }
        }
    }
    totals.finish(product, tile, first, nullptr);
}
#else
template <int T, int B>
void bfloat16_tiles(const Product& product, int tile, int first) {
    const Activations& input = *product.input;
    const size_t step = product.matrix->tile_bytes();
    const uint8_t* weights = product.matrix->tile(tile);
    const int width = product.matrix->width();
    const float* x[T];
    for (int t = 0; t < T; t++) x[t] = input.values.data() + size_t(row_of(product, first + t)) * input.width;
    Totals<T, B> totals;
    for (int k = 0; k < width; k += 2, weights += 64) {
        f32x16 even[B], odd[B];
        for (int b = 0; b < B; b++) {
            __builtin_prefetch(weights + b * step + kAhead);
            const u32x16 both = load_line(weights + b * step);
            even[b] = f32x16(both << 16);
            odd[b] = f32x16(both & 0xffff0000u);
        }
        for (int t = 0; t < T; t++) {
            for (int b = 0; b < B; b++) totals.of[t][b] = fma(even[b], all16(x[t][k]), totals.of[t][b]);
        }
        for (int t = 0; t < T; t++) {
            for (int b = 0; b < B; b++) totals.of[t][b] = fma(odd[b], all16(x[t][k + 1]), totals.of[t][b]);
        }
    }
    totals.finish(product, tile, first, nullptr);
}
#endif

// ---- int8 and int4: a line holds 16 rows x 4 inputs

// T rows of 8-bit activations, and what B tiles times a group of them come to.
template <int T, int B>
struct Sums {
    const int8_t* bytes[T];
    int rows[T];
    const Activations& input;
    i32x16 sums[T][B];

    CAIRN_INLINE Sums(const Product& product, int first) : input(*product.input) {
        for (int t = 0; t < T; t++) {
            rows[t] = row_of(product, first + t);
            bytes[t] = input.bytes.data() + size_t(rows[t]) * input.width;
        }
    }
    CAIRN_INLINE void start(int group) {
        for (int t = 0; t < T; t++) {
            for (int b = 0; b < B; b++) sums[t][b] = i32x16(_mm512_set1_epi32(input.starts[input.slot(rows[t], group)]));
        }
    }
    // Four inputs of each row of the tiles, unsigned, times those of the activations.
    CAIRN_INLINE void add(const u32x16* u, int input) {
        for (int t = 0; t < T; t++) {
            int four;
            std::memcpy(&four, bytes[t] + input, 4);
            for (int b = 0; b < B; b++) {
                sums[t][b] = i32x16(_mm512_dpbusd_epi32(__m512i(sums[t][b]), __m512i(u[b]), _mm512_set1_epi32(four)));
            }
        }
    }
    CAIRN_INLINE f32x16 scale(int t, int group) const { return all16(input.scales[input.slot(rows[t], group)]); }
};

template <int T, int B>
void int8_tiles(const Product& product, int tile, int first) {
    Sums<T, B> group(product, first);
    const size_t step = product.matrix->tile_bytes();
    const int num_groups = product.matrix->num_groups();
    const uint8_t* weights = product.matrix->tile(tile);
    Totals<T, B> totals;
    for (int g = 0; g < num_groups; g++) {
        group.start(g);
        for (int c = 0; c < 8; c++, weights += 64) {
            u32x16 u[B];
            for (int b = 0; b < B; b++) {
                __builtin_prefetch(weights + b * step + kAhead);
                u[b] = load_line(weights + b * step) ^ 0x80808080u;
            }
            group.add(u, g * kGroup + 4 * c);
        }
        for (int t = 0; t < T; t++) {
            for (int b = 0; b < B; b++) {
                totals.of[t][b] = fma(to_float(group.sums[t][b]), group.scale(t, g), totals.of[t][b]);
            }
        }
    }
    totals.finish(product, tile, first, product.matrix->row_scales.data());
}

template <int T, int B>
void int4_tiles(const Product& product, int tile, int first) {
    Sums<T, B> group(product, first);
    const size_t step = product.matrix->tile_bytes();
    const int num_groups = product.matrix->num_groups();
    const uint8_t* weights = product.matrix->tile(tile);
    Totals<T, B> totals;
    for (int g = 0; g < num_groups; g++) {
        group.start(g);
        for (int c = 0; c < 4; c++, weights += 64) {
            u32x16 low[B], high[B];
            for (int b = 0; b < B; b++) {
                __builtin_prefetch(weights + b * step + kAhead);
                const u32x16 both = load_line(weights + b * step);
                low[b] = both & 0x0f0f0f0fu;
                high[b] = both >> 4 & 0x0f0f0f0fu;
            }
            group.add(low, g * kGroup + 4 * c);
            group.add(high, g * kGroup + 4 * c + 16);
        }
        for (int b = 0; b < B; b++) {
            __builtin_prefetch(weights + b * step + kAhead);
            const f32x16 scale = load_half16(weights + b * step);
            for (int t = 0; t < T; t++) {
                totals.of[t][b] = fma(to_float(group.sums[t][b]), scale * group.scale(t, g), totals.of[t][b]);
            }
        }
        weights += 32;
    }
    totals.finish(product, tile, first, nullptr);
}

template <int T, int B>
CAIRN_INLINE void tiles_of(const Product& product, int tile, int first) {
    switch (product.matrix->format) {
        case Format::float32: return float32_tiles<T, B>(product, tile, first);
        case Format::bfloat16: return bfloat16_tiles<T, B>(product, tile, first);
        case Format::int8: return int8_tiles<T, B>(product, tile, first);
        case Format::int4: return int4_tiles<T, B>(product, tile, first);
    }
}

// In passes of nearly the same number of rows: two of four rather than one of six and one of two.
template <int B>
void multiply_tiles(const Product& product, int tile, int first) {
    const int passes = (product.num_rows - first + kMostTokens - 1) / kMostTokens;
    for (int pass = 0; pass < passes; pass++) {
        const int count = (product.num_rows - first) / (passes - pass);
        with_count(count, [&]<int T>() { tiles_of<T, B>(product, tile, first); });
        first += count;
    }
}

// Rows `first` and after.
void multiply_by_lanes(const Product& product, int first) {
    const int end = product.first_tile + product.num_tiles;
    int tile = product.first_tile;
    for (; tile + 2 <= end; tile += 2) multiply_tiles<2>(product, tile, first);
    if (tile < end) multiply_tiles<1>(product, tile, first);
}

}  // namespace

#if !defined(CAIRN_AMX)
void matmul(const Product& product) { multiply_by_lanes(product, 0); }
#endif

}  // namespace cairn::CAIRN_ISA
