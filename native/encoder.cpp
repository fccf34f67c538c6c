// The forward pass of an encoder as a list of steps of the pool. See encoder.h.
//
// Between two attentions a block of rows goes through all products of a layer in one unit, so what lies
// between them stays in the cache of one core (T tokens, B rows a block):
//
//   embed      T / B           x = norm(word + position + type);  q, k, v of the first layer
//   attend     tiles           a head of a text, up to 192 queries at a time
//   finish     T / B           x = norm(x + output(attended)); x = norm(x + down(activation(inner(x))));
//                              q, k, v of the next layer
//   head       texts or T / B  pooling, dense, output, normalisation
#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cairn {

int EncoderSpec::out_width() const {
    return head.output ? head.output->num_rows : head.dense ? head.dense->num_rows : hidden_size;
}

Encoder::Encoder(EncoderSpec spec, int num_threads, bool pin, const std::string& kernels)
    : spec_(std::move(spec)),
      kernels_(chosen_kernels(kernels)),
      head_width_(padded(spec_.head_dim(), kTileRows)),
      private_(num_threads),
      pool_(*this, num_threads, pin, 2 + 2 * int(spec_.layers.size())) {
    for (EncoderLayer& layer : spec_.layers) {
        for (Vector* bias : {&layer.qkv_bias, &layer.output_bias, &layer.mlp.inner_bias, &layer.mlp.down_bias}) {
            pad_bias(*bias);
        }
    }
    pad_bias(spec_.head.dense_bias);
    pad_bias(spec_.head.output_bias);
}

size_t Encoder::num_bytes() const {
    size_t total = spec_.embedding->num_bytes() + (spec_.positions.size() + spec_.types.size()) * sizeof(float);
    for (const EncoderLayer& layer : spec_.layers) {
        total += layer.qkv->num_bytes() + layer.output->num_bytes();
        total += layer.mlp.inner->num_bytes() + layer.mlp.down->num_bytes();
    }
    for (const Weights& matrix : {spec_.head.dense, spec_.head.output}) {
        if (matrix) total += matrix->num_bytes();
    }
    return total;
}

void Encoder::forward(const EncoderInput& input) {
    if (input.num_texts == 0) return;
    input_ = input;
    const int num_tokens = input.num_tokens();
    // Few rows are shared out in small blocks; many in blocks that keep a core busy and fit its cache.
    block_rows_ = std::clamp(padded(num_tokens / (2 * num_threads()), 4), 4, kBlockRows);
    make_room();
    const int blocks = count_units(num_tokens, block_rows_), tiles = int(tiles_.size());
    units_.assign(1, blocks);
    for (size_t layer = 0; layer < spec_.layers.size(); layer++) {
        units_.push_back(tiles);
        units_.push_back(blocks);
    }
    units_.push_back(spec_.head.pooling == Pooling::tokens ? blocks : input.num_texts);
    pool_.run(units_);
}

void Encoder::make_room() {
    const size_t num_tokens = input_.num_tokens();
    grow(x_, num_tokens * spec_.hidden_size);
    grow(queries_, num_tokens * spec_.hidden_size);
    grow(attended_, num_tokens * spec_.hidden_size);
    grow(text_of_, num_tokens);
    chunks_.clear();
    tiles_.clear();
    size_t end = 0;
    for (int text = 0; text < input_.num_texts; text++) {
        const int64_t start = input_.bounds[text], length = input_.bounds[text + 1] - start;
        std::fill_n(text_of_.begin() + start, length, text);
        chunks_.push_back(end);
        end += shape_of(text).chunk_bytes() * spec_.num_heads;
        for (int head = 0; head < spec_.num_heads; head++) {
            for (int64_t first = 0; first < length; first += kTileQueries) {
                tiles_.push_back({text, head, first, int(std::min<int64_t>(kTileQueries, length - first))});
            }
        }
    }
    grow(keys_values_, end);
    const Format format = spec_.layers[0].qkv->format;
    int inner = 0, widest = spec_.hidden_size;
    for (const EncoderLayer& layer : spec_.layers) {
        inner = std::max(inner, layer.mlp.down->width());
        widest = std::max(widest, layer.qkv->num_rows);
    }
    for (Private& own : private_) {
        own.rows.shape(block_rows_, spec_.hidden_size, format);
        own.inner_rows.shape(block_rows_, inner, format);
        grow(own.product, size_t(block_rows_) * std::max(padded(widest, kTileRows), kInnerRows));
        grow(own.attention, attention_scratch(spec_.head_dim()));
        grow(own.pooled, size_t(2) * padded(std::max(spec_.hidden_size, spec_.out_width()), kTileRows));
    }
}

void Encoder::run(int step, int unit, int thread) {
    Private& own = private_[thread];
    const int first = unit * block_rows_, count = std::min(block_rows_, input_.num_tokens() - first);
    if (step == 0) return embed(first, count, own);
    if (step + 1 == int(units_.size())) {
        if (spec_.head.pooling != Pooling::tokens) {
            pool_text(unit, own.pooled.data());
            return apply_head(own.pooled.data(), input_.out + size_t(unit) * spec_.out_width(), own);
        }
        for (int row = first; row < first + count; row++) {
            apply_head(x(row), input_.out + size_t(row) * spec_.out_width(), own);
        }
        return;
    }
    if (step % 2 == 1) return attend(tiles_[unit], own);
    finish(step / 2 - 1, first, count, own);
}

// ---- layers

void Encoder::embed(int first, int count, Private& own) {
    const int size = spec_.hidden_size;
    for (int row = first; row < first + count; row++) {
        float* to = x(row);
        unpack_row(*spec_.embedding, int(input_.token_ids[row]), to);
        if (spec_.num_types()) kernels_.add(to, spec_.types.data() + input_.types[row] * size, size, to);
        const int64_t position = row - input_.bounds[text_of_[row]];
        kernels_.add(to, spec_.positions.data() + position * size, size, to);
        kernels_.norm(to, size, spec_.norm.spec(spec_.norm_eps), to);
    }
    project(spec_.layers[0], first, count, own);
}

// Queries to their buffer, keys and values to the chunks of their texts.
void Encoder::project(const EncoderLayer& layer, int first, int count, Private& own) {
    const int heads = spec_.num_heads, size = spec_.head_dim();
    for (int t = 0; t < count; t++) kernels_.take_row(x(first + t), spec_.hidden_size, own.rows, t);
    multiply(*layer.qkv, layer.qkv_bias, own.rows, count, own);
    for (int t = 0; t < count; t++) {
        const int row = first + t, text = text_of_[row], offset = int(row - input_.bounds[text]);
        const float* values = own.product.data() + size_t(t) * layer.qkv->num_rows;
        const CacheShape shape = shape_of(text);
        for (int head = 0; head < heads; head++) {
            const float* query = values + size_t(head) * head_width_;
            std::memcpy(queries_.data() + size_t(row) * spec_.hidden_size + head * size, query, size * sizeof(float));
            const float* key = query + size_t(heads) * head_width_;
            kernels_.write_key_value(shape, keys_of(text, head), offset, key, key + size_t(heads) * head_width_);
        }
    }
}

void Encoder::attend(const QueryTile& tile, Private& own) {
    static constexpr int64_t kOnlyBlock = 0;
    const CacheShape shape = shape_of(tile.text);
    const size_t stride = spec_.hidden_size;
    const size_t at = (input_.bounds[tile.text] + tile.first) * stride + size_t(tile.head) * spec_.head_dim();
    AttentionJob job{};
    job.shape = shape;
    job.cache = keys_of(tile.text, tile.head);
    job.blocks = &kOnlyBlock;
    job.queries = queries_.data() + at;
    job.out = attended_.data() + at;
    job.query_stride = job.out_stride = stride;
    job.num_tokens = tile.count;
    job.group = 1;
    job.scale = 1.0f / std::sqrt(float(spec_.head_dim()));
    job.num_keys = shape.block_size;
    kernels_.attend(job, own.attention.data());
}

void Encoder::finish(int index, int first, int count, Private& own) {
    const EncoderLayer& layer = spec_.layers[index];
    const int size = spec_.hidden_size;
    for (int t = 0; t < count; t++) kernels_.take_row(attended_.data() + size_t(first + t) * size, size, own.rows, t);
    multiply(*layer.output, layer.output_bias, own.rows, count, own);
    add_and_norm(first, count, layer.attention_norm, own);
    for (int t = 0; t < count; t++) kernels_.take_row(x(first + t), size, own.rows, t);
    inner(layer.mlp, count, own);
    multiply(*layer.mlp.down, layer.mlp.down_bias, own.inner_rows, count, own);
    add_and_norm(first, count, layer.mlp_norm, own);
    if (index + 1 < int(spec_.layers.size())) project(spec_.layers[index + 1], first, count, own);
}

// inner_rows = activation(W x + b), 128 numbers of all rows at a time.
void Encoder::inner(const Mlp& mlp, int count, Private& own) {
    const int num_tiles = mlp.down->width() / kTileRows;
    for (int first = 0; first < num_tiles; first += kInnerRows / kTileRows) {
        const int tiles = std::min(kInnerRows / kTileRows, num_tiles - first), columns = tiles * kTileRows;
        kernels_.matmul({mlp.inner.get(), &own.rows, nullptr, count, first, tiles, bias_or_null(mlp.inner_bias),
                         own.product.data(), size_t(columns)});
        for (int t = 0; t < count; t++) {
            float* values = own.product.data() + size_t(t) * columns;
            kernels_.activate(values, nullptr, columns, spec_.activation, values);
            for (int at = 0; at < columns; at += kGroup) {
                kernels_.take_group(values + at, own.inner_rows, t, (first * kTileRows + at) / kGroup);
            }
        }
    }
}

// x = norm(x + y), y the product of the rows.
void Encoder::add_and_norm(int first, int count, const Norm& norm, Private& own) {
    const size_t stride = padded(spec_.hidden_size, kTileRows);
    for (int t = 0; t < count; t++) {
        float* row = x(first + t);
        kernels_.add(row, own.product.data() + t * stride, spec_.hidden_size, row);
        kernels_.norm(row, spec_.hidden_size, norm.spec(spec_.norm_eps), row);
    }
}

// own.product [count, rows of the matrix padded to its tiles]
void Encoder::multiply(const Matrix& matrix, const Vector& bias, const Activations& rows, int count, Private& own) {
    const int num_tiles = matrix.num_tiles();
    kernels_.matmul({&matrix, &rows, nullptr, count, 0, num_tiles, bias_or_null(bias), own.product.data(),
                     size_t(num_tiles) * kTileRows});
}

// ---- head

void Encoder::pool_text(int text, float* out) const {
    const int64_t start = input_.bounds[text], stop = input_.bounds[text + 1];
    const int size = spec_.hidden_size;
    std::memcpy(out, x(start), size * sizeof(float));
    if (spec_.head.pooling == Pooling::first) return;
    for (int64_t row = start + 1; row < stop; row++) {
        const float* values = x(row);
        if (spec_.head.pooling == Pooling::mean) {
            kernels_.add(out, values, size, out);
        } else {
            for (int i = 0; i < size; i++) out[i] = std::max(out[i], values[i]);
        }
    }
    if (spec_.head.pooling == Pooling::mean) {
        for (int i = 0; i < size; i++) out[i] /= float(stop - start);
    }
}

// out = normalised(output(activation(dense(row)))), each where it is there.
void Encoder::apply_head(const float* row, float* out, Private& own) {
    const EncoderHead& head = spec_.head;
    int size = spec_.hidden_size;
    float* product = own.pooled.data() + own.pooled.size() / 2;
    const auto step = [&](const Matrix& matrix, const Vector& bias) {
        own.head_rows.shape(1, size, matrix.format);
        kernels_.take_row(row, size, own.head_rows, 0);
        kernels_.matmul({&matrix, &own.head_rows, nullptr, 1, 0, matrix.num_tiles(), bias_or_null(bias), product,
                         size_t(matrix.num_tiles()) * kTileRows});
        row = product;
        size = matrix.num_rows;
    };
    if (head.dense) {
        step(*head.dense, head.dense_bias);
        for (int i = 0; i < size; i++) {
            if (head.activation == HeadActivation::tanh) product[i] = std::tanh(product[i]);
            if (head.activation == HeadActivation::relu) product[i] = std::max(product[i], 0.0f);
        }
    }
    if (head.output) step(*head.output, head.output_bias);
    float scale = 1.0f;
    if (head.normalise) {
        double squares = 0.0;
        for (int i = 0; i < size; i++) squares += double(row[i]) * row[i];
        scale = float(1.0 / std::max(std::sqrt(squares), 1e-12));
    }
    for (int i = 0; i < size; i++) out[i] = row[i] * scale;
}

}  // namespace cairn
