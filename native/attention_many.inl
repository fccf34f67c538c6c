// Attention of many queries of one key-value head: a prompt, guessed tokens, a text of an encoder.
//
// The sums of attention.inl, in the same order and so to the same bits. A tile's keys and values are widened
// to float32 once for all queries, [head_dim, 64] and [64, head_dim]; six queries by sixteen keys (or
// dimensions; by 32 with AVX-512) are twelve sums side by side, for which the machine multiplies and adds
// without waiting:
//
//   queries   [rows / 6, head_dim, 6]      scores [rows, 64]      sums [rows, head_dim]
//
// Per tile and query 128 * head_dim multiply-adds; per tile 128 * head_dim elements of the cache are read
// once.
//
// Where there is VDPBF16PS, a cache of bfloat16 is not widened but paired: see attention_pairs.inl.

namespace cairn::CAIRN_ISA {
namespace {

constexpr int kSix = 6;

// Where the parts of the scratch lie.
struct ManyScratch {
    float *queries, *scores, *sums, *keys, *values, *key_scales, *value_scales;

    ManyScratch(float* at, int head_dim)
        : queries(at), scores(queries + size_t(kManyRows) * head_dim), sums(scores + kManyRows * kKeys),
          keys(sums + size_t(kManyRows) * head_dim), values(keys + size_t(kKeys) * head_dim),
          key_scales(values + size_t(kKeys) * head_dim), value_scales(key_scales + kKeys) {}
};

// The parts of attention_pairs.inl.
template <typename T>
void pair_query(const float* query, int head_dim, float* to);
template <typename T>
void pair_tile(const AttentionJob& job, int64_t tile, int64_t end, const ManyScratch& to);
template <typename T>
void round_weights(float* scores, int num_rows);
template <typename T>
void drop_signs_of_zero(float* out, int head_dim);

// The tile's keys `tile` .. `end` as float32; what lies past them is 0, a number that the masks hide.
template <typename T>
void widen_tile(const AttentionJob& job, int64_t tile, int64_t end, const ManyScratch& to) {
    const int head_dim = job.shape.head_dim, block_size = job.shape.block_size;
    const int stride = job.shape.padded_block();
    if (end < tile + kKeys) std::memset(to.keys, 0, sizeof(float) * kKeys * head_dim);
    for (int64_t key = tile; key < end;) {
        const int within = int(key % block_size), at = int(key - tile);
        const int count = int(std::min<int64_t>(block_size - within, end - key));
        const uint8_t* chunk = chunk_of(job, key / block_size);
        const T* keys = reinterpret_cast<const T*>(chunk) + within;
        for (int d = 0; d < head_dim; d++, keys += stride) {
            float* wide = to.keys + d * kKeys + at;
            int i = 0;
            for (; i + 8 <= count; i += 8) store(wide + i, load_as_float(keys + i));
            for (; i < count; i++) wide[i] = one_as_float(keys[i]);
        }
        const T* values = reinterpret_cast<const T*>(chunk + job.shape.values_offset()) + within * head_dim;
        float* wide = to.values + at * head_dim;
        for (int i = 0; i < count * head_dim; i += 8) store(wide + i, load_as_float(values + i));
        if constexpr (sizeof(T) == 1) {
            const auto* scales = reinterpret_cast<const float*>(chunk + job.shape.scales_offset()) + within;
            std::memcpy(to.key_scales + at, scales, count * sizeof(float));
            std::memcpy(to.value_scales + at, scales + stride, count * sizeof(float));
        }
        key += count;
    }
}

// How many vectors of sixteen keys (or dimensions) Q queries take at a time: enough sums side by side that
// none waits for itself, no more than there are registers for.
template <int Q>
constexpr int kVectors = (Q == 1 ? 4 : Q <= 3 ? 2 : 1) * (kSums > 4 && Q > 1 ? 2 : 1);

// Q queries against N vectors of keys, both of `width` numbers or pairs.
template <int Q, int N, bool paired>
CAIRN_INLINE void score_panel(const float* queries, const float* keys, int width, float* scores) {
    f32x16 sums[Q][N];
    for (int q = 0; q < Q; q++) {
        for (int n = 0; n < N; n++) sums[q][n] = f32x16{};
    }
    for (int d = 0; d < width; d++) {
        f32x16 key[N];
        for (int n = 0; n < N; n++) key[n] = load16(keys + d * kKeys + 16 * n);
        for (int q = 0; q < Q; q++) {
            const f32x16 value = all16(queries[d * kSix + q]);
            for (int n = 0; n < N; n++) sums[q][n] = multiply_add<paired>(key[n], value, sums[q][n]);
        }
    }
    for (int q = 0; q < Q; q++) {
        for (int n = 0; n < N; n++) store(scores + q * kKeys + 16 * n, sums[q][n]);
    }
}

// Each of `num_rows` rows of scores times `by`.
CAIRN_INLINE void multiply_rows(float* scores, int num_rows, int count, const float* by) {
    for (int q = 0; q < num_rows; q++) {
        float* row = scores + q * kKeys;
        for (int i = 0; i < count; i += 8) store(row + i, load(row + i) * load(by + i));
    }
}

// The weights of Q rows, `row` .., for the keys up to `end`.
template <int Q, typename T>
[[gnu::noinline]] void score_rows(const AttentionJob& job, int64_t tile, int64_t end, int row, Progress* rows,
                                  const ManyScratch& at) {
    const int head_dim = job.shape.head_dim, width = kPaired<T> ? head_dim / 2 : head_dim;
    const int count = int(end - tile);
    float* scores = at.scores + row * kKeys;
    const float* queries = at.queries + row * head_dim;
    int key = 0;
    for (; key + 16 * (kVectors<Q> - 1) < count; key += 16 * kVectors<Q>) {
        score_panel<Q, kVectors<Q>, kPaired<T>>(queries, at.keys + key, width, scores + key);
    }
    for (; key < count; key += 16) {
        score_panel<Q, 1, kPaired<T>>(queries, at.keys + key, width, scores + key);
    }
    if constexpr (sizeof(T) == 1) multiply_rows(scores, Q, count, at.key_scales);
    float keep[Q];
    weights_of<Q>(job, tile, count, scores, rows + row, keep);
    if constexpr (sizeof(T) == 1) multiply_rows(scores, Q, count, at.value_scales);
    if constexpr (kPaired<T>) round_weights<T>(scores, Q);
    for (int q = 0; q < Q; q++) {
        if (keep[q] != 1.0f) scale(at.sums + size_t(row + q) * head_dim, head_dim, keep[q]);
    }
}

// The sums of Q rows grow by `count` keys or, paired, twice as many.
template <int Q, bool paired>
[[gnu::noinline]] void weigh_rows(int head_dim, int count, int row, const ManyScratch& at) {
    const float* weights = at.scores + row * kKeys;
    float* sums = at.sums + size_t(row) * head_dim;
    int column = 0;
    const float* values = at.values;
    constexpr int kMost = kVectors<Q>;
    for (; column + 16 * kMost <= head_dim; column += 16 * kMost) {
        float* to = sums + column;
        weigh_values<f32x16, Q, kMost, paired>(values + column, nullptr, count, head_dim, weights, to);
    }
    for (; column + 16 <= head_dim; column += 16) {
        weigh_values<f32x16, Q, 1, paired>(values + column, nullptr, count, head_dim, weights, sums + column);
    }
    if (column < head_dim) {
        weigh_values<f32x8, Q, 1, paired>(values + column, nullptr, count, head_dim, weights, sums + column);
    }
}

// Rows `first` .. `first + count` of the job, in the order [token, head of the group]; at most kManyRows.
template <typename T>
void attend_many(const AttentionJob& job, int first, int count, float* scratch) {
    const int head_dim = job.shape.head_dim;
    const ManyScratch at(scratch, head_dim);
    Progress rows[kManyRows];
    for (int row = 0; row < count; row++) {
        const int token = (first + row) / job.group, head = (first + row) % job.group;
        rows[row] = {position_of(job, token), -INFINITY, 0.0f};
        const float* query = job.queries + job.query_stride * token + size_t(head) * head_dim;
        float* to = at.queries + row / kSix * kSix * head_dim + row % kSix;
        if constexpr (kPaired<T>) pair_query<T>(query, head_dim, to);
        else for (int d = 0; d < head_dim; d++) to[d * kSix] = query[d];
    }
    std::memset(at.sums, 0, sizeof(float) * count * head_dim);
    const int64_t start = first_key(job, rows[0].position), stop = rows[count - 1].position + 1;
    for (int64_t tile = start / kKeys * kKeys; tile < stop; tile += kKeys) {
        // Rows follow their positions: those that see a key of this tile lie side by side.
        int from = 0, to = count;
        while (rows[from].position < tile) from++;
        while (first_key(job, rows[to - 1].position) >= tile + kKeys) to--;
        const auto end_of = [&](int row) {
            return std::min(tile + kKeys, rows[std::min(row + kSix, to) - 1].position + 1);
        };
        if constexpr (kPaired<T>) pair_tile<T>(job, tile, std::min(stop, tile + kKeys), at);
        else widen_tile<T>(job, tile, std::min(stop, tile + kKeys), at);
        from = from / kSix * kSix;
        for (int row = from; row < to; row += kSix) {
            with_count(to - row, [&]<int Q>() { score_rows<Q, T>(job, tile, end_of(row), row, rows, at); });
        }
        for (int row = from; row < to; row += kSix) {
            const int keys = int(end_of(row) - tile), count = kPaired<T> ? (keys + 1) / 2 : keys;
            with_count(to - row, [&]<int Q>() { weigh_rows<Q, kPaired<T>>(head_dim, count, row, at); });
        }
    }
    for (int row = 0; row < count; row++) {
        const int token = (first + row) / job.group, head = (first + row) % job.group;
        float* out = job.out + job.out_stride * token + size_t(head) * head_dim;
        std::memcpy(out, at.sums + size_t(row) * head_dim, sizeof(float) * head_dim);
        scale(out, head_dim, 1.0f / rows[row].total);
        if constexpr (kPaired<T>) drop_signs_of_zero<T>(out, head_dim);
    }
}

}  // namespace
}  // namespace cairn::CAIRN_ISA
