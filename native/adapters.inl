// Products with low-rank panels (see adapters.h): out[t, r] (+)= sum over k of W[r, k] * x[t, k].
//
// 8 outputs are the lanes of a vector; a number's sum runs over k from first to last in one accumulator, so
// it does not depend on which rows share a call. Per tile of 8 outputs and input, for each row: a fused
// multiply-add of 8 lanes; 16 (bfloat16) or 32 (float32) bytes of weights for up to four rows.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kAheadBytes = 1024;

template <typename Stored, int T, int H>
CAIRN_INLINE void low_rank_tiles(const LowRankProduct& product, int tile, int first) {
    const auto* weights = static_cast<const Stored*>(product.weights) + size_t(tile) * product.inputs * 8;
    const float* x[T];
    float* out[T];
    f32x8 total[T][H];
    for (int t = 0; t < T; t++) {
        const int row = product.rows[first + t];
        x[t] = product.x + product.x_stride * (product.is_gathered ? first + t : row);
        out[t] = product.out + product.out_stride * row + size_t(tile - product.first_tile) * 8;
        for (int h = 0; h < H; h++) total[t][h] = f32x8{};
    }
    for (int k = 0; k < product.inputs; k++) {
        for (int h = 0; h < H; h++) {
            const Stored* at = weights + (size_t(h) * product.inputs + k) * 8;
            __builtin_prefetch(at + kAheadBytes / sizeof(Stored));
            const f32x8 column = load_as_float(at);
            for (int t = 0; t < T; t++) total[t][h] = fma(column, all(x[t][k]), total[t][h]);
        }
    }
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < H; h++) {
            store(out[t] + 8 * h, product.adds ? load(out[t] + 8 * h) + total[t][h] : total[t][h]);
        }
    }
}

template <typename Stored, int T>
void low_rank_rows(const LowRankProduct& product, int first) {
    // With one row, more tiles at once hide how long a multiply-add takes.
    constexpr int kMost = T == 1 ? 4 : 2;
    int tile = product.first_tile;
    const int end = tile + product.num_tiles;
    for (; tile + kMost <= end; tile += kMost) low_rank_tiles<Stored, T, kMost>(product, tile, first);
    for (; tile < end; tile++) low_rank_tiles<Stored, T, 1>(product, tile, first);
}

template <typename Stored>
void low_rank_all(const LowRankProduct& product) {
    int t = 0;
    for (; t + 4 <= product.num_rows; t += 4) low_rank_rows<Stored, 4>(product, t);
    switch (product.num_rows - t) {
        case 3: low_rank_rows<Stored, 3>(product, t); break;
        case 2: low_rank_rows<Stored, 2>(product, t); break;
        case 1: low_rank_rows<Stored, 1>(product, t); break;
    }
}

}  // namespace

void low_rank(const LowRankProduct& product) {
    if (product.format == Format::float32) low_rank_all<float>(product);
    else low_rank_all<uint16_t>(product);
}

// What a product with the base's matrix sees of a row: its numbers as they were rounded for it.
void give_row(const Activations& from, int row, float* to) {
    const size_t at = size_t(row) * from.width;
    if (kRoundsRows && from.format == Format::bfloat16) {
        for (int i = 0; i < from.width; i++) to[i] = bfloat16_to_float(from.rounded[at + i]);
        return;
    }
    switch (from.format) {
        case Format::float32:
        case Format::bfloat16: std::memcpy(to, from.values.data() + at, from.width * sizeof(float)); break;
        case Format::int8:
        case Format::int4:
            for (int i = 0; i < from.width; i += 8) {
                store(to + i, load_as_float(&from.bytes[at + i]) * all(from.scales[from.slot(row, i / kGroup)]));
            }
            break;
    }
}

}  // namespace cairn::CAIRN_ISA
