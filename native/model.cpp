// The step of a decoder as a list of steps of the pool. See model.h.
//
// A layer, with what its units are (T tokens, N outputs):
//
//   enter_attention  T            x' = x + post_norm(y);  rows = quantised norm(x')     } by each thread for
//   project          heads        q, k, v of a head: product, head norm, rotation, cache } itself if T <= 4
//   attend           tiles x kv heads
//   take_attended    T            rows = quantised heads
//   output           N / 32       y = product
//   enter_mlp        T            as above
//   inner            N / 32       quantised activation(gate) * up of 32 numbers
//   down             N / 32       y = product
//
// Where rows have adapters, each product but the head's has a step before it; see adapters.cpp.
//
// The residual stream goes to and fro between two buffers, so that a step may read what another thread's
// unit of the same step replaces.
#include "model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace cairn {

namespace {

const Norm kNoNorm;
std::atomic<uint64_t> next_model_id = 1;

}  // namespace

Model::Model(ModelSpec spec, int num_threads, bool pin, const std::string& kernels)
    : id_(next_model_id++),
      spec_(std::move(spec)),
      kernels_(chosen_kernels(kernels)),
      steps_(plan(spec_)),
      width_(padded(spec_.hidden_size, kTileRows)),
      head_width_(padded(spec_.head_dim, kTileRows)),
      private_(num_threads),
      pool_(*this, num_threads, pin, int(steps_.size())) {
    if (spec_.head_dim % 8) throw std::invalid_argument("head_dim must be a multiple of 8");
    if (!spec_.head) spec_.head = spec_.embedding;
    for (Layer& layer : spec_.layers) {
        pad_bias(layer.qkv_bias);
        pad_bias(layer.output_bias);
        pad_bias(layer.mlp.inner_bias);
        pad_bias(layer.mlp.down_bias);
    }
    find_weights();
}

size_t Model::num_bytes() const {
    size_t total = spec_.embedding->num_bytes();
    if (spec_.head != spec_.embedding) total += spec_.head->num_bytes();
    for (const Layer& layer : spec_.layers) {
        total += layer.qkv->num_bytes() + layer.output->num_bytes();
        for (const Mlp* mlp : {&layer.mlp, &layer.experts.shared}) {
            if (mlp->inner) total += mlp->inner->num_bytes() + mlp->down->num_bytes();
        }
        for (const Mlp& mlp : layer.experts.experts) total += mlp.inner->num_bytes() + mlp.down->num_bytes();
    }
    return total;
}

size_t Model::bytes_per_block(int block_size, CacheType type) const {
    const CacheShape shape{type, block_size, spec_.head_dim};
    return shape.chunk_bytes() * spec_.num_kv_heads * spec_.layers.size();
}

void Model::allocate_cache(int num_blocks, int block_size, CacheType type) {
    size_t num_bytes;
    if (__builtin_mul_overflow(bytes_per_block(block_size, type), size_t(num_blocks), &num_bytes)) {
        throw std::bad_alloc();
    }
    cache_ = Buffer(num_bytes);
    shape_ = {type, block_size, spec_.head_dim};
    num_blocks_ = num_blocks;
}

void Model::clear_blocks(const std::vector<int64_t>& blocks) {
    const size_t size = shape_.chunk_bytes() * spec_.num_kv_heads;
    for (int layer = 0; layer < int(spec_.layers.size()); layer++) {
        for (int64_t block : blocks) std::memset(chunk(layer, block, 0), 0, size);
    }
}

void Model::copy_blocks(const std::vector<std::pair<int64_t, int64_t>>& pairs) {
    const size_t size = shape_.chunk_bytes() * spec_.num_kv_heads;
    for (const auto& [from, to] : pairs) {
        if (from == to) continue;
        for (int layer = 0; layer < int(spec_.layers.size()); layer++) {
            std::memcpy(chunk(layer, to, 0), chunk(layer, from, 0), size);
        }
    }
}

void Model::forward(const StepInput& input) {
    input_ = input;
    // As many tokens as share a widened key well, fewer where some threads would have none.
    const int share = input.num_tokens * spec_.num_kv_heads / (4 * num_threads());
    tile_tokens_ = std::clamp(share, 8, std::max(8, kAttentionRows * spec_.num_kv_heads / spec_.num_heads));
    tiles_.clear();
    for (int row = 0; row < input.num_decodes; row++) add_decode(row);
    for (const StepInput::Span& span : input.spans) {
        for (int64_t at = span.start; at < span.stop; at += tile_tokens_) {
            const int count = int(std::min<int64_t>(tile_tokens_, span.stop - at));
            tiles_.push_back({span.row + at - span.start, at, count, span.blocks});
        }
    }
    make_room(input);
    take_adapters();
    units_.clear();
    for (const Planned& planned : steps_) units_.push_back(units_of(planned));
    for (Private& own : private_) own.prepared = -1;
    has_few_rows_.store(is_private(input.num_tokens), std::memory_order_relaxed);
    pool_.run(units_);
    for (int row = 0; row < int(input.logit_rows.size()); row++) input.likeliest[row] = likeliest(row);
}

void Model::run(int step, int unit, int thread) {
    const Kind kind = steps_[step].kind;
    const int index = steps_[step].layer;
    const Layer& layer = spec_.layers[index];
    Private& own = private_[thread];
    const int num_tokens = input_.num_tokens;
    switch (kind) {
        case Kind::embed: return embed(unit);
        case Kind::enter_attention: return enter_attention(index, unit, hidden_rows_, own.hidden);
        case Kind::project: return project(step, index, unit, own);
        case Kind::norm_whole: return norm_whole(index, unit);
        case Kind::attend: return attend(index, unit, own);
        case Kind::take_attended: {
            const int size = spec_.num_heads * spec_.head_dim;
            return kernels_.take_row(attended_.data() + size_t(unit) * size, size, attended_rows_, unit);
        }
        case Kind::output: {
            const Activations& rows = entered(step, kind, index, num_tokens, attended_rows_, own);
            return multiply_rows(index, Projection::output, layer.output, layer.output_bias, rows, unit, y_.data());
        }
        case Kind::enter_mlp: return enter_mlp(index, unit, hidden_rows_, own.hidden);
        case Kind::inner: {
            const bool is_shared = layer.experts.is_there();
            const Activations& rows =
                is_shared ? hidden_rows_ : entered(step, kind, index, num_tokens, hidden_rows_, own);
            if (!is_shared && unit == 0 && is_private(num_tokens)) {
                for (int t = 0; t < num_tokens; t++) add_residual(t, x(1, t), layer.attention_post_norm, x(0, t));
            }
            const Mlp& mlp = is_shared ? layer.experts.shared : layer.mlp;
            return inner(adapting(index, Projection::inner), mlp, rows, nullptr, num_tokens, unit, 0, mid_rows_, own);
        }
        case Kind::down: {
            const Mlp& mlp = layer.experts.is_there() ? layer.experts.shared : layer.mlp;
            return multiply_rows(index, Projection::down, mlp.down, mlp.down_bias, mid_rows_, unit, y_.data());
        }
        case Kind::route: return route(index, unit, own);
        case Kind::group: return group_tokens(index);
        case Kind::expert_inner: {
            const int blocks = layer.experts.experts[0].down->width() / kUnitRows, expert = unit / blocks;
            const int first = routing_.starts[expert], count = routing_.starts[expert + 1] - first;
            const int32_t* tokens = routing_.token_of_slot.data() + first;
            return inner(adapting_expert(index, expert, expert_inner_product(expert)), layer.experts.experts[expert],
                         hidden_rows_, tokens, count, unit % blocks, first, expert_rows_, own);
        }
        case Kind::expert_down: return expert_down(index, unit);
        case Kind::combine: return combine(index, unit);
        case Kind::enter_head: return enter_head(unit, head_rows_, own.hidden);
        case Kind::head: return head(step, unit, own);
        case Kind::shrink_qkv: return shrink(index, Projection::qkv, unit, hidden_rows_, own);
        case Kind::shrink_output: return shrink(index, Projection::output, unit, attended_rows_, own);
        case Kind::shrink_inner: return shrink(index, Projection::inner, unit, hidden_rows_, own);
        case Kind::shrink_down: return shrink(index, Projection::down, unit, mid_rows_, own);
        case Kind::shrink_expert_inner: return shrink_expert(index, unit, false, own);
        case Kind::shrink_expert_down: return shrink_expert(index, unit, true, own);
    }
}

// With few tokens the products wait for memory: while a thread waits for others, its own next weights come nearer.
void Model::wait(int step, int thread, int turn) {
    const int next = steps_[step].next_product;
    if (next < 0 || turn >= kAheadTurns || !has_few_rows_.load(std::memory_order_relaxed)) return;
    const Planned& product = steps_[next];
    const uint8_t* first = product.weights->tile(pool_.first_unit(next, thread) * product.unit_tiles);
    const uint8_t* from = first + size_t(turn) * 256;
    for (int line = 0; line < 4; line++) __builtin_prefetch(from + 64 * line, 0, 2);
}

// Guessed tokens follow each other in one sequence: they read its keys together.
void Model::add_decode(int row) {
    const int64_t position = input_.positions[row];
    const int64_t* blocks = input_.decode_tables + row * input_.table_width;
    if (!tiles_.empty()) {
        QueryTile& last = tiles_.back();
        const int64_t num_blocks = (position - 1) / shape_.block_size + 1;
        if (last.position + last.num_tokens == position && last.num_tokens < tile_tokens_ &&
            std::equal(blocks, blocks + num_blocks, last.blocks)) {
            last.num_tokens++;
            last.blocks = blocks;  // one block longer, maybe
            return;
        }
    }
    tiles_.push_back({row, position, 1, blocks});
}

// ---- tokens in, and the residual stream

void Model::embed(int token) {
    float* to = x(0, token);
    unpack_row(*spec_.embedding, int(input_.token_ids[token]), to);
    if (spec_.embedding_scale != 1.0f) {
        for (int i = 0; i < spec_.hidden_size; i++) to[i] *= spec_.embedding_scale;
    }
    const int64_t position = input_.positions[token];
    if (spec_.position_embedding) {
        Vector row(spec_.hidden_size);
        unpack_row(*spec_.position_embedding, int(position), row.data());
        kernels_.add(to, row.data(), spec_.hidden_size, to);
    }
    for (int index = 0; index < int(spec_.ropes.size()); index++) {
        const Rope& rope = spec_.ropes[index];
        const int half = rope.rotary_dim / 2;
        auto* out = const_cast<float*>(angles(index, token));
        for (int i = 0; i < half; i++) {
            const float angle = float(position) * rope.frequencies[i];
            out[i] = std::cos(angle) * rope.factor;
            out[half + i] = std::sin(angle) * rope.factor;
        }
    }
}

// Cosines, then sines of a token's position [rotary_dim].
const float* Model::angles(int rope, int token) const {
    size_t before = 0, total = 0;
    for (int i = 0; i < int(spec_.ropes.size()); i++) {
        if (i < rope) before += spec_.ropes[i].rotary_dim;
        total += spec_.ropes[i].rotary_dim;
    }
    return angles_.data() + total * token + before;
}

// out = x + post_norm(y of a row)
void Model::add_residual(int64_t row, const float* x, const Norm& post_norm, float* out) const {
    const float* y = y_.data() + row * width_;
    if (!post_norm.is_there()) return kernels_.add(x, y, spec_.hidden_size, out);
    kernels_.norm(y, spec_.hidden_size, post_norm.spec(spec_.norm_eps), out);
    kernels_.add(x, out, spec_.hidden_size, out);
}

// Row `row` of `out` = norm(from + post_norm(y)); the sum goes to `to` where that is given.
void Model::enter(int row, int64_t from_row, const Norm& post_norm, const Norm& norm, bool has_residual,
                  const float* from, float* to, Activations& out, Vector& hidden) {
    const int size = spec_.hidden_size;
    float* sum = to ? to : hidden.data();
    if (has_residual) {
        add_residual(from_row, from, post_norm, sum);
    } else {
        std::memcpy(sum, from, size * sizeof(float));
    }
    if (!norm.is_there()) return kernels_.take_row(sum, size, out, row);
    float* normed = hidden.data() + width_;
    kernels_.norm(sum, size, norm.spec(spec_.norm_eps), normed);
    kernels_.take_row(normed, size, out, row);
}

void Model::enter_attention(int index, int token, Activations& out, Vector& hidden) {
    const Norm& post_norm = index ? spec_.layers[index - 1].mlp_post_norm : kNoNorm;
    float* to = &out == &hidden_rows_ ? x(1, token) : nullptr;
    enter(token, token, post_norm, spec_.layers[index].attention_norm, index > 0, x(0, token), to, out, hidden);
}

void Model::enter_mlp(int index, int token, Activations& out, Vector& hidden) {
    const Layer& layer = spec_.layers[index];
    float* to = &out == &hidden_rows_ ? x(0, token) : nullptr;
    enter(token, token, layer.attention_post_norm, layer.mlp_norm, true, x(1, token), to, out, hidden);
    if (layer.experts.is_there()) {
        const float* normed = layer.mlp_norm.is_there() ? hidden.data() + width_ : to;
        kernels_.take_row(normed, spec_.hidden_size, router_rows_, token);
    }
}

void Model::enter_head(int row, Activations& out, Vector& hidden) {
    const int64_t from = input_.logit_rows[row];
    enter(row, from, spec_.layers.back().mlp_post_norm, spec_.norm, true, x(0, from), nullptr, out, hidden);
}

// The rows that a product of this step reads: made by the step before, or now by this thread.
const Activations& Model::entered(int step, Kind kind, int layer, int num_rows, const Activations& shared,
                                  Private& own) {
    if (!is_private(num_rows)) return shared;
    if (own.prepared == step) return own.rows;
    own.prepared = step;
    own.rows.shape(kFewRows, shared.width, shared.format);
    for (int row = 0; row < num_rows; row++) {
        switch (kind) {
            case Kind::project: enter_attention(layer, row, own.rows, own.hidden); break;
            case Kind::inner: enter_mlp(layer, row, own.rows, own.hidden); break;
            case Kind::head: enter_head(row, own.rows, own.hidden); break;
            default: {
                const int size = spec_.num_heads * spec_.head_dim;
                kernels_.take_row(attended_.data() + size_t(row) * size, size, own.rows, row);
            }
        }
    }
    return own.rows;
}

// ---- attention

void Model::project(int step, int index, int head, Private& own) {
    const Layer& layer = spec_.layers[index];
    const int num_tokens = input_.num_tokens;
    const Activations& rows = entered(step, Kind::project, index, num_tokens, hidden_rows_, own);
    if (head == 0 && is_private(num_tokens)) {
        for (int t = 0; t < num_tokens; t++) {
            if (index) add_residual(t, x(0, t), spec_.layers[index - 1].mlp_post_norm, x(1, t));
            else std::memcpy(x(1, t), x(0, t), spec_.hidden_size * sizeof(float));
        }
    }
    const int tiles = head_width_ / kTileRows;
    const int num_q = spec_.num_heads, num_k = spec_.num_kv_heads;
    const int part = head < num_q ? 0 : head < num_q + num_k ? 1 : 2;
    const int within = part == 0 ? head : (head - num_q) % num_k;
    const Adapting change = adapting(index, Projection::qkv);
    fetch_panels(change, part, within * head_width_, head_width_);
    kernels_.matmul({layer.qkv.get(), &rows, nullptr, num_tokens, head * tiles, tiles,
                     bias_or_null(layer.qkv_bias), own.product.data(), size_t(head_width_)});
    expand(change, part, within * head_width_, head_width_, own.product.data(), size_t(head_width_));
    for (int t = 0; t < num_tokens; t++) {
        finish_head(layer, index, head, t, own.product.data() + size_t(t) * head_width_);
    }
}

// What becomes of one head's product: queries to their buffer, keys and values to the cache.
void Model::finish_head(const Layer& layer, int index, int head, int token, float* values) {
    const int num_q = spec_.num_heads, num_k = spec_.num_kv_heads, size = spec_.head_dim;
    if (head >= num_q + num_k) return write_cache(index, head - num_q - num_k, token, nullptr, values);
    const bool is_query = head < num_q;
    float* query = queries_.data() + (size_t(token) * num_q + head) * size;
    if (spec_.norms_whole_projection) {
        float* key = keys_.data() + (size_t(token) * num_k + head - num_q) * size;
        std::memcpy(is_query ? query : key, values, size * sizeof(float));
        return;
    }
    const Norm& norm = is_query ? layer.q_norm : layer.k_norm;
    if (norm.is_there()) kernels_.norm(values, size, norm.spec(spec_.norm_eps), values);
    if (layer.rope >= 0) {
        const int rotary_dim = spec_.ropes[layer.rope].rotary_dim;
        const float* cos = angles(layer.rope, token);
        kernels_.rotate(values, rotary_dim, cos, cos + rotary_dim / 2);
    }
    if (is_query) std::memcpy(query, values, size * sizeof(float));
    else write_cache(index, head - num_q, token, values, nullptr);
}

void Model::write_cache(int layer, int head, int token, const float* key, const float* value) {
    const int64_t slot = input_.slots[token];
    uint8_t* to = chunk(layer, slot / shape_.block_size, head);
    kernels_.write_key_value(shape_, to, int(slot % shape_.block_size), key, value);
}

// Norms over all heads of the queries and of the keys, then what `finish_head` does.
void Model::norm_whole(int index, int token) {
    const Layer& layer = spec_.layers[index];
    const int num_q = spec_.num_heads, num_k = spec_.num_kv_heads, size = spec_.head_dim;
    float* query = queries_.data() + size_t(token) * num_q * size;
    float* key = keys_.data() + size_t(token) * num_k * size;
    kernels_.norm(query, num_q * size, layer.q_norm.spec(spec_.norm_eps), query);
    kernels_.norm(key, num_k * size, layer.k_norm.spec(spec_.norm_eps), key);
    for (int head = 0; head < num_q + num_k; head++) {
        float* values = head < num_q ? query + head * size : key + (head - num_q) * size;
        if (layer.rope >= 0) {
            const int rotary_dim = spec_.ropes[layer.rope].rotary_dim;
            const float* cos = angles(layer.rope, token);
            kernels_.rotate(values, rotary_dim, cos, cos + rotary_dim / 2);
        }
        if (head >= num_q) write_cache(index, head - num_q, token, values, nullptr);
    }
}

void Model::attend(int index, int unit, Private& own) {
    const Layer& layer = spec_.layers[index];
    // Queries of one head follow each other: sequences may begin with the same keys.
    const int num_tiles = int(tiles_.size()), head = unit / num_tiles, group = spec_.num_heads / spec_.num_kv_heads;
    const QueryTile& tile = tiles_[unit % num_tiles];
    const size_t stride = size_t(spec_.num_heads) * spec_.head_dim;
    const size_t at = tile.row * stride + size_t(head) * group * spec_.head_dim;
    const size_t block_stride = shape_.chunk_bytes() * spec_.num_kv_heads;
    kernels_.attend({shape_, chunk(index, 0, head), block_stride, tile.blocks, queries_.data() + at, stride,
                     attended_.data() + at, stride, tile.position, 0, tile.num_tokens, group, layer.scale,
                     layer.window, layer.softcap},
                    own.attention.data());
}

// ---- products

// 32 outputs of all tokens, to `out` [T, hidden].
void Model::multiply_rows(int layer, Projection projection, const Weights& matrix, const Vector& bias,
                          const Activations& input, int unit, float* out) {
    const int first = unit * (kUnitRows / kTileRows);
    const int tiles = std::min(kUnitRows / kTileRows, matrix->num_tiles() - first);
    const Adapting change = adapting(layer, projection);
    fetch_panels(change, 0, first * kTileRows, tiles * kTileRows);
    kernels_.matmul({matrix.get(), &input, nullptr, input_.num_tokens, first, tiles, bias_or_null(bias),
                     out + size_t(first) * kTileRows, size_t(width_)});
    expand(change, 0, first * kTileRows, tiles * kTileRows, out + size_t(first) * kTileRows, size_t(width_));
}

// 32 numbers between the two products of an MLP, for `num_rows` rows of `input`; to rows `first_out` ..
void Model::inner(const Adapting& change, const Mlp& mlp, const Activations& input, const int32_t* rows, int num_rows,
                  int unit, int first_out, Activations& out, Private& own) {
    if (num_rows == 0) return;
    const int tiles = (spec_.gated ? 2 : 1) * kUnitRows / kTileRows;
    const size_t columns = size_t(tiles) * kTileRows;
    grow(own.product, num_rows * columns);
    float* product = own.product.data();
    const int num_parts = spec_.gated ? 2 : 1;
    for (int part = 0; part < num_parts; part++) fetch_panels(change, part, unit * kUnitRows, kUnitRows);
    kernels_.matmul({mlp.inner.get(), &input, rows, num_rows, unit * tiles, tiles, bias_or_null(mlp.inner_bias),
                     product, columns});
    for (int part = 0; part < num_parts; part++) {
        expand(change, part, unit * kUnitRows, kUnitRows, product + part * kUnitRows, columns);
    }
    for (int row = 0; row < num_rows; row++) {
        float* values = product + row * columns;
        kernels_.activate(values, spec_.gated ? values + kUnitRows : nullptr, kUnitRows, spec_.activation, values);
        kernels_.take_group(values, out, first_out + row, unit);
    }
}

void Model::head(int step, int unit, Private& own) {
    const int num_rows = int(input_.logit_rows.size());
    const Activations& rows = entered(step, Kind::head, 0, num_rows, head_rows_, own);
    const int first = unit * (kHeadRows / kTileRows);
    const int tiles = std::min(kHeadRows / kTileRows, spec_.head->num_tiles() - first);
    const int count = std::min(kHeadRows, spec_.vocab_size - unit * kHeadRows);
    kernels_.matmul({spec_.head.get(), &rows, nullptr, num_rows, first, tiles, nullptr, own.product.data(),
                     size_t(kHeadRows)});
    for (int row = 0; row < num_rows; row++) {
        float* values = own.product.data() + size_t(row) * kHeadRows;
        if (spec_.logit_softcap) kernels_.softcap(values, count, spec_.logit_softcap);
        float* to = input_.logits + size_t(row) * spec_.vocab_size + size_t(unit) * kHeadRows;
        std::memcpy(to, values, count * sizeof(float));
        peaks_[size_t(row) * count_units(spec_.vocab_size, kHeadRows) + unit] = kernels_.peak(to, count);
    }
}

int64_t Model::likeliest(int row) const {
    const int num_units = count_units(spec_.vocab_size, kHeadRows);
    const float* peaks = peaks_.data() + size_t(row) * num_units;
    int best = 0;
    for (int unit = 0; unit < num_units; unit++) {
        if (std::isnan(peaks[unit])) return -1;
        if (peaks[unit] > peaks[best]) best = unit;
    }
    const float* scores = input_.logits + size_t(row) * spec_.vocab_size;
    return std::find(scores + best * kHeadRows, scores + spec_.vocab_size, peaks[best]) - scores;
}

}  // namespace cairn
