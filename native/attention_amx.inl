// Attention over a cache of bfloat16 by AMX: 16 queries meet 16 keys (or 16 dimensions of values) at once.
//
// The sums of attention.inl. A tile of 64 keys is put in order once for up to kManyRows queries: two dimensions of a
// key, or two keys' values, lie side by side in 32 bits, as the registers want them (D and V: head_dim, padded to 32
// and to 16 with zeros). Of 32 keys the first is paired with the 17th, so that two vectors of weights make one of pairs:
//
//   queries  [rows, D] bfloat16     keys    [D / 2, 64] pairs     scores   [16, 64]
//   weights  [16, 32] pairs         values  [32, V] pairs         sums     [rows, V]
//
// Queries and weights are rounded to bfloat16; the sum of the weights is of those that were not. 32 keys of the tile are
// an instruction's, and those that a query does not see weigh zero: its bits do not depend on the block size, on its
// company, or on how many tokens come at once. Per tile and 16 queries: (D + V) / 8 instructions of 16 x 16 x 32
// multiply-adds, 16 cycles each, and 64 vectors of powers of two, which take longer.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kFewTileRows = 6;  // as many are quicker by vectors

// Where the parts of the scratch lie, each on a line of its own.
struct TileScratch {
    uint16_t* queries;
    float *keys, *values, *scores, *weights, *sums;
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
        weights = take(kTileLines * kKeys / 2);
        sums = take(size_t(kManyRows) * width);
        queries = reinterpret_cast<uint16_t*>(take(size_t(kManyRows) * depth / 2));
    }
};

// Whether whole sixteens of keys and of dimensions lie side by side.
CAIRN_INLINE bool has_sixteens(const CacheShape& shape) { return shape.block_size % 16 == 0 && shape.head_dim % 16 == 0; }

// The tile's keys `tile` .. `end` and their values. What lies past them is some number, hidden by masks and weights of 0;
// a last value without a partner has itself.
void pair_keys(const AttentionJob& job, int64_t tile, int64_t end, const TileScratch& to) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const int stride = job.shape.padded_block(), num_keys = int(end - tile);
    const bool by_sixteens = has_sixteens(job.shape);
    const uint16_t *keys[kKeys], *values[kKeys];
    for (int i = 0; i < num_keys; i++) {
        const int within = int((tile + i) % block_size);
        const uint8_t* chunk = chunk_of(job, (tile + i) / block_size);
        keys[i] = reinterpret_cast<const uint16_t*>(chunk) + within;
        values[i] = reinterpret_cast<const uint16_t*>(chunk + job.shape.values_offset()) + within * head_dim;
    }
    const auto pair_up = [](uint16_t a, uint16_t b, float& to) {
        const uint16_t pair[] = {a, b};
        std::memcpy(&to, pair, 4);
    };
    for (int d = 0; d < head_dim; d += 2) {
        float* line = to.keys + d / 2 * kKeys;
        const size_t a = size_t(d) * stride, b = a + stride;
        if (by_sixteens) {
            for (int i = 0; i < num_keys; i += 16) store(line + i, pairs16(keys[i] + a, keys[i] + b));
        } else {
            for (int i = 0; i < num_keys; i++) pair_up(keys[i][a], keys[i][b], line[i]);
        }
    }
    for (int i = 0; i < kKeys / 2; i++) {
        const int first = i / 16 * 32 + i % 16, second = first + 16 < num_keys ? first + 16 : first;
        if (first >= num_keys) continue;
        float* line = to.values + i * to.width;
        if (by_sixteens) {
            for (int d = 0; d < head_dim; d += 16) store(line + d, pairs16(values[first] + d, values[second] + d));
        } else {
            for (int d = 0; d < head_dim; d++) pair_up(values[first][d], values[second][d], line[d]);
        }
    }
}

// How far sixteen queries have come: see Progress.
struct TileProgress {
    int64_t positions[kTileLines];
    f32x16 top, total;
};

CAIRN_INLINE f32x16 larger16(f32x16 a, f32x16 b) { return f32x16(_mm512_maskz_max_ps(0xffff, __m512(a), __m512(b))); }

// Which lanes of two vectors side by side `fold` takes for blocks of `width` lanes, and those `width` further.
template <int width, int further>
CAIRN_INLINE __m512i fold_order() {
    const auto lane = [](int i) { return (i % (2 * width) < width ? i : 16 + i - width) + further; };
    return __m512i(i32x16{lane(0), lane(1), lane(2), lane(3), lane(4), lane(5), lane(6), lane(7), lane(8), lane(9),
                          lane(10), lane(11), lane(12), lane(13), lane(14), lane(15)});
}

// Lane i: what `both` makes of all lanes of rows[i], lane j with j + 8, then with j + 4, j + 2 and j + 1.
template <int width = 8, typename Both>
CAIRN_INLINE f32x16 fold(f32x16* rows, const Both& both) {
    if constexpr (width == 0) {
        return rows[0];
    } else {
        for (int i = 0; i < width; i++) {
            const auto pick = [&](__m512i order) {
                return f32x16(_mm512_permutex2var_ps(__m512(rows[i]), order, __m512(rows[i + width])));
            };
            rows[i] = both(pick(fold_order<width, 0>()), pick(fold_order<width, width>()));
        }
        return fold<width / 2>(rows, both);
    }
}

CAIRN_INLINE f32x16 weight_of(const float* scores, float by, float shift) {
    return exp2_below(fma(load16(scores), all16(by), all16(-shift)));
}
CAIRN_INLINE u32x16 rounded_bits(f32x16 weight) { return u32x16(weight) + 0x8000u; }

// Where no key was visible yet everything weighs 0.
CAIRN_INLINE f32x16 shift_of(f32x16 top) {
    return f32x16(_mm512_mask_mov_ps(__m512(top), _mm512_cmp_ps_mask(__m512(top), _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ),
                                     _mm512_setzero_ps()));
}

// The scores [16, 64] of sixteen queries for the keys `tile` .. `tile + 16 N` become weights, pairs of bfloat16.
// Returns each one's exp(m - m').
template <int N>
[[gnu::noinline]] f32x16 weigh_rows(const AttentionJob& job, int64_t tile, float* scores, TileProgress& queries,
                                    float* weights) {
    const float by = exponents_share(job);
    f32x16 rows[kTileLines];
    for (int q = 0; q < kTileLines; q++) {
        float* row = scores + q * kKeys;
        cap_and_mask(job, tile, 16 * N, queries.positions[q], row);
        rows[q] = load16(row);
        for (int n = 1; n < N; n++) rows[q] = larger16(rows[q], load16(row + 16 * n));
    }
    const f32x16 most = fold(rows, [](f32x16 a, f32x16 b) { return larger16(a, b); });
    const f32x16 top = larger16(most * all16(by), queries.top), shift = shift_of(top);
    const f32x16 keep = exp2_below(queries.top - shift);
    queries.top = top;
    float shifts[kTileLines];
    store(shifts, shift);
    for (int q = 0; q < kTileLines; q++) {
        u32x16 bits[4] = {};
        for (int n = 0; n < N; n++) {
            const f32x16 weight = weight_of(scores + q * kKeys + 16 * n, by, shifts[q]);
            rows[q] = n ? rows[q] + weight : weight;
            bits[n] = rounded_bits(weight);
        }
        for (int n = 0; n < N; n += 2) {
            store(weights + q * kKeys / 2 + 8 * n, f32x16(bits[n] >> 16 | (bits[n + 1] & 0xffff0000u)));
        }
    }
    queries.total = queries.total * keep + fold(rows, [](f32x16 a, f32x16 b) { return a + b; });
    return keep;
}

CAIRN_INLINE f32x8 half_of(f32x16 x, int which) {
    f32x8 halves[2];
    std::memcpy(halves, &x, 64);
    return halves[which];
}

// The same of one query: its first `count` scores, a multiple of 16, become weights, rounded to bfloat16.
CAIRN_INLINE float weigh_row(const AttentionJob& job, int64_t tile, int count, float* scores, Progress& query) {
    const float by = exponents_share(job);
    cap_and_mask(job, tile, count, query.position, scores);
    f32x16 most = load16(scores);
    for (int i = 16; i < count; i += 16) most = larger16(most, load16(scores + i));
    const f32x16 top = larger16(all16(largest(larger(half_of(most, 0), half_of(most, 1))) * by), all16(query.top));
    const f32x16 shift = shift_of(top), keep = exp2_below(all16(query.top) - shift);
    query.top = top[0];
    f32x16 part = {};
    for (int i = 0; i < count; i += 16) {
        const f32x16 weight = weight_of(scores + i, by, shift[0]);
        part = i ? part + weight : weight;
        store(scores + i, f32x16(rounded_bits(weight) & 0xffff0000u));
    }
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
    if (count > 32) load_tile<5>(at.weights + 16, kKeys * sizeof(uint16_t));
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
    const auto values_of = [&](int64_t key) CAIRN_INLINED {
        const uint8_t* chunk = chunk_of(job, key / block_size);
        return reinterpret_cast<const uint16_t*>(chunk + job.shape.values_offset()) + key % block_size * head_dim;
    };
    const auto weigh = [&]<int C>(int64_t first, int64_t stop, int column) CAIRN_INLINED {
        f32x16 parts[2][Q][C] = {};
        const int counts[2] = {int(std::min<int64_t>(16, stop - first)), int(stop - first) - 16};
        const uint16_t* values[2] = {values_of(first) + column, counts[1] > 0 ? values_of(first + 16) + column : nullptr};
        const auto add = [&]<int part>(int i) CAIRN_INLINED {
            for (int c = 0; c < C; c++) {
                const f32x16 value = load16(values[part] + i * head_dim + 16 * c);
                for (int q = 0; q < Q; q++) {
                    const f32x16 weight = all16(weights[q * kKeys + (first - tile) + 16 * part + i]);
                    parts[part][q][c] = fma(weight, value, parts[part][q][c]);
                }
            }
        };
        int i = 0;
        for (; i < counts[1]; i++) {
            add.template operator()<0>(i);
            add.template operator()<1>(i);
        }
        for (i = std::max(i, 0); i < counts[0]; i++) add.template operator()<0>(i);
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
            const float keep = weigh_row(job, tile, count, scores + q * kKeys, rows[q]);
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
    TileProgress progress[kManyRows / kTileLines];
    std::memset(at.queries, 0, sizeof(uint16_t) * padded_count * at.depth);
    std::memset(at.sums, 0, sizeof(float) * padded_count * at.width);
    std::memset(at.keys, 0, sizeof(float) * kKeys * at.depth / 2);
    std::memset(at.values, 0, sizeof(float) * kKeys / 2 * at.width);
    for (int row = 0; row < padded_count; row++) {
        const int within = std::min(row, count - 1);  // what fills up the last sixteen follows the last
        const int token = (first + within) / job.group, head = (first + within) % job.group;
        progress[row / kTileLines].positions[row % kTileLines] = position_of(job, token);
        if (row >= count) continue;
        const float* query = job.queries + job.query_stride * token + size_t(head) * head_dim;
        uint16_t* to = at.queries + size_t(row) * at.depth;
        int d = 0;
        for (; d + 16 <= head_dim; d += 16) store_bfloat16(to + d, load16(query + d));
        for (; d < head_dim; d++) to[d] = float_to_bfloat16(query[d]);
    }
    for (int row = 0; row < padded_count; row += kTileLines) {
        progress[row / kTileLines].top = all16(-INFINITY);
        progress[row / kTileLines].total = f32x16{};
    }
    TileShapes shapes;
    for (int i = 0; i < 8; i++) shapes.set(i, kTileLines, kLineBytes);
    configure_tiles(shapes);
    const int64_t start = first_key(job, position_of(job, first / job.group));
    const int64_t stop = position_of(job, (first + count - 1) / job.group) + 1;
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        pair_keys(job, tile, std::min(stop, tile + kKeys), at);
        for (int row = 0; row < padded_count; row += kTileLines) {
            // Rows follow their positions: the last sees the furthest key, the first the earliest.
            TileProgress& queries = progress[row / kTileLines];
            const int64_t last = queries.positions[kTileLines - 1];
            if (last < tile || first_key(job, queries.positions[0]) >= tile + kKeys) continue;
            const int keys = int(std::min<int64_t>(kKeys, padded(int(last + 1 - tile), kTileLines)));
            score_by_tiles(at, row, keys);
            const auto weigh = keys <= 16   ? weigh_rows<1>
                               : keys <= 32 ? weigh_rows<2>
                               : keys <= 48 ? weigh_rows<3>
                                            : weigh_rows<4>;
            const f32x16 keep = weigh(job, tile, at.scores, queries, at.weights);
            unsigned changed = _mm512_cmp_ps_mask(__m512(keep), _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
            for (; changed; changed &= changed - 1) {
                const int i = __builtin_ctz(changed);
                scale(at.sums + size_t(row + i) * at.width, at.width, keep[i]);
            }
            weigh_by_tiles(at, row, keys);
        }
    }
    release_tiles();
    for (int row = 0; row < count; row++) {
        const int token = (first + row) / job.group, head = (first + row) % job.group;
        finish_row(at.sums + size_t(row) * at.width, head_dim, progress[row / kTileLines].total[row % kTileLines],
                   job.out + job.out_stride * token + size_t(head) * head_dim);
    }
}

}  // namespace
}  // namespace cairn::CAIRN_ISA
