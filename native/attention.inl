// Attention over the paged cache, with the online softmax (Milakov and Gimelshein 2018; FlashAttention,
// Dao et al. 2022): keys are met in tiles of 64; for a query q with running maximum m, weight l and sum o
//
//   s_j = cap(scale * q . k_j)      m' = max(m, max_j s_j)      p_j = exp(s_j - m')
//   l' = l * exp(m - m') + sum_j p_j        o' = o * exp(m - m') + sum_j p_j v_j        out = o / l
//
// Tiles start at multiples of 64 of the sequence, whatever the block size, and a query takes part in the
// tiles between its first and last visible key alone: its bits depend on its own position and keys.
// A tile's keys of one head lie transposed, [head_dim, keys], so that 16 keys are the lanes of a vector and
// nothing is summed across lanes. Per tile and query: 64 * head_dim multiply-adds for the scores and as
// many for the sum; 128 * head_dim elements of the cache are read once for up to 4 queries.
//
// A cache of bfloat16 is met by attention_many.inl alone where there is VDPBF16PS (CAIRN_BF16), and by attention_amx.inl
// where there is AMX.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kKeys = kAttentionKeys;
constexpr int kManyRows = kAttentionRows;
constexpr int kFewRows = 8;  // as many are not worth widening their keys for

// Whether keys and values of a type are multiplied as pairs of bfloat16.
template <typename T>
constexpr bool kPaired = kRoundsRows && sizeof(T) == 2;

// a * b + sum, of floats or of pairs.
template <bool paired, typename V>
CAIRN_INLINE V multiply_add(V a, V b, V sum) {
#if defined(CAIRN_BF16)
    if constexpr (paired) return add_pairs(a, b, sum);
#endif
    return fma(a, b, sum);
}

// scores[q] of the keys `at` .. of a block, as many as V has lanes; kept of those from `first` to `end`.
template <typename V, int Q, typename T>
CAIRN_INLINE void score_lanes(const AttentionJob& job, const uint8_t* chunk, const float* const* queries, int at,
                              int first, int end, float* scores) {
    constexpr int kLanes = sizeof(V) / sizeof(float);
    const int stride = job.shape.padded_block();
    V sums[Q];
    for (int q = 0; q < Q; q++) sums[q] = V{};
    for (int d = 0; d < job.shape.head_dim; d++) {
        const V keys = load_lanes<V>(reinterpret_cast<const T*>(chunk) + size_t(d) * stride + at);
        for (int q = 0; q < Q; q++) sums[q] = fma(keys, all_lanes<V>(queries[q][d]), sums[q]);
    }
    for (int q = 0; q < Q; q++) {
        if constexpr (sizeof(T) == 1) {
            sums[q] *= load_lanes<V>(reinterpret_cast<const float*>(chunk + job.shape.scales_offset()) + at);
        }
        float* to = scores + q * kKeys + (at - first);
        if (at >= first && at + kLanes <= end) {
            store(to, sums[q]);
        } else {
            float lanes[kLanes];
            store(lanes, sums[q]);
            for (int i = 0; i < kLanes; i++) {
                if (at + i >= first && at + i < end) to[i] = lanes[i];
            }
        }
    }
}

// scores[q][0 .. count) of the keys `first` .. `first + count` of a block; rows of 64 numbers.
template <int Q, typename T>
void score_block(const AttentionJob& job, const uint8_t* chunk, const float* const* queries, int first, int count,
                 float* scores) {
    const int end = first + count;
    for (int at = first / 8 * 8; at < end;) {
        if (at + 16 <= job.shape.padded_block() && at + 8 < end) {
            score_lanes<f32x16, Q, T>(job, chunk, queries, at, first, end, scores);
            at += 16;
        } else {
            score_lanes<f32x8, Q, T>(job, chunk, queries, at, first, end, scores);
            at += 8;
        }
    }
}

// The same for B whole blocks of 16 keys: sums that grow side by side do not wait for each other.
template <int Q, int B, typename T>
CAIRN_INLINE void score_sixteens(const AttentionJob& job, const uint8_t* const* chunks, const float* const* queries,
                                 float* scores) {
    f32x16 sums[Q][B];
    for (int q = 0; q < Q; q++) {
        for (int b = 0; b < B; b++) sums[q][b] = f32x16{};
    }
    for (int d = 0; d < job.shape.head_dim; d++) {
        for (int b = 0; b < B; b++) {
            const f32x16 keys = load16(reinterpret_cast<const T*>(chunks[b]) + size_t(d) * 16);
            for (int q = 0; q < Q; q++) sums[q][b] = fma(keys, all16(queries[q][d]), sums[q][b]);
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int b = 0; b < B; b++) {
            if constexpr (sizeof(T) == 1) {
                sums[q][b] *= load16(reinterpret_cast<const float*>(chunks[b] + job.shape.scales_offset()));
            }
            store(scores + q * kKeys + 16 * b, sums[q][b]);
        }
    }
}

// N vectors of the sums of Q queries grow by `count` values (or pairs of them), each times its weight. Values and
// sums are rows of head_dim, weights of 64; `scales` are those of int8 values.
template <typename V, int Q, int N, bool paired = false, typename T>
CAIRN_INLINE void weigh_values(const T* values, const float* scales, int count, int head_dim, const float* weights,
                               float* sums) {
    constexpr int kLanes = sizeof(V) / sizeof(float);
    V total[Q][N];
    for (int q = 0; q < Q; q++) {
        for (int n = 0; n < N; n++) total[q][n] = load_lanes<V>(sums + size_t(q) * head_dim + kLanes * n);
    }
    for (int key = 0; key < count; key++) {
        V value[N];
        for (int n = 0; n < N; n++) value[n] = load_lanes<V>(values + size_t(key) * head_dim + kLanes * n);
        for (int q = 0; q < Q; q++) {
            float weight = weights[q * kKeys + key];
            if constexpr (sizeof(T) == 1) weight *= scales[key];
            const V wide = all_lanes<V>(weight);
            for (int n = 0; n < N; n++) total[q][n] = multiply_add<paired>(wide, value[n], total[q][n]);
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int n = 0; n < N; n++) store(sums + size_t(q) * head_dim + kLanes * n, total[q][n]);
    }
}

// The keys `first` .. of a block, as many vectors of dimensions at a time as there are registers for.
template <int Q, typename T>
void weigh_block(const AttentionJob& job, const uint8_t* chunk, int first, int count, const float* weights,
                 float* sums) {
    const int head_dim = job.shape.head_dim;
    const T* values = reinterpret_cast<const T*>(chunk + job.shape.values_offset()) + size_t(first) * head_dim;
    const float* scales =
        reinterpret_cast<const float*>(chunk + job.shape.scales_offset()) + job.shape.padded_block() + first;
    int column = 0;
    const auto weigh = [&]<typename V, int N>() {
        constexpr int kLanes = sizeof(V) / sizeof(float);
        for (; column + kLanes * N <= head_dim; column += kLanes * N) {
            weigh_values<V, Q, N>(values + column, scales, count, head_dim, weights, sums + column);
        }
    };
    if constexpr (8 * Q <= kSums) weigh.template operator()<f32x16, 8>();
    if constexpr (4 * Q <= kSums) weigh.template operator()<f32x16, 4>();
    if constexpr (2 * Q <= kSums) weigh.template operator()<f32x16, 2>();
    weigh.template operator()<f32x16, 1>();
    weigh.template operator()<f32x8, 1>();
}

// The first key that the query at `position` sees.
CAIRN_INLINE int64_t first_key(const AttentionJob& job, int64_t position) {
    return job.window ? std::max<int64_t>(0, position - job.window + 1) : 0;
}

CAIRN_INLINE int64_t position_of(const AttentionJob& job, int token) {
    return job.num_keys ? job.num_keys - 1 : job.first_position + token;
}

CAIRN_INLINE void scale(float* to, int count, float by) {
    for (int i = 0; i < count; i += 8) store(to + i, load(to + i) * all(by));
}

// What scores are multiplied by to be exponents of two.
CAIRN_INLINE float exponents_share(const AttentionJob& job) {
    return (job.softcap ? job.softcap : job.scale) * kLog2E;
}

// The first `count` scores, a multiple of 8, of a query at `position` for the keys `tile` .. are capped and masked.
CAIRN_INLINE void cap_and_mask(const AttentionJob& job, int64_t tile, int count, int64_t position, float* scores) {
    if (job.softcap) {
        const f32x8 share = all(job.scale / job.softcap);
        for (int i = 0; i < count; i += 8) store(scores + i, tanh(load(scores + i) * share));
    }
    const int64_t first = first_key(job, position);
    if (tile < first || tile + count > position + 1) {  // it does not see all of them
        for (int i = 0; i < count; i += 8) {
            const i32x8 key = int32_t(tile + i - position) + i32x8{0, 1, 2, 3, 4, 5, 6, 7};
            const auto seen = (key <= 0) & (key >= int32_t(first - position));
            store(scores + i, select(seen, load(scores + i), all(-INFINITY)));
        }
    }
}

// How far a query has come.
struct Progress {
    int64_t position;
    float top, total;  // m / ln 2, and l
};

// The scores of Q queries, rows of 64, for the keys `tile` .. `tile + count`, capped and masked, become weights, up to
// the next multiple of 8. keep[q] is exp(m - m'). Powers are of two: e^(scale s - m) = 2^(by s - top).
template <int Q>
CAIRN_INLINE void weights_of(const AttentionJob& job, int64_t tile, int count, float* scores, Progress* queries,
                             float* keep) {
    const float by = exponents_share(job);
    float shift[Q];
    f32x8 change = {};
    for (int q = 0; q < Q; q++) {
        float* row = scores + q * kKeys;
        cap_and_mask(job, tile, padded(count, 8), queries[q].position, row);
        f32x8 most = all(-INFINITY);
        for (int i = 0; i < count; i += 8) most = larger(load(row + i), most);
        const float top = std::max(queries[q].top, largest(most) * by);
        shift[q] = top == -INFINITY ? 0.0f : top;  // no key was visible yet: everything weighs 0
        change[q] = queries[q].top - shift[q];
        queries[q].top = top;
    }
    change = exp2_below(change);
    for (int q = 0; q < Q; q++) {
        float* row = scores + q * kKeys;
        f32x8 part = {};
        for (int i = 0; i < count; i += 8) {
            const f32x8 weight = exp2_below(fma(load(row + i), all(by), all(-shift[q])));
            part += weight;
            store(row + i, weight);
        }
        keep[q] = change[q];
        queries[q].total = queries[q].total * keep[q] + sum(part);
    }
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
        constexpr int kBlocks = 4 * Q <= kSums ? 4 : 2 * Q <= kSums ? 2 : 1;
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
    float* sums = scratch + Q * kKeys;
    const float* queries[Q];
    Progress progress[Q];
    int64_t start = INT64_MAX, stop = 0;
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        queries[q] = job.queries + job.query_stride * token + size_t(head) * head_dim;
        progress[q] = {position_of(job, token), -INFINITY, 0.0f};
        start = std::min(start, first_key(job, progress[q].position));
        stop = std::max(stop, progress[q].position + 1);
    }
    std::memset(sums, 0, sizeof(float) * Q * head_dim);
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        const int64_t end = std::min(stop, tile + kKeys);
        // What lies past `end` is masked, but must be a number.
        if (end < tile + kKeys) std::memset(scores, 0, sizeof(float) * Q * kKeys);
        score_tile<Q, T>(job, queries, tile, end, scores);
        float keep[Q];
        weights_of<Q>(job, tile, int(end - tile), scores, progress, keep);
        for (int q = 0; q < Q; q++) scale(sums + size_t(q) * head_dim, head_dim, keep[q]);
        for (int64_t key = tile; key < end;) {
            const int within = int(key % block_size), count = int(std::min<int64_t>(block_size - within, end - key));
            weigh_block<Q, T>(job, chunk_of(job, key / block_size), within, count, scores + (key - tile), sums);
            key += count;
        }
    }
    for (int q = 0; q < Q; q++) {
        const int token = (first + q) / job.group, head = (first + q) % job.group;
        float* out = job.out + job.out_stride * token + size_t(head) * head_dim;
        std::memcpy(out, sums + size_t(q) * head_dim, sizeof(float) * head_dim);
        scale(out, head_dim, 1.0f / progress[q].total);
    }
}

template <typename T>
void attend_many(const AttentionJob& job, int first, int count, float* scratch);  // attention_many.inl
#if defined(CAIRN_AMX)
void attend_by_tiles(const AttentionJob& job, int first, int count, float* scratch);  // attention_amx.inl
#endif

template <typename T>
void attend_as(const AttentionJob& job, float* scratch) {
    const int num_rows = job.num_tokens * job.group;
    if (kPaired<T> || num_rows > kFewRows) {
        for (int row = 0; row < num_rows; row += kManyRows) {
            const int count = std::min(kManyRows, num_rows - row);
#if defined(CAIRN_AMX)
            if constexpr (kPaired<T>) attend_by_tiles(job, row, count, scratch);
            else attend_many<T>(job, row, count, scratch);
#else
            attend_many<T>(job, row, count, scratch);
#endif
        }
        return;
    }
    if constexpr (!kPaired<T>) {
        int row = 0;
        for (; row + 4 <= num_rows; row += 4) attend_rows<4, T>(job, row, scratch);
        switch (num_rows - row) {
            case 3: return attend_rows<3, T>(job, row, scratch);
            case 2: return attend_rows<2, T>(job, row, scratch);
            case 1: return attend_rows<1, T>(job, row, scratch);
        }
    }
}

template <typename T>
void write_as(const CacheShape& shape, uint8_t* chunk, int offset, const float* from, bool is_key) {
    T* to = reinterpret_cast<T*>(chunk + (is_key ? 0 : shape.values_offset()));
    const size_t stride = shape.padded_block();
    to += is_key ? offset : size_t(offset) * shape.head_dim;
    float inverse = 1.0f;
    if constexpr (sizeof(T) == 1) {
        float extreme = 0.0f;
        for (int d = 0; d < shape.head_dim; d++) extreme = std::max(extreme, std::fabs(from[d]));
        auto* scales = reinterpret_cast<float*>(chunk + shape.scales_offset());
        scales[offset + (is_key ? 0 : shape.padded_block())] = extreme / 127.0f;
        inverse = extreme > 0 ? 127.0f / extreme : 0.0f;
    }
    const auto as_element = [&](float value) {
        if constexpr (sizeof(T) == 4) return value;
        if constexpr (sizeof(T) == 2) return float_to_bfloat16(value);
        if constexpr (sizeof(T) == 1) return int8_t(std::lrintf(value * inverse));
    };
    if (is_key) {
        for (int d = 0; d < shape.head_dim; d++) to[d * stride] = as_element(from[d]);
    } else {  // side by side: a loop of its own, for vectors
        for (int d = 0; d < shape.head_dim; d++) to[d] = as_element(from[d]);
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
