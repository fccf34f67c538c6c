// Attention over a cache of bfloat16 by AMX: 16 queries meet 16 keys (or 16 dimensions of values) at once.
//
// The sums of attention.inl. A tile of 64 keys is put in order once for up to kManyRows queries: two dimensions of a
// key, or two keys' values, lie side by side in 32 bits, as the registers want them (D and V: head_dim, padded to 32
// and to 16 with zeros):
//
//   queries  [rows, D] bfloat16     keys    [D / 2, 64] pairs     scores   [16, 64]
//   weights  [16, 64] bfloat16      values  [32, V] pairs         sums     [rows, V]
//
// Queries and weights are rounded to bfloat16; the sum of the weights is of those that were not. Pairs begin at even
// keys of the tile, 32 keys are an instruction's, and keys that a query does not see weigh zero: its bits do not
// depend on the block size, on its company, or on how many tokens come at once. Per tile and 16 queries:
// 2 * D + 2 * V instructions of 16 x 16 x 32 multiply-adds, and 1,024 powers of two, which take longer.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kFewTileRows = 6;  // as many are quicker by vectors

// Where the parts of the scratch lie, each on a line of its own.
struct TileScratch {
    uint16_t* queries;
    float *keys, *values, *scores, *sums;
    uint16_t* weights;
    int depth, width;  // D and V

    TileScratch(float* at, int head_dim) : depth(padded(head_dim, 32)), width(padded(head_dim, 16)) {
        at += (64 - reinterpret_cast<uintptr_t>(at) % 64) % 64 / sizeof(float);
        const auto take = [&](size_t count) {
            float* taken = at;
            at += count;
            return taken;
        };
        keys = take(size_t(depth) / 2 * kKeys);
        values = take(size_t(kKeys) / 2 * width);
        scores = take(kTileLines * kKeys);
        weights = reinterpret_cast<uint16_t*>(take(kTileLines * kKeys / 2));
        sums = take(size_t(kManyRows) * width);
        queries = reinterpret_cast<uint16_t*>(take(size_t(kManyRows) * depth / 2));
    }
};

// to[i] = (a[i], b[i])
CAIRN_INLINE void pair_up(const uint16_t* a, const uint16_t* b, int count, float* to) {
    int i = 0;
    for (; i + 16 <= count; i += 16) store(to + i, pairs16(a + i, b + i));
    for (; i < count; i++) {
        const uint16_t pair[] = {a[i], b[i]};
        std::memcpy(to + i, pair, 4);
    }
}

// The tile's keys `tile` .. `end` and their values. What lies past them is 0; a last value without a partner has itself.
void pair_keys(const AttentionJob& job, int64_t tile, int64_t end, const TileScratch& to) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const int stride = job.shape.padded_block();
    if (end < tile + kKeys) {
        std::memset(to.keys, 0, sizeof(float) * kKeys * to.depth / 2);
        std::memset(to.values, 0, sizeof(float) * kKeys / 2 * to.width);
    }
    const uint16_t* even = nullptr;
    for (int64_t key = tile; key < end;) {
        const int within = int(key % block_size), at = int(key - tile);
        const int count = int(std::min<int64_t>(block_size - within, end - key));
        const uint8_t* chunk = chunk_of(job, key / block_size);
        const auto* keys = reinterpret_cast<const uint16_t*>(chunk) + within;
        const auto* value = reinterpret_cast<const uint16_t*>(chunk + job.shape.values_offset()) + within * head_dim;
        for (int d = 0; d < head_dim; d += 2, keys += 2 * stride) {
            pair_up(keys, keys + stride, count, to.keys + d / 2 * kKeys + at);
        }
        for (int i = at; i < at + count; i++, value += head_dim) {
            if (i % 2 == 0) even = value;
            if (i % 2 || tile + i + 1 == end) pair_up(even, value, head_dim, to.values + i / 2 * to.width);
        }
        key += count;
    }
}

CAIRN_INLINE f32x8 half_of(f32x16 x, int which) {
    f32x8 halves[2];
    std::memcpy(halves, &x, 64);
    return halves[which];
}

// The scores of one query for the keys `tile` .. `tile + count`, a multiple of 16, become weights in bfloat16, up to a
// multiple of 32. Returns exp(m - m').
CAIRN_INLINE float weigh_row(const AttentionJob& job, int64_t tile, int count, float* scores, Progress& query,
                             uint16_t* weights) {
    const float softcap = job.softcap, by = softcap ? softcap * kLog2E : job.scale * kLog2E;
    const int64_t first = first_key(job, query.position);
    if (softcap) {
        const f32x8 share = all(job.scale / softcap);
        for (int i = 0; i < count; i += 8) store(scores + i, tanh(load(scores + i) * share));
    }
    if (tile < first || tile + count > query.position + 1) {  // it does not see all of them
        for (int i = 0; i < count; i += 8) {
            const i32x8 key = int32_t(tile + i - query.position) + i32x8{0, 1, 2, 3, 4, 5, 6, 7};
            const auto seen = (key <= 0) & (key >= int32_t(first - query.position));
            store(scores + i, select(seen, load(scores + i), all(-INFINITY)));
        }
    }
    f32x16 most = all16(-INFINITY);
    for (int i = 0; i < count; i += 16) most = f32x16(_mm512_max_ps(__m512(load16(scores + i)), __m512(most)));
    const float top = std::max(query.top, largest(larger(half_of(most, 0), half_of(most, 1))) * by);
    const float shift = top == -INFINITY ? 0.0f : top;  // no key was visible yet: everything weighs 0
    const f32x8 keep = exp2_below(all(query.top - shift));
    query.top = top;
    f32x16 part = {};
    for (int i = 0; i < count; i += 16) {
        const f32x16 weight = exp2_below(fma(load16(scores + i), all16(by), all16(-shift)));
        part += weight;
        const u16x16 rounded = __builtin_convertvector((u32x16(weight) + 0x8000u) >> 16, u16x16);
        std::memcpy(weights + i, &rounded, 32);
    }
    if (count % 32) std::memset(weights + count, 0, 32);
    query.total = query.total * keep[0] + sum(half_of(part, 0) + half_of(part, 1));
    return keep[0];
}

// A key that weighs nothing makes 0 of -0: so it is for all.
CAIRN_INLINE void finish_row(const float* sums, int head_dim, float total, float* out) {
    for (int d = 0; d < head_dim; d += 8) store(out + d, load(sums + d) * all(1.0f / total) + f32x8{});
}

// scores [16, 64] of the queries from `row` on and the first `count` keys, a multiple of 16.
CAIRN_INLINE void score_by_tiles(const TileScratch& at, int row, int count) {
    settled();
    each<4>([&]<int n>() { clear_tile<n>(); });
    for (int d = 0; d < at.depth; d += 32) {
        load_tile<4>(at.queries + size_t(row) * at.depth + d, at.depth * sizeof(uint16_t));
        each<4>([&]<int n>() {
            if (16 * n >= count) return;
            load_tile<6 + n % 2>(at.keys + d / 2 * kKeys + 16 * n, kKeys * sizeof(float));
            multiply_pairs<n, 4, 6 + n % 2>();
        });
    }
    each<4>([&]<int n>() {
        if (16 * n < count) store_tile<n>(at.scores + 16 * n, kKeys * sizeof(float));
    });
}

// The sums of the queries from `row` on grow by the values of the first `count` keys.
CAIRN_INLINE void weigh_by_tiles(const TileScratch& at, int row, int count) {
    const size_t stride = at.width * sizeof(float);
    settled();
    load_tile<4>(at.weights, kKeys * sizeof(uint16_t));
    if (count > 32) load_tile<5>(at.weights + 32, kKeys * sizeof(uint16_t));
    for (int column = 0; column < at.width; column += 64) {
        each<4>([&]<int n>() {
            const int from = column + 16 * n;
            if (from >= at.width) return;
            float* sums = at.sums + size_t(row) * at.width + from;
            load_tile<n>(sums, stride);
            load_tile<6>(at.values + from, stride);
            multiply_pairs<n, 4, 6>();
            if (count > 32) {
                load_tile<7>(at.values + 16 * at.width + from, stride);
                multiply_pairs<n, 5, 7>();
            }
            store_tile<n>(sums, stride);
        });
    }
}

// ---- few queries: the same sums to the bit by vectors, without putting keys in order first

// Subnormal numbers are zeros between the two, as they are for AMX.
CAIRN_INLINE void flush_subnormals(unsigned control) {
    _mm_setcsr(control | 0x8040);
    settled();
}
CAIRN_INLINE void keep_subnormals(unsigned control) {
    settled();
    _mm_setcsr(control);
}

// scores [Q, 64] of N sixteens of keys, the first at `key`; queries [Q, head_dim] are rounded already.
template <int Q, int N>
CAIRN_INLINE void score_few(const AttentionJob& job, int64_t key, const float* queries, float* scores) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const size_t stride = job.shape.padded_block();
    const uint16_t* keys[N];
    for (int n = 0; n < N; n++) {
        const int64_t at = key + 16 * n;
        keys[n] = reinterpret_cast<const uint16_t*>(chunk_of(job, at / block_size)) + at % block_size;
    }
    f32x16 total[Q][N] = {};
    for (int first = 0; first < head_dim; first += 32) {
        f32x16 parts[2][Q][N] = {};
        for (int d = first; d < std::min(first + 32, head_dim); d += 2) {
            for (int part = 0; part < 2; part++) {
                for (int n = 0; n < N; n++) {
                    const f32x16 these = load16(keys[n] + (d + part) * stride);
                    for (int q = 0; q < Q; q++) {
                        parts[part][q][n] = fma(these, all16(queries[q * head_dim + d + part]), parts[part][q][n]);
                    }
                }
            }
        }
        for (int q = 0; q < Q; q++) {
            for (int n = 0; n < N; n++) total[q][n] += parts[0][q][n] + parts[1][q][n];
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int n = 0; n < N; n++) store(scores + q * kKeys + 16 * n, total[q][n]);
    }
}

// sums [Q, head_dim] grow by the values of the keys `tile` .. `end`; weights [Q, 64] are rounded already.
template <int Q>
CAIRN_INLINE void weigh_few(const AttentionJob& job, int64_t tile, int64_t end, const float* weights, float* sums) {
    constexpr int kColumns = Q == 1 ? 4 : Q == 2 ? 2 : 1;
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const auto weigh = [&]<int C>(int64_t first, int64_t stop, int column) CAIRN_INLINED {
        f32x16 parts[2][Q][C] = {};
        for (int64_t key = first; key < stop; key += 16) {
            const uint8_t* chunk = chunk_of(job, key / block_size);
            const auto* values = reinterpret_cast<const uint16_t*>(chunk + job.shape.values_offset()) +
                                 key % block_size * head_dim + column;
            const int count = int(std::min<int64_t>(16, stop - key));
            const auto add = [&]<int part>(int i) CAIRN_INLINED {
                for (int c = 0; c < C; c++) {
                    const f32x16 value = load16(values + i * head_dim + 16 * c);
                    for (int q = 0; q < Q; q++) {
                        const f32x16 weight = all16(weights[q * kKeys + (key - tile) + i]);
                        parts[part][q][c] = fma(weight, value, parts[part][q][c]);
                    }
                }
            };
            int i = 0;
            for (; i + 2 <= count; i += 2) {
                add.template operator()<0>(i);
                add.template operator()<1>(i + 1);
            }
            if (i < count) add.template operator()<0>(i);
        }
        for (int q = 0; q < Q; q++) {
            for (int c = 0; c < C; c++) {
                float* to = sums + q * head_dim + column + 16 * c;
                store(to, load16(to) + (parts[0][q][c] + parts[1][q][c]));
            }
        }
    };
    for (int64_t first = tile; first < end; first += 32) {
        const int64_t stop = std::min(first + 32, end);
        int column = 0;
        for (; column + 16 * kColumns <= head_dim; column += 16 * kColumns) {
            weigh.template operator()<kColumns>(first, stop, column);
        }
        for (; column < head_dim; column += 16) weigh.template operator()<1>(first, stop, column);
    }
}

// Whether whole sixteens of keys and of dimensions lie side by side.
CAIRN_INLINE bool has_sixteens(const CacheShape& shape) { return shape.block_size % 16 == 0 && shape.head_dim % 16 == 0; }

// Q rows, `first` .., of the job.
template <int Q>
void attend_few(const AttentionJob& job, int first, float* scratch) {
    const int head_dim = job.shape.head_dim;
    const unsigned control = _mm_getcsr();
    float *queries = scratch, *sums = queries + Q * head_dim, *scores = sums + Q * head_dim;
    Progress rows[Q];
    int64_t start = INT64_MAX, stop = 0;
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        rows[q] = {position_of(job, token), -INFINITY, 0.0f};
        start = std::min(start, first_key(job, rows[q].position));
        stop = std::max(stop, rows[q].position + 1);
        const float* query = job.queries + job.query_stride * token + size_t(head) * head_dim;
        for (int d = 0; d < head_dim; d++) {
            queries[q * head_dim + d] = bfloat16_to_float(float_to_bfloat16(query[d]));
        }
    }
    std::memset(sums, 0, sizeof(float) * Q * head_dim);
    constexpr int kBlocks = Q == 1 ? 4 : 2;
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        const int64_t end = std::min(stop, tile + kKeys);
        const int count = padded(int(end - tile), 16);
        flush_subnormals(control);
        int at = 0;
        for (; at + 16 * kBlocks <= count; at += 16 * kBlocks) {
            score_few<Q, kBlocks>(job, tile + at, queries, scores + at);
        }
        for (; at < count; at += 16) score_few<Q, 1>(job, tile + at, queries, scores + at);
        keep_subnormals(control);
        for (int q = 0; q < Q; q++) {
            alignas(64) uint16_t rounded[kKeys];
            const float keep = weigh_row(job, tile, count, scores + q * kKeys, rows[q], rounded);
            for (int i = 0; i < count; i += 16) store(scores + q * kKeys + i, load16(rounded + i));
            if (keep != 1.0f) scale(sums + q * head_dim, head_dim, keep);
        }
        flush_subnormals(control);
        weigh_few<Q>(job, tile, end, scores, sums);
        keep_subnormals(control);
    }
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        finish_row(sums + q * head_dim, head_dim, rows[q].total,
                   job.out + job.out_stride * token + size_t(head) * head_dim);
    }
}

// Rows `first` .. `first + count` of the job, in the order [token, head of the group]; at most kManyRows.
void attend_by_tiles(const AttentionJob& job, int first, int count, float* scratch) {
    if (count <= kFewTileRows && has_sixteens(job.shape)) {
        const int end = first + count;
        for (; first + 4 < end; first += 3) attend_few<3>(job, first, scratch);
        switch (end - first) {
            case 1: return attend_few<1>(job, first, scratch);
            case 2: return attend_few<2>(job, first, scratch);
            case 3: return attend_few<3>(job, first, scratch);
            default: return attend_few<4>(job, first, scratch);
        }
    }
    const int head_dim = job.shape.head_dim, padded_count = padded(count, kTileLines);
    const TileScratch at(scratch, head_dim);
    Progress rows[kManyRows];
    std::memset(at.queries, 0, sizeof(uint16_t) * padded_count * at.depth);
    std::memset(at.sums, 0, sizeof(float) * padded_count * at.width);
    std::memset(at.weights, 0, sizeof(uint16_t) * kTileLines * kKeys);
    std::memset(at.keys, 0, sizeof(float) * kKeys * at.depth / 2);
    std::memset(at.values, 0, sizeof(float) * kKeys / 2 * at.width);
    for (int row = 0; row < count; row++) {
        const int token = (first + row) / job.group, head = (first + row) % job.group;
        rows[row] = {position_of(job, token), -INFINITY, 0.0f};
        const float* query = job.queries + job.query_stride * token + size_t(head) * head_dim;
        uint16_t* to = at.queries + size_t(row) * at.depth;
        int d = 0;
        for (; d + 16 <= head_dim; d += 16) store_bfloat16(to + d, load16(query + d));
        for (; d < head_dim; d++) to[d] = float_to_bfloat16(query[d]);
    }
    TileShapes shapes;
    for (int i = 0; i < 8; i++) shapes.set(i, kTileLines, kLineBytes);
    configure_tiles(shapes);
    const int64_t start = first_key(job, rows[0].position), stop = rows[count - 1].position + 1;
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        pair_keys(job, tile, std::min(stop, tile + kKeys), at);
        for (int row = 0; row < count; row += kTileLines) {
            // Rows follow their positions: the last sees the furthest key, the first the earliest.
            const int end = std::min(row + kTileLines, count);
            const int64_t last = rows[end - 1].position;
            if (last < tile || first_key(job, rows[row].position) >= tile + kKeys) continue;
            const int keys = int(std::min<int64_t>(kKeys, padded(int(last + 1 - tile), kTileLines)));
            score_by_tiles(at, row, keys);
            for (int i = row; i < end; i++) {
                const size_t within = size_t(i - row) * kKeys;
                const float keep = weigh_row(job, tile, keys, at.scores + within, rows[i], at.weights + within);
                if (keep != 1.0f) scale(at.sums + size_t(i) * at.width, at.width, keep);
            }
            weigh_by_tiles(at, row, keys);
        }
    }
    release_tiles();
    for (int row = 0; row < count; row++) {
        const int token = (first + row) / job.group, head = (first + row) % job.group;
        finish_row(at.sums + size_t(row) * at.width, head_dim, rows[row].total,
                   job.out + job.out_stride * token + size_t(head) * head_dim);
    }
}

}  // namespace
}  // namespace cairn::CAIRN_ISA
