// Products of many rows by AMX, which multiplies 16 rows of activations with 16 rows of weights at once: included
// after matmul_avx512.inl, whose functions take what is too small for it.
//
//   out[t, r] = sum over k of W[r, k] * x[t, k] (+ bias[r])
//
// A tile of weights (layout.h) is what a register takes as it lies: a group of bfloat16 is 16 lines of 16 rows x 2
// inputs, a group of int8 8 lines of 16 rows x 4 inputs. A group of int4 is unpacked to bytes once for all tokens.
//
//   format     one instruction       multiply-adds   and then, for each of its 16 tokens
//   bfloat16   16 x 16 x 32 inputs   8192            nothing until the end: the sums stay in their register
//   int8       16 x 16 x 32 inputs   8192            1 conversion, 1 fused multiply-add
//   int4       16 x 16 x 32 inputs   8192            the same and 1 product of scales
//
// bfloat16: activations are rounded to bfloat16 once, when the row is taken, and one row takes the same way as many.
// int8, int4: a group's sum is a whole number, groups are added in the order of matmul.inl: the bits are the same.

#include "tiles.h"

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kFewestTokens = 8;  // of int8 and int4; fewer are quicker by the other way
constexpr int kTilesAtOnce = 4, kMostGroups = 32;  // of int8 and int4 a block of tokens meets while it is near

// Rows of activations for a register, `bytes` of a group of each: where they lie, or a copy where they do not lie side
// by side.
template <int T, int bytes, bool gathered>
class TileRows {
  public:
    CAIRN_INLINE TileRows(const Product& product, const void* data, int first, int count)
        : data_(static_cast<const uint8_t*>(data)), stride_(size_t(product.input->num_groups()) * bytes),
          count_(count) {
        if constexpr (gathered) rows_ = product.rows + first;
        else data_ += stride_ * first;
    }

    // Group `group` of rows 16 t .. to register `tile`.
    template <int t, int tile>
    CAIRN_INLINE void load(int group) {
        const uint8_t* from = data_ + size_t(group) * bytes;
        if constexpr (gathered) {
            uint8_t* copy = copy_ + t * kTileLines * bytes;
            for (int i = kTileLines * t; i < std::min(kTileLines * (t + 1), count_); i++) {
                std::memcpy(copy_ + i * bytes, from + stride_ * rows_[i], bytes);
            }
            settled();
            load_tile<tile>(copy, bytes);
        } else {
            load_tile<tile>(from + stride_ * kTileLines * t, stride_);
        }
    }

  private:
    const uint8_t* data_;
    size_t stride_;
    int count_;
    const int32_t* rows_ = nullptr;
    alignas(64) uint8_t copy_[gathered ? T * kTileLines * bytes : 1];
};

// ---- bfloat16: T x 16 tokens and B tiles; registers 0 .. 3 hold sums, 4 and 5 activations, 6 and 7 weights

template <int T, int B, bool gathered>
void bfloat16_by_tiles(const Product& product, int tile, int first, int count) {
    const size_t step = product.matrix->tile_bytes();
    const uint8_t* weights = product.matrix->tile(tile);
    const int num_groups = product.matrix->num_groups();
    TileRows<T, 64, gathered> rows(product, product.input->rounded.data(), first, count);
    each<T>([&]<int t>() { each<B>([&]<int b>() { clear_tile<2 * t + b>(); }); });
    for (int g = 0; g < num_groups; g++, weights += 1024) {
        each<B>([&]<int b>() {
            if constexpr (T == 1) {  // few tokens wait for memory
                for (int line = 0; line < 1024; line += 64) __builtin_prefetch(weights + b * step + line + kAhead);
            }
            load_tile<6 + b>(weights + b * step, kLineBytes);
        });
        each<T>([&]<int t>() {
            rows.template load<t, 4 + t>(g);
            each<B>([&]<int b>() { multiply_pairs<2 * t + b, 4 + t, 6 + b>(); });
        });
    }
    float* out = product.out + product.stride * first + size_t(tile - product.first_tile) * kTileRows;
    each<T>([&]<int t>() {
        each<B>([&]<int b>() {
            float* to = out + product.stride * kTileLines * t + kTileRows * b;
            store_tile<2 * t + b>(to, product.stride * sizeof(float));
        });
    });
    if (!product.bias) return;
    for (int b = 0; b < B; b++) {
        const f32x16 bias = load16(product.bias + size_t(tile + b) * kTileRows);
        for (int t = 0; t < count; t++) {
            float* to = out + product.stride * t + kTileRows * b;
            store(to, load16(to) + bias);
        }
    }
}

// All tiles for the tokens `first` .. `end`, 16 T or fewer at a time.
template <int T, bool gathered>
void bfloat16_blocks(const Product& product, int first, int end) {
    const int block = T * kTileLines, last_tile = product.first_tile + product.num_tiles;
    TileShapes shapes;
    const int count = std::min(block, end - first);
    for (int t = 0; t < T; t++) {
        const int rows = std::min(kTileLines, count - kTileLines * t);
        shapes.set(2 * t, rows, kLineBytes);
        shapes.set(2 * t + 1, rows, kLineBytes);
        shapes.set(4 + t, rows, kLineBytes);
        shapes.set(6 + t, kTileLines, kLineBytes);
    }
    shapes.set(7, kTileLines, kLineBytes);
    configure_tiles(shapes);
    for (int at = first; at < end; at += block) {
        for (int tile = product.first_tile; tile < last_tile; tile += 2) {
            if (tile + 2 <= last_tile) bfloat16_by_tiles<T, 2, gathered>(product, tile, at, count);
            else bfloat16_by_tiles<T, 1, gathered>(product, tile, at, count);
        }
    }
}

template <bool gathered>
void multiply_bfloat16(const Product& product) {
    constexpr int kBlock = 2 * kTileLines;
    const int whole = product.num_rows / kBlock * kBlock, rest = product.num_rows - whole;
    if (whole) bfloat16_blocks<2, gathered>(product, 0, whole);
    if (rest > kTileLines) bfloat16_blocks<2, gathered>(product, whole, product.num_rows);
    else if (rest) bfloat16_blocks<1, gathered>(product, whole, product.num_rows);
    release_tiles();
}

// ---- int8 and int4: 16 tokens and a tile; registers 0 .. 3 hold the sums of a group each

// The nibbles of `count` groups as bytes -8 .. 7, 512 a group.
void unpack_nibbles(const uint8_t* from, int count, uint8_t* to) {
    for (int g = 0; g < count; g++, from += group_bytes(Format::int4), to += group_bytes(Format::int8)) {
        for (int c = 0; c < 4; c++) {
            const __m512i both = __m512i(load_line(from + 64 * c));
            const __m512i low = __m512i(u32x16(both) & 0x0f0f0f0fu), high = __m512i(u32x16(both) >> 4 & 0x0f0f0f0fu);
            _mm512_storeu_si512(to + 64 * c, _mm512_sub_epi8(low, _mm512_set1_epi8(8)));
            _mm512_storeu_si512(to + 64 * c + 256, _mm512_sub_epi8(high, _mm512_set1_epi8(8)));
        }
    }
}

// Groups `from` .. `to` of one tile: where they lie as bytes, and as they are stored.
struct TileGroups {
    int tile, from, to;
    const uint8_t* bytes;
    const uint8_t* stored;
};

// total[t] += sums[t] * scales[t], of int4 times the scales of the group's rows.
template <Format format>
CAIRN_INLINE void add_group(f32x16 (&total)[kTileLines], const int32_t* sums, const float* scales, const uint8_t* stored) {
    const f32x16 scale = format == Format::int4 ? load_half16(stored + 256) : f32x16{};
    each<kTileLines>([&]<int t>() CAIRN_INLINED {
        i32x16 sum;
        std::memcpy(&sum, sums + kTileRows * t, 64);
        const f32x16 by = format == Format::int4 ? scale * all16(scales[t]) : all16(scales[t]);
        total[t] = fma(to_float(sum), by, total[t]);
    });
}

// The sums of tokens `first` .. `first + count`, at most 16, grow by these groups; between calls they lie in the product.
template <Format format, bool gathered>
void bytes_by_tiles(const Product& product, const TileGroups& groups, int first, int count) {
    const Activations& input = *product.input;
    TileRows<1, kGroup, gathered> rows(product, input.bytes.data(), first, count);
    float* out = product.out + product.stride * first + size_t(groups.tile - product.first_tile) * kTileRows;
    f32x16 total[kTileLines];
    each<kTileLines>([&]<int t>() CAIRN_INLINED {
        total[t] = groups.from && t < count ? load16(out + product.stride * t) : f32x16{};
    });
    alignas(64) int32_t sums[4][kTileLines * kTileRows];
    const auto multiply = [&]<int i>(int group) CAIRN_INLINED {
        clear_tile<i>();
        rows.template load<0, 4 + i % 2>(group);
        load_tile<6 + i % 2>(groups.bytes + size_t(group - groups.from) * group_bytes(Format::int8), kLineBytes);
        multiply_bytes<i, 4 + i % 2, 6 + i % 2>();
    };
    const auto add = [&]<int i>(int group) CAIRN_INLINED {
        const float* scales = input.scales.data() + input.slot(first, group);
        float own[kTileLines];
        if constexpr (gathered) {
            for (int t = 0; t < count; t++) own[t] = input.scales[input.slot(product.rows[first + t], group)];
            scales = own;
        }
        add_group<format>(total, sums[i], scales, groups.stored + size_t(group - groups.from) * group_bytes(format));
    };
    int group = groups.from;
    for (; group + 4 <= groups.to; group += 4) {
        each<4>([&]<int i>() CAIRN_INLINED { multiply.template operator()<i>(group + i); });
        each<4>([&]<int i>() CAIRN_INLINED { store_tile<i>(sums[i]); });
        each<4>([&]<int i>() CAIRN_INLINED { add.template operator()<i>(group + i); });
    }
    for (; group < groups.to; group++) {
        multiply.template operator()<0>(group);
        store_tile<0>(sums[0]);
        add.template operator()<0>(group);
    }
    const bool is_last = groups.to == product.matrix->num_groups();
    const size_t row = size_t(groups.tile) * kTileRows;
    const float* row_scales = format == Format::int8 ? product.matrix->row_scales.data() + row : nullptr;
    const f32x16 scale = row_scales && is_last ? load16(row_scales) : all16(1.0f);
    const f32x16 bias = product.bias && is_last ? load16(product.bias + row) : all16(-0.0f);
    each<kTileLines>([&]<int t>() CAIRN_INLINED {
        if (t < count) store(out + product.stride * t, total[t] * scale + bias);
    });
}

// All tiles for the tokens `first` .. `end`, 16 or fewer at a time.
template <Format format, bool gathered>
void bytes_blocks(const Product& product, int first, int end) {
    const int count = std::min(kTileLines, end - first), num_groups = product.matrix->num_groups();
    TileShapes shapes;
    for (int i = 0; i < 4; i++) shapes.set(i, count, kLineBytes);
    for (int i = 4; i < 6; i++) shapes.set(i, count, kGroup);
    for (int i = 6; i < 8; i++) shapes.set(i, kGroup / 4, kLineBytes);
    configure_tiles(shapes);
    constexpr size_t kTileBytes = kMostGroups * group_bytes(Format::int8);
    alignas(64) uint8_t unpacked[format == Format::int4 ? kTilesAtOnce * kTileBytes : 1];
    const int parts = (num_groups + kMostGroups - 1) / kMostGroups, end_tile = product.first_tile + product.num_tiles;
    for (int tile = product.first_tile; tile < end_tile; tile += kTilesAtOnce) {
        const int tiles = std::min(kTilesAtOnce, end_tile - tile);
        for (int part = 0, from = 0; part < parts; part++) {
            const int to = from + (num_groups - from) / (parts - part);
            TileGroups groups[kTilesAtOnce];
            for (int i = 0; i < tiles; i++) {
                const uint8_t* stored = product.matrix->tile(tile + i) + group_bytes(format) * from;
                uint8_t* bytes = unpacked + kTileBytes * i;
                if (format == Format::int4) unpack_nibbles(stored, to - from, bytes);
                groups[i] = {tile + i, from, to, format == Format::int4 ? bytes : stored, stored};
            }
            settled();
            for (int at = first; at < end; at += kTileLines) {
                for (int i = 0; i < tiles; i++) bytes_by_tiles<format, gathered>(product, groups[i], at, count);
            }
            from = to;
        }
    }
}

template <Format format, bool gathered>
void multiply_bytes(const Product& product) {
    const int whole = product.num_rows / kTileLines * kTileLines, rest = product.num_rows - whole;
    const bool is_worth = rest >= kFewestTokens;
    if (whole) bytes_blocks<format, gathered>(product, 0, whole);
    if (is_worth) bytes_blocks<format, gathered>(product, whole, product.num_rows);
    if (whole || is_worth) release_tiles();
    if (rest && !is_worth) multiply_by_lanes(product, whole);
}

template <bool gathered>
void multiply(const Product& product) {
    switch (product.matrix->format) {
        case Format::float32: return multiply_by_lanes(product, 0);
        case Format::bfloat16: return multiply_bfloat16<gathered>(product);
        case Format::int8: return multiply_bytes<Format::int8, gathered>(product);
        case Format::int4: return multiply_bytes<Format::int4, gathered>(product);
    }
}

}  // namespace

void matmul(const Product& product) {
    if (product.rows) multiply<true>(product);
    else multiply<false>(product);
}

}  // namespace cairn::CAIRN_ISA
