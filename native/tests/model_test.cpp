// A whole model with random weights: the same bits with one thread and with three, in one piece, in
// chunks, and token by token beside another sequence, for every weight format and kind of layer.
//
// Built with AddressSanitizer it shows that no step leaves its buffers; with ThreadSanitizer, that the
// steps of a layer hand their results on without races. Run on an emulated ARM, the same for NEON.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "model.h"

using namespace cairn;

namespace {

constexpr int kVocab = 100, kHidden = 48, kHeads = 4, kKvHeads = 2, kHeadDim = 24, kInner = 40;
constexpr int kLength = 37, kBlocks = 12;

int num_failures = 0;
uint32_t state = 7;

float number() {
    state = state * 1664525 + 1013904223;
    return float(int32_t(state >> 8) - (1 << 23)) / float(1 << 24);
}

Vector numbers(size_t count) {
    Vector out(count);
    for (float& value : out) value = number();
    return out;
}

Weights matrix(int rows, int inputs, Format format) {
    return std::make_shared<Matrix>(pack(numbers(size_t(rows) * size_t(inputs)).data(), rows, inputs, format));
}

Norm norm(int size, bool is_layer_norm = false) {
    return {numbers(size_t(size)), is_layer_norm ? numbers(size_t(size)) : Vector{}};
}

Mlp mlp(Format format, bool is_gated, bool has_bias) {
    const int inner = (is_gated ? 2 : 1) * padded(kInner, 32);
    return {matrix(inner, kHidden, format), matrix(kHidden, kInner, format),
            has_bias ? numbers(size_t(inner)) : Vector{}, has_bias ? numbers(kHidden) : Vector{}};
}

// What a layer may have; a model has two of the same.
struct Kind {
    const char* name;
    bool is_gated = true, has_bias = false, norms_heads = false, norms_whole = false, has_experts = false;
    int64_t window = 0;
    float softcap = 0;
};

Layer layer_of(const Kind& kind, Format format) {
    Layer layer;
    layer.attention_norm = norm(kHidden, kind.has_bias);
    layer.mlp_norm = norm(kHidden, kind.has_bias);
    if (kind.norms_heads) {
        layer.attention_post_norm = norm(kHidden);
        layer.mlp_post_norm = norm(kHidden);
        layer.q_norm = norm(kHeadDim);
        layer.k_norm = norm(kHeadDim);
    }
    if (kind.norms_whole) {
        layer.q_norm = norm(kHeads * kHeadDim);
        layer.k_norm = norm(kKvHeads * kHeadDim);
    }
    const int qkv_rows = (kHeads + 2 * kKvHeads) * padded(kHeadDim, kTileRows);
    layer.qkv = matrix(qkv_rows, kHidden, format);
    layer.output = matrix(kHidden, kHeads * kHeadDim, format);
    if (kind.has_bias) {
        layer.qkv_bias = numbers(size_t(qkv_rows));
        layer.output_bias = numbers(kHidden);
    }
    layer.rope = kind.has_bias ? -1 : 0;
    layer.scale = 0.2f;
    layer.window = kind.window;
    layer.softcap = kind.softcap;
    if (!kind.has_experts) {
        layer.mlp = mlp(format, kind.is_gated, kind.has_bias);
        return layer;
    }
    layer.experts.num_per_token = 2;
    layer.experts.router = matrix(5, kHidden, Format::float32);
    for (int i = 0; i < 5; i++) layer.experts.experts.push_back(mlp(format, kind.is_gated, false));
    layer.experts.shared = mlp(format, kind.is_gated, false);
    layer.experts.shared_gate = matrix(1, kHidden, Format::float32);
    return layer;
}

ModelSpec spec_of(const Kind& kind, Format format) {
    ModelSpec spec;
    spec.vocab_size = kVocab, spec.hidden_size = kHidden;
    spec.num_heads = kHeads, spec.num_kv_heads = kKvHeads, spec.head_dim = kHeadDim;
    spec.norm_eps = 1e-5f;
    spec.logit_softcap = kind.softcap;
    spec.norms_whole_projection = kind.norms_whole;
    spec.gated = kind.is_gated;
    spec.embedding = matrix(kVocab, kHidden, format);
    if (kind.has_bias) spec.position_embedding = matrix(64, kHidden, Format::float32);
    spec.norm = norm(kHidden, kind.has_bias);
    spec.ropes = {{16, 1.0f, {1.0f, 0.3f, 0.1f, 0.03f, 0.01f, 0.003f, 0.001f, 0.0003f}}};
    spec.layers = {layer_of(kind, format), layer_of(kind, format)};
    return spec;
}

struct Sequence {
    std::vector<int64_t> tokens, blocks;
};

Sequence sequence(int64_t first_token, const std::vector<int64_t>& blocks) {
    Sequence out{std::vector<int64_t>(kLength), blocks};
    for (int i = 0; i < kLength; i++) out.tokens[size_t(i)] = (first_token + 31 * i) % kVocab;
    return out;
}

// Logits of the tokens `start` .. `stop` of `prompt` beside one decoded token of each of `others`.
Vector step(Model& model, const Sequence& prompt, int64_t start, int64_t stop,
            const std::vector<std::pair<const Sequence*, int64_t>>& others = {}) {
    std::vector<int64_t> ids, positions, slots, tables, rows;
    const int block_size = model.block_size();
    const auto take = [&](const Sequence& from, int64_t at) {
        ids.push_back(from.tokens[size_t(at)]);
        positions.push_back(at);
        slots.push_back(from.blocks[size_t(at / block_size)] * block_size + at % block_size);
    };
    for (const auto& [other, at] : others) {
        take(*other, at);
        tables.insert(tables.end(), other->blocks.begin(), other->blocks.end());
    }
    for (int64_t at = start; at < stop; at++) take(prompt, at);
    StepInput input;
    input.num_tokens = int(ids.size());
    input.num_decodes = int(others.size());
    input.token_ids = ids.data(), input.positions = positions.data(), input.slots = slots.data();
    input.decode_tables = tables.data();
    input.table_width = others.empty() ? 0 : int64_t(others[0].first->blocks.size());
    if (start < stop) input.spans = {{int64_t(others.size()), start, stop, prompt.blocks.data()}};
    input.logit_rows.resize(ids.size());
    std::iota(input.logit_rows.begin(), input.logit_rows.end(), 0);
    Vector logits(ids.size() * kVocab);
    std::vector<int64_t> likeliest(ids.size());
    input.logits = logits.data(), input.likeliest = likeliest.data();
    model.forward(input);
    for (size_t row = 0; row < ids.size(); row++) {
        const float* scores = &logits[row * kVocab];
        num_failures += likeliest[row] != std::max_element(scores, scores + kVocab) - scores;
    }
    return logits;
}

bool same(const float* a, const float* b, size_t rows) { return std::memcmp(a, b, rows * kVocab * sizeof(float)) == 0; }

void check(bool holds, const Kind& kind, Format format, CacheType cache, const char* what) {
    if (holds || ++num_failures > 20) return;
    std::printf("%s, weights %d, cache %d: other bits %s\n", kind.name, int(format), int(cache), what);
}

void test(const Kind& kind, Format format, CacheType cache, const std::string& kernels) {
    const ModelSpec spec = spec_of(kind, format);
    Model one(spec, 1, false, kernels), three(spec, 3, false, kernels);
    const int block_size = cache == CacheType::int8 ? 5 : 16;
    for (Model* model : {&one, &three}) model->allocate_cache(2 * kBlocks, block_size, cache);
    std::vector<int64_t> low(kBlocks), high(kBlocks);
    for (int i = 0; i < kBlocks; i++) low[size_t(i)] = kBlocks - 1 - i, high[size_t(i)] = kBlocks + i;
    const Sequence first = sequence(1, low), second = sequence(50, high);
    const Vector whole = step(one, first, 0, kLength);
    for (float value : whole) {
        if (!(value * 0.0f == 0.0f)) return check(false, kind, format, cache, "that are no numbers");
    }
    check(same(step(three, first, 0, kLength).data(), whole.data(), kLength), kind, format, cache, "with three threads");
    three.clear_blocks(low);
    step(three, second, 0, kLength - 1);
    for (int64_t at = 0, next; at < kLength; at = next) {
        next = std::min<int64_t>(kLength, at + (at < 8 ? 1 : 11));
        const Vector logits = step(three, first, at, next, {{&second, kLength - 1}});
        check(same(logits.data() + kVocab, whole.data() + at * kVocab, size_t(next - at)), kind, format, cache,
              "in chunks");
    }
    const Vector decoded = step(three, first, 0, 0, {{&first, kLength - 1}, {&second, kLength - 1}});
    check(same(decoded.data(), whole.data() + (kLength - 1) * kVocab, 1), kind, format, cache, "when decoded");
}

}  // namespace

int main() {
    const std::vector<Kind> kinds = {
        {.name = "plain"},
        {.name = "biased", .is_gated = false, .has_bias = true},
        {.name = "normed heads, window, caps", .norms_heads = true, .window = 9, .softcap = 5},
        {.name = "normed projections", .norms_whole = true},
        {.name = "experts", .has_experts = true},
    };
    for (const std::string& kernels : runnable_kernels()) {
        for (const Kind& kind : kinds) {
            test(kind, Format::float32, CacheType::float32, kernels);
            test(kind, Format::bfloat16, CacheType::bfloat16, kernels);
            test(kind, Format::int8, CacheType::int8, kernels);
            test(kind, Format::int4, CacheType::int8, kernels);
        }
    }
    std::printf("%d failures\n", num_failures);
    return num_failures != 0;
}
