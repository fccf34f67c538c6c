// Attention over the paged cache, with the online softmax (Milakov and Gimelshein 2018; FlashAttention,
// Dao et al. 2022): keys are met in tiles of 64; for a query q with running maximum m, weight l and sum o
//
//   s_j = cap(scale * q . k_j)      m' = max(m, max_j s_j)      p_j = exp(s_j - m')
//   l' = l * exp(m - m') + sum_j p_j        o' = o * exp(m - m') + sum_j p_j v_j        out = o / l
//
// Tiles start at multiples of 64 of the sequence, whatever the block size, and a query takes part in the
// tiles between its first and last visible key alone: its bits depend on its own position and keys.
// A tile's keys of one head lie transposed, [head_dim, keys], so that 8 keys are the lanes of a vector and
// nothing is summed across lanes. Per tile and query: 64 * head_dim multiply-adds for the scores and as
// many for the sum; 128 * head_dim elements of the cache are read once for up to 4 queries.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kKeys = kAttentionKeys;
constexpr int kQueries = kAttentionQueries;

// Scores of Q queries against 8 keys; keys [D, stride], 8 lanes from `keys` on.
template <int Q, typename T>
CAIRN_INLINE void score_eight(const T* keys, int stride, const float* const* queries, int head_dim, f32x8* out) {
    f32x8 sums[Q] = {};
    for (int d = 0; d < head_dim; d++) {
        const f32x8 key = load_as_float(keys + size_t(d) * stride);
        for (int q = 0; q < Q; q++) sums[q] = fma(key, all(queries[q][d]), sums[q]);
    }
    for (int q = 0; q < Q; q++) out[q] = sums[q];
}

template <int Q, typename T>
CAIRN_INLINE void score_sixteen(const T* keys, int stride, const float* const* queries, int head_dim, f32x8* out) {
    f32x8 low[Q] = {}, high[Q] = {};
    for (int d = 0; d < head_dim; d++) {
        const f32x8 one = load_as_float(keys + size_t(d) * stride);
        const f32x8 two = load_as_float(keys + size_t(d) * stride + 8);
        for (int q = 0; q < Q; q++) {
            const f32x8 value = all(queries[q][d]);
            low[q] = fma(one, value, low[q]);
            high[q] = fma(two, value, high[q]);
        }
    }
    for (int q = 0; q < Q; q++) {
        out[q] = low[q];
        out[Q + q] = high[q];
    }
}

// scores[q][0 .. count) of the keys `first` .. `first + count` of a block; rows of 64 numbers.
template <int Q, typename T>
void score_block(const AttentionJob& job, const uint8_t* chunk, const float* const* queries, int first, int count,
                 float* scores) {
    const int stride = job.shape.padded_block(), head_dim = job.shape.head_dim;
    const T* keys = reinterpret_cast<const T*>(chunk);
    const auto* scales = reinterpret_cast<const float*>(chunk + job.shape.scales_offset());
    for (int at = first / 8 * 8; at < first + count;) {
        f32x8 part[2 * Q];
        const bool is_wide = at + 16 <= stride && at + 8 < first + count;
        if (is_wide) {
            score_sixteen<Q, T>(keys + at, stride, queries, head_dim, part);
        } else {
            score_eight<Q, T>(keys + at, stride, queries, head_dim, part);
        }
        for (int eight = 0; eight < (is_wide ? 2 : 1); eight++, at += 8) {
            for (int q = 0; q < Q; q++) {
                f32x8 value = part[eight * Q + q];
                if constexpr (sizeof(T) == 1) value *= load(scales + at);
                float* to = scores + q * kKeys + (at - first);
                if (at >= first && at + 8 <= first + count) {
                    store(to, value);
                } else {
                    for (int i = 0; i < 8; i++) {
                        if (at + i >= first && at + i < first + count) to[i] = value[i];
                    }
                }
            }
        }
    }
}

// The same for B whole blocks of 16 keys: with one query, eight sums grow side by side instead of two that
// wait for each other.
template <int Q, int B, typename T>
CAIRN_INLINE void score_sixteens(const AttentionJob& job, const uint8_t* const* chunks, const float* const* queries,
                                 float* scores) {
    f32x8 low[Q][B], high[Q][B];
    for (int q = 0; q < Q; q++) {
        for (int b = 0; b < B; b++) low[q][b] = high[q][b] = f32x8{};
    }
    for (int d = 0; d < job.shape.head_dim; d++) {
        for (int b = 0; b < B; b++) {
            const T* keys = reinterpret_cast<const T*>(chunks[b]) + size_t(d) * 16;
            const f32x8 one = load_as_float(keys), two = load_as_float(keys + 8);
            for (int q = 0; q < Q; q++) {
                low[q][b] = fma(one, all(queries[q][d]), low[q][b]);
                high[q][b] = fma(two, all(queries[q][d]), high[q][b]);
            }
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int b = 0; b < B; b++) {
            if constexpr (sizeof(T) == 1) {
                const auto* scales = reinterpret_cast<const float*>(chunks[b] + job.shape.scales_offset());
                low[q][b] *= load(scales);
                high[q][b] *= load(scales + 8);
            }
            store(scores + q * kKeys + 16 * b, low[q][b]);
            store(scores + q * kKeys + 16 * b + 8, high[q][b]);
        }
    }
}

// sums[q] += sum over the keys `first` .. of a block of weights[q][.] * values, V vectors of 8 dimensions.
template <int Q, int V, typename T>
CAIRN_INLINE void weigh_columns(const AttentionJob& job, const uint8_t* chunk, int first, int count,
                                const float* weights, float* sums, int column) {
    const int head_dim = job.shape.head_dim;
    const T* values = reinterpret_cast<const T*>(chunk + job.shape.values_offset()) + column;
    const auto* scales =
        reinterpret_cast<const float*>(chunk + job.shape.scales_offset()) + job.shape.padded_block();
    f32x8 total[Q][V];
    for (int q = 0; q < Q; q++) {
        for (int v = 0; v < V; v++) total[q][v] = load(sums + size_t(q) * head_dim + column + 8 * v);
    }
    for (int key = first; key < first + count; key++) {
        f32x8 value[V];
        for (int v = 0; v < V; v++) value[v] = load_as_float(values + size_t(key) * head_dim + 8 * v);
        for (int q = 0; q < Q; q++) {
            float weight = weights[q * kKeys + key - first];
            if constexpr (sizeof(T) == 1) weight *= scales[key];
            for (int v = 0; v < V; v++) total[q][v] = fma(all(weight), value[v], total[q][v]);
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int v = 0; v < V; v++) store(sums + size_t(q) * head_dim + column + 8 * v, total[q][v]);
    }
}

template <int Q, typename T>
void weigh_block(const AttentionJob& job, const uint8_t* chunk, int first, int count, const float* weights,
                 float* sums) {
    const int head_dim = job.shape.head_dim;
    constexpr int kWide = Q == 1 ? 8 : Q == 2 ? 4 : 2;  // eight sums side by side
    int column = 0;
    for (; column + 8 * kWide <= head_dim; column += 8 * kWide) {
        weigh_columns<Q, kWide, T>(job, chunk, first, count, weights, sums, column);
    }
    if (Q <= 2 && column + 32 <= head_dim) {
        weigh_columns<Q, 4, T>(job, chunk, first, count, weights, sums, column);
        column += 32;
    }
    for (; column + 16 <= head_dim; column += 16) {
        weigh_columns<Q, 2, T>(job, chunk, first, count, weights, sums, column);
    }
    if (column < head_dim) weigh_columns<Q, 1, T>(job, chunk, first, count, weights, sums, column);
}

// Scale, cap and mask one query's scores of a tile, and turn them into weights; exp(m - m') comes back.
float weights_of(const AttentionJob& job, int64_t tile, int64_t position, float* scores, float& top, float& total) {
    const int64_t first = job.window ? position - job.window + 1 : 0;
    f32x8 most = all(-INFINITY);
    for (int i = 0; i < kKeys; i += 8) {
        f32x8 score = load(scores + i) * all(job.scale);
        if (job.softcap) score = all(job.softcap) * tanh(score / all(job.softcap));
        const i32x8 key = int32_t(tile + i - position) + i32x8{0, 1, 2, 3, 4, 5, 6, 7};
        const i32x8 is_visible = (key <= 0) & (key >= int32_t(first - position));
        score = select(is_visible, score, all(-INFINITY));
        most = larger(score, most);
        store(scores + i, score);
    }
    const float now = std::max(top, largest(most));
    if (now == -INFINITY) {  // no key of this tile is visible, and none was before
        std::memset(scores, 0, kKeys * sizeof(float));
        return 1.0f;
    }
    f32x8 part = {};
    for (int i = 0; i < kKeys; i += 8) {
        const f32x8 weight = exp(load(scores + i) - all(now));
        part += weight;
        store(scores + i, weight);
    }
    const float keep = exp(all(top - now))[0];
    total = total * keep + sum(part);
    top = now;
    return keep;
}

CAIRN_INLINE const uint8_t* chunk_of(const AttentionJob& job, int64_t block) {
    return job.cache + size_t(job.blocks[block]) * job.block_stride;
}

// scores[q] of the keys `tile` .. `end`.
template <int Q, typename T>
CAIRN_INLINE void score_tile(const AttentionJob& job, const float* const* queries, int64_t tile, int64_t end,
                             float* scores) {
    const int block_size = job.shape.block_size;
    int64_t key = tile;
    if (block_size == 16) {
        constexpr int kBlocks = Q == 1 ? 4 : Q == 2 ? 2 : 1;
        const uint8_t* chunks[kBlocks];
        for (; key + 16 * (kBlocks - 1) < end; key += 16 * kBlocks) {
            for (int b = 0; b < kBlocks; b++) chunks[b] = chunk_of(job, key / 16 + b);
            score_sixteens<Q, kBlocks, T>(job, chunks, queries, scores + (key - tile));
        }
    }
    while (key < end) {
        const int within = int(key % block_size), count = int(std::min<int64_t>(block_size - within, end - key));
        score_block<Q, T>(job, chunk_of(job, key / block_size), queries, within, count, scores + (key - tile));
        key += count;
    }
}

// Q queries: rows `first` .. of the job, in the order [token, head of the group].
template <int Q, typename T>
void attend_rows(const AttentionJob& job, int first, float* scratch) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    float* scores = scratch;
    float* sums = scratch + kQueries * kKeys;
    const float* queries[Q];
    int64_t position[Q];
    float top[Q], total[Q] = {};
    int64_t start = INT64_MAX, stop = 0;
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        queries[q] = job.queries + job.query_stride * token + size_t(head) * head_dim;
        position[q] = job.num_keys ? job.num_keys - 1 : job.first_position + token;
        top[q] = -INFINITY;
        start = std::min(start, job.window ? std::max<int64_t>(0, position[q] - job.window + 1) : 0);
        stop = std::max(stop, position[q] + 1);
    }
    std::memset(sums, 0, sizeof(float) * Q * head_dim);
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        const int64_t end = std::min(stop, tile + kKeys);
        // What lies past `end` is masked, but must be a number.
        if (end < tile + kKeys) std::memset(scores, 0, sizeof(float) * Q * kKeys);
        score_tile<Q, T>(job, queries, tile, end, scores);
        for (int q = 0; q < Q; q++) {
            const float keep = weights_of(job, tile, position[q], scores + q * kKeys, top[q], total[q]);
            float* sum = sums + size_t(q) * head_dim;
            for (int d = 0; d < head_dim; d += 8) store(sum + d, load(sum + d) * all(keep));
        }
        for (int64_t key = tile; key < end;) {
            const int within = int(key % block_size), count = int(std::min<int64_t>(block_size - within, end - key));
            weigh_block<Q, T>(job, chunk_of(job, key / block_size), within, count, scores + (key - tile), sums);
            key += count;
        }
    }
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        float* out = job.out + job.out_stride * token + size_t(head) * head_dim;
        const f32x8 inverse = all(1.0f / total[q]);
        for (int d = 0; d < head_dim; d += 8) store(out + d, load(sums + size_t(q) * head_dim + d) * inverse);
    }
}

template <typename T>
void attend_as(const AttentionJob& job, float* scratch) {
    const int num_rows = job.num_tokens * job.group;
    int row = 0;
    for (; row + kQueries <= num_rows; row += kQueries) attend_rows<kQueries, T>(job, row, scratch);
    switch (num_rows - row) {
        case 3: return attend_rows<3, T>(job, row, scratch);
        case 2: return attend_rows<2, T>(job, row, scratch);
        case 1: return attend_rows<1, T>(job, row, scratch);
    }
}

template <typename T>
void write_as(const CacheShape& shape, uint8_t* chunk, int offset, const float* from, bool is_key) {
    T* to = reinterpret_cast<T*>(chunk + (is_key ? 0 : shape.values_offset()));
    const size_t stride = is_key ? shape.padded_block() : 1;
    to += is_key ? offset : size_t(offset) * shape.head_dim;
    float inverse = 1.0f;
    if constexpr (sizeof(T) == 1) {
        float extreme = 0.0f;
        for (int d = 0; d < shape.head_dim; d++) extreme = std::max(extreme, std::fabs(from[d]));
        auto* scales = reinterpret_cast<float*>(chunk + shape.scales_offset());
        scales[offset + (is_key ? 0 : shape.padded_block())] = extreme / 127.0f;
        inverse = extreme > 0 ? 127.0f / extreme : 0.0f;
    }
    for (int d = 0; d < shape.head_dim; d++) {
        if constexpr (sizeof(T) == 4) to[d * stride] = from[d];
        if constexpr (sizeof(T) == 2) to[d * stride] = float_to_bfloat16(from[d]);
        if constexpr (sizeof(T) == 1) to[d * stride] = int8_t(std::lrintf(from[d] * inverse));
    }
}

}  // namespace

void attend(const AttentionJob& job, float* scratch) {
    switch (job.shape.type) {
        case CacheType::float32: return attend_as<float>(job, scratch);
        case CacheType::bfloat16: return attend_as<uint16_t>(job, scratch);
        case CacheType::int8: return attend_as<int8_t>(job, scratch);
    }
}

// One token's key or value of one head (the other may be null) into place `offset` of its block.
void write_key_value(const CacheShape& shape, uint8_t* chunk, int offset, const float* key, const float* value) {
    for (const float* from : {key, value}) {
        if (!from) continue;
        switch (shape.type) {
            case CacheType::float32: write_as<float>(shape, chunk, offset, from, from == key); break;
            case CacheType::bfloat16: write_as<uint16_t>(shape, chunk, offset, from, from == key); break;
            case CacheType::int8: write_as<int8_t>(shape, chunk, offset, from, from == key); break;
        }
    }
}

}  // namespace cairn::CAIRN_ISA
