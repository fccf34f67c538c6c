// Attention over a cache of bfloat16 by VDPBF16PS: what attention_many.inl does otherwise than with floats.
//
// Two dimensions of a key, or two keys' values, lie side by side in 32 bits, and one instruction multiplies
// and adds both: half as many as with floats, and a tile is put in order, not widened.
//
//   queries [rows / 6, head_dim / 2, 6]    keys [head_dim / 2, 64]    scores [rows, 64], then [rows, 32]
//   values  [32, head_dim]
//
// For it queries and weights are rounded to bfloat16; the sum of the weights is of those that were not. One
// query takes the same way as many. Pairs begin at even keys of the tile, so that a query meets the same ones
// whatever the block size and its company; where its own keys end within one, the other key weighs zero.

namespace cairn::CAIRN_ISA {
namespace {

template <typename T>
void pair_query(const float* query, int head_dim, float* to) {
    for (int d = 0; d < head_dim; d += 2) {
        const uint16_t pair[] = {float_to_bfloat16(query[d]), float_to_bfloat16(query[d + 1])};
        std::memcpy(to + d / 2 * kSix, pair, 4);
    }
}

// to[i] = (a[i], b[i])
CAIRN_INLINE void pair_up(const uint16_t* a, const uint16_t* b, int count, float* to) {
    int i = 0;
    for (; i + 16 <= count; i += 16) store(to + i, pairs16(a + i, b + i));
    for (; i < count; i++) {
        const uint16_t pair[] = {a[i], b[i]};
        std::memcpy(to + i, pair, 4);
    }
}

// The tile's keys `tile` .. `end`, what lies past them is 0, and their values; a last one without a partner
// has itself.
template <typename T>
void pair_tile(const AttentionJob& job, int64_t tile, int64_t end, const ManyScratch& to) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const int stride = job.shape.padded_block();
    if (end < tile + kKeys) std::memset(to.keys, 0, sizeof(float) * kKeys * head_dim / 2);
    const T* even = nullptr;
    for (int64_t key = tile; key < end;) {
        const int within = int(key % block_size), at = int(key - tile);
        const int count = int(std::min<int64_t>(block_size - within, end - key));
        const uint8_t* chunk = chunk_of(job, key / block_size);
        const T* keys = reinterpret_cast<const T*>(chunk) + within;
        const T* value = reinterpret_cast<const T*>(chunk + job.shape.values_offset()) + within * head_dim;
        for (int d = 0; d < head_dim; d += 2, keys += 2 * stride) {
            pair_up(keys, keys + stride, count, to.keys + d / 2 * kKeys + at);
        }
        for (int i = at; i < at + count; i++, value += head_dim) {
            if (i % 2 == 0) even = value;
            if (i % 2 || tile + i + 1 == end) pair_up(even, value, head_dim, to.values + i / 2 * head_dim);
        }
        key += count;
    }
}

// Weights, none below 0, to the nearest bfloat16 and into the first half of their rows.
template <typename T>
void round_weights(float* scores, int num_rows) {
    for (int row = 0; row < num_rows; row++, scores += kKeys) {
        for (int i = 0; i < kKeys; i += 16) {
            const u32x16 bits = u32x16(load16(scores + i)) + 0x8000u;
            const u16x16 rounded = __builtin_convertvector(bits >> 16, u16x16);
            std::memcpy(scores + i / 2, &rounded, 32);
        }
    }
}

// Of the smallest numbers VDPBF16PS leaves 0 or -0, and a key that weighs nothing makes 0 of -0.
template <typename T>
void drop_signs_of_zero(float* out, int head_dim) {
    for (int i = 0; i < head_dim; i += 8) store(out + i, load(out + i) + f32x8{});
}

}  // namespace
}  // namespace cairn::CAIRN_ISA
