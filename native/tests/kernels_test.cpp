// Every kernel table this machine runs, against plain loops in double precision.
//
//   kernels_test [table ...]      all runnable tables without an argument
//
// Held for each table, over random shapes of every format (the seed is fixed):
//
//   products of whole numbers   exactly the integer, whatever the layout: scales are powers of two there
//   products of any numbers     within (roundings) * 2^-24 * sum |w x| of the double-precision sum, where a
//                               row has one rounding an input (float32, bfloat16) or two a group (int8, int4)
//   row operations, attention   within the bounds that stand beside them
//   batch invariance            the same bits alone, among other rows, chosen by `rows`, tile by tile, in place
//   avx2, avxvnni and avx512    the same bits as each other, and as avx512bf16 and amx but for products with bfloat16
//                               and attention over it
//
// Vectors have the very size that a kernel may touch, so that AddressSanitizer sees one step beyond.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels.h"

using namespace cairn;

namespace {

using Floats = std::vector<float>;

const char* table = "";
int num_checks = 0, num_failures = 0;
bool rounds_rows = false;  // whether the table rounds what meets weights, keys and values of bfloat16

// The bits that a table has computed, those of products with bfloat16 and of attention over it apart.
struct Digest {
    uint64_t of_bfloat16 = 0, others = 0;
} digest;

template <typename... Args>
void check(bool holds, const char* format, Args... args) {
    num_checks++;
    if (holds || ++num_failures > 20) return;
    std::printf("%s: ", table);
    std::printf(format, args...);
    std::printf("\n");
}

// SplitMix64 (Steele et al. 2014).
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    int from(int least, int most) { return least + int(next() % uint64_t(most - least + 1)); }
    float number() { return float(int64_t(next() >> 40) - (1 << 23)) / float(1 << 22); }  // -2 .. 2
    Floats numbers(size_t count) {
        Floats out(count);
        for (float& value : out) value = from(0, 9) ? number() : 0.0f;
        return out;
    }

  private:
    uint64_t state_;
};

void take_into(uint64_t& sum, const Floats& numbers) {
    for (float number : numbers) {
        uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        sum = (sum ^ bits) * 0x100000001b3;  // FNV-1a
    }
}

bool same_bits(const Floats& a, const Floats& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const char* name_of(Format format) {
    constexpr const char* kNames[] = {"float32", "bfloat16", "int8", "int4"};
    return kNames[int(format)];
}

bool is_whole(Format format) { return format == Format::int8 || format == Format::int4; }

// ---- products

struct Shape {
    Format format;
    int rows, inputs, tokens;
};

// out [tokens, rows padded to 16] of the activations `x` [tokens, inputs].
Floats multiply(const Kernels& kernels, const Matrix& matrix, const Floats& x, int tokens) {
    Activations input;
    input.shape(tokens, matrix.num_inputs, matrix.format);
    for (int t = 0; t < tokens; t++) {
        const Floats row(x.begin() + long(t) * matrix.num_inputs, x.begin() + long(t + 1) * matrix.num_inputs);
        kernels.take_row(row.data(), matrix.num_inputs, input, t);
    }
    const size_t stride = size_t(matrix.num_tiles()) * kTileRows;
    Floats out(size_t(tokens) * stride, NAN);
    Product product;
    product.matrix = &matrix;
    product.input = &input;
    product.num_rows = tokens;
    product.num_tiles = matrix.num_tiles();
    product.out = out.data();
    product.stride = stride;
    kernels.matmul(product);
    take_into(matrix.format == Format::bfloat16 ? digest.of_bfloat16 : digest.others, out);
    return out;
}

// What a format keeps of the activations: 8 bits a number, a scale for each group of 32; of bfloat16 8 bits of each
// number where the table rounds them.
Floats as_seen(Floats x, int inputs, Format format) {
    if (format == Format::bfloat16 && rounds_rows) {
        for (float& number : x) {  // to a multiple of 2^-7 of its power of two, ties to even
            int exponent;
            std::frexp(number, &exponent);
            number = std::ldexp(std::nearbyint(std::ldexp(number, 8 - exponent)), exponent - 8);
        }
    }
    if (!is_whole(format)) return x;
    for (size_t row = 0; row < x.size(); row += size_t(inputs)) {
        for (int first = 0; first < inputs; first += kGroup) {
            float* group = x.data() + row + first;
            const int count = std::min(kGroup, inputs - first);
            float extreme = 0.0f;
            for (int k = 0; k < count; k++) extreme = std::max(extreme, std::fabs(group[k]));
            const float inverse = extreme > 0 ? 127.0f / extreme : 0.0f, scale = extreme / 127.0f;
            for (int k = 0; k < count; k++) group[k] = std::nearbyint(group[k] * inverse) * scale;
        }
    }
    return x;
}

void test_any_numbers(const Kernels& kernels, const Shape& shape, Random& random) {
    const auto [format, rows, inputs, tokens] = shape;
    const Matrix matrix = pack(random.numbers(size_t(rows) * inputs).data(), rows, inputs, format);
    const Floats x = random.numbers(size_t(tokens) * inputs), seen = as_seen(x, inputs, format);
    const Floats out = multiply(kernels, matrix, x, tokens);
    const size_t stride = size_t(matrix.num_tiles()) * kTileRows;
    Floats weights(inputs);
    const double roundings = is_whole(format) ? 2 * matrix.num_groups() + 8 : inputs + 4;
    for (int row = 0; row < rows; row++) {
        unpack_row(matrix, row, weights.data());
        for (int t = 0; t < tokens; t++) {
            double expected = 0, size = 0;
            for (int k = 0; k < inputs; k++) {
                const double part = double(weights[k]) * seen[size_t(t) * inputs + k];
                expected += part;
                size += std::fabs(part);
            }
            const double got = out[t * stride + row], error = std::fabs(got - expected);
            check(error <= roundings * 0x1p-24 * size, "%s [%d, %d] x %d: row %d of token %d is %g, not %g",
                  name_of(format), rows, inputs, tokens, row, t, got, expected);
        }
    }
}

// Weights and activations whose scales are 1 or a power of two: nothing is rounded anywhere.
void test_whole_numbers(const Kernels& kernels, const Shape& shape, Random& random) {
    const auto [format, rows, inputs, tokens] = shape;
    const int most = format == Format::int4 ? 7 : format == Format::int8 ? 127 : 100;
    Floats weights(size_t(rows) * inputs), x(size_t(tokens) * inputs);
    for (float& w : weights) w = float(random.from(-most, most));
    for (float& value : x) value = float(random.from(-127, 127));
    for (int k = 0; k < inputs; k += kGroup) {  // the extremes that the scales come from
        for (int row = 0; row < rows; row++) {
            float& first = weights[size_t(row) * inputs + k];
            if (format == Format::int4) first = -8;
            if (format == Format::int8) first = random.from(0, 1) ? 127.0f : -127.0f;
        }
        for (int t = 0; t < tokens; t++) x[size_t(t) * inputs + k] = random.from(0, 1) ? 127.0f : -127.0f;
    }
    const Matrix matrix = pack(weights.data(), rows, inputs, format);
    const Floats out = multiply(kernels, matrix, x, tokens);
    for (int t = 0; t < tokens; t++) {
        for (int row = 0; row < rows; row++) {
            int64_t expected = 0;
            for (int k = 0; k < inputs; k++) {
                expected += int64_t(weights[size_t(row) * inputs + k]) * int64_t(x[size_t(t) * inputs + k]);
            }
            const float got = out[size_t(t) * matrix.num_tiles() * kTileRows + row];
            check(got == float(expected), "%s [%d, %d] x %d: row %d of token %d is %.9g, not exactly %lld",
                  name_of(format), rows, inputs, tokens, row, t, got, static_cast<long long>(expected));
        }
    }
}

void test_company(const Kernels& kernels, const Shape& shape, Random& random) {
    const auto [format, rows, inputs, tokens] = shape;
    const Matrix matrix = pack(random.numbers(size_t(rows) * inputs).data(), rows, inputs, format);
    const Floats x = random.numbers(size_t(tokens) * inputs);
    const size_t stride = size_t(matrix.num_tiles()) * kTileRows;
    const Floats together = multiply(kernels, matrix, x, tokens);
    const auto row_of = [&](const Floats& out, size_t t) {
        return Floats(out.begin() + long(t * stride), out.begin() + long((t + 1) * stride));
    };
    for (int t = 0; t < tokens; t++) {
        const Floats one(x.begin() + long(t) * inputs, x.begin() + long(t + 1) * inputs);
        check(same_bits(multiply(kernels, matrix, one, 1), row_of(together, t)),
              "%s [%d, %d]: token %d of %d has other bits alone", name_of(format), rows, inputs, t, tokens);
    }
    // A choice of the rows of wider activations, one tile at a time, with a bias.
    Activations input;
    input.shape(tokens, inputs + random.from(0, 2) * kGroup, format);
    Floats row(size_t(input.width));
    for (int t = 0; t < tokens; t++) {
        std::copy(x.begin() + long(t) * inputs, x.begin() + long(t + 1) * inputs, row.begin());
        std::fill(row.begin() + inputs, row.begin() + matrix.width(), 0.0f);
        for (int k = matrix.width(); k < input.width; k++) row[k] = random.number();
        kernels.take_row(row.data(), input.width, input, t);
    }
    std::vector<int32_t> chosen(size_t(random.from(1, 2 * tokens)));
    for (int32_t& index : chosen) index = random.from(0, tokens - 1);
    const Floats bias = random.numbers(stride);
    for (int tile = 0; tile < matrix.num_tiles(); tile++) {
        Floats out(chosen.size() * kTileRows, NAN);
        Product product;
        product.matrix = &matrix;
        product.input = &input;
        product.rows = chosen.data();
        product.num_rows = int(chosen.size());
        product.first_tile = tile;
        product.num_tiles = 1;
        product.bias = bias.data();
        product.out = out.data();
        product.stride = kTileRows;
        kernels.matmul(product);
        for (size_t i = 0; i < chosen.size(); i++) {
            Floats expected(kTileRows);
            for (int r = 0; r < kTileRows; r++) {
                const size_t column = size_t(tile) * kTileRows + r;
                expected[r] = together[chosen[i] * stride + column] + bias[column];
            }
            const Floats got(out.begin() + long(i) * kTileRows, out.begin() + long(i + 1) * kTileRows);
            check(same_bits(got, expected), "%s [%d, %d]: tile %d of chosen row %d differs", name_of(format), rows,
                  inputs, tile, int(chosen[i]));
        }
    }
}

// What adapters get to see of a row is what the products see.
void test_given(const Kernels& kernels, const Shape& shape, Random& random) {
    const auto [format, rows, inputs, tokens] = shape;
    const Floats x = random.numbers(size_t(inputs));
    Activations input;
    input.shape(tokens, inputs, format);
    kernels.take_row(x.data(), inputs, input, tokens - 1);
    Floats given(size_t(input.width), NAN), expected = as_seen(x, inputs, format);
    kernels.give_row(input, tokens - 1, given.data());
    expected.resize(given.size(), 0.0f);
    for (int k = 0; k < input.width; k++) {
        check(given[k] == expected[k], "%s: number %d of %d is given back as %.9g, not %.9g", name_of(format), k,
              inputs, given[k], expected[k]);
    }
}

void test_products(const Kernels& kernels) {
    Random random(1);
    for (Format format : {Format::float32, Format::bfloat16, Format::int8, Format::int4}) {
        for (const auto& test : {test_any_numbers, test_whole_numbers, test_company, test_given}) {
            for (int tokens = 1; tokens <= 20; tokens++) {
                test(kernels, {format, random.from(1, 90), random.from(1, 200), tokens}, random);
            }
            test(kernels, {format, 1, 1, 1}, random);
            test(kernels, {format, 64, 1024, 3}, random);
            test(kernels, {format, 16, 64, 70}, random);
            test(kernels, {format, 40, 1100, 45}, random);  // more than 32 groups, more than 32 tokens
        }
    }
}

// ---- rows

// Each of `got` within `bound` of what `formula` gives for its index.
void check_each(const char* what, const Floats& got, double bound, const std::function<double(int)>& formula,
                uint64_t& bits = digest.others) {
    take_into(bits, got);
    for (int i = 0; i < int(got.size()); i++) {
        const double expected = formula(i), allowed = bound * std::max(1.0, std::fabs(expected));
        check(std::fabs(got[i] - expected) <= allowed, "%s of %d: number %d is %g, not %g", what, int(got.size()), i,
              got[i], expected);
    }
}

void test_norms(const Kernels& kernels, int count, Random& random) {
    const Floats x = random.numbers(count), weight = random.numbers(count), bias = random.numbers(count);
    for (bool is_layer_norm : {false, true}) {
        NormSpec spec;
        spec.weight = weight.data();
        spec.bias = is_layer_norm ? bias.data() : nullptr;
        spec.eps = 1e-5f;
        Floats out(count), in_place = x;
        kernels.norm(x.data(), count, spec, out.data());
        kernels.norm(in_place.data(), count, spec, in_place.data());
        check(same_bits(out, in_place), "norm of %d in place has other bits", count);
        double mean = 0, squares = 0;
        for (float value : x) mean += is_layer_norm ? value / double(count) : 0;
        for (float value : x) squares += (value - mean) * (value - mean) / count;
        const double inverse = 1 / std::sqrt(squares + 1e-5);
        // Of one number little but rounding is left once the mean is taken away, times 1 / sqrt(eps).
        check_each("norm", out, 1e-4, [&](int i) {
            return (x[i] - mean) * inverse * weight[i] + (is_layer_norm ? bias[i] : 0);
        });
    }
}

double activated(double x, Activation activation) {
    switch (activation) {
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::gelu_tanh: return x / (1 + std::exp(-1.5957691216057308 * x * (1 + 0.044715 * x * x)));
        case Activation::gelu: return 0.5 * x * (1 + std::erf(x * 0.70710678118654752));
        case Activation::relu: return std::max(x, 0.0);
    }
    return NAN;
}

void test_elementwise(const Kernels& kernels, int count, Random& random) {
    Floats a = random.numbers(count), b = random.numbers(count), out(count), in_place = a;
    for (float& value : a) value *= float(random.from(1, 60));
    kernels.add(a.data(), b.data(), count, out.data());
    check_each("add", out, 0, [&](int i) { return a[i] + b[i]; });
    for (Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::gelu, Activation::relu}) {
        kernels.activate(a.data(), nullptr, count, activation, out.data());
        check_each("activate", out, 2e-6, [&](int i) { return activated(a[i], activation); });
        in_place = a;
        kernels.activate(in_place.data(), b.data(), count, activation, in_place.data());
        check_each("gated activate", in_place, 4e-6, [&](int i) { return activated(a[i], activation) * b[i]; });
    }
    out = a;
    kernels.softcap(out.data(), count, 30.0f);
    // tanh(x) = 2 sigmoid(2x) - 1 is off by some 2^-22, and the cap multiplies it.
    check_each("softcap", out, 1e-5, [&](int i) { return 30 * std::tanh(a[i] / 30.0); });
    out = a;
    kernels.softmax(out.data(), count);
    double top = a[0], total = 0;
    for (float value : a) top = std::max<double>(top, value);
    for (float value : a) total += std::exp(value - top);
    check_each("softmax", out, 2e-6, [&](int i) { return std::exp(a[i] - top) / total; });
}

void test_rotation(const Kernels& kernels, int half, Random& random) {
    Floats cos(half), sin(half), head = random.numbers(size_t(2) * half);
    for (int i = 0; i < half; i++) {
        const float angle = 3 * random.number();
        cos[i] = std::cos(angle), sin[i] = std::sin(angle);
    }
    const Floats x = head;
    kernels.rotate(head.data(), 2 * half, cos.data(), sin.data());
    check_each("rotate", head, 1e-6, [&](int i) {
        const int j = i % half;
        return i < half ? double(x[j]) * cos[j] - double(x[j + half]) * sin[j]
                        : double(x[j + half]) * cos[j] + double(x[j]) * sin[j];
    });
}

void test_peak(const Kernels& kernels, int count, Random& random) {
    Floats scores = random.numbers(count);
    scores[random.from(0, count - 1)] = 3.0f;
    check(kernels.peak(scores.data(), count) == 3.0f, "the peak of %d is not 3", count);
    for (float flaw : {NAN, INFINITY, -INFINITY}) {
        Floats flawed = scores;
        flawed[random.from(0, count - 1)] = flaw;
        check(std::isnan(kernels.peak(flawed.data(), count)), "the peak of %d takes %g", count, flaw);
    }
}

void test_rows(const Kernels& kernels) {
    Random random(2);
    for (int count = 1; count <= 100; count++) {
        test_norms(kernels, count, random);
        test_elementwise(kernels, count, random);
        test_rotation(kernels, count, random);
        test_peak(kernels, count, random);
    }
}

// ---- attention

struct Cache {
    CacheShape shape;
    std::vector<int64_t> blocks;  // in the order of the sequence
    std::vector<uint8_t> bytes;
    Floats keys, values;  // as kept [length, head_dim]
};

// The number as a cache of some type keeps it.
void round_as_kept(float* x, int head_dim, CacheType type) {
    float extreme = 0.0f;
    for (int d = 0; d < head_dim; d++) extreme = std::max(extreme, std::fabs(x[d]));
    const float inverse = extreme > 0 ? 127.0f / extreme : 0.0f;
    for (int d = 0; d < head_dim; d++) {
        if (type == CacheType::bfloat16) x[d] = bfloat16_to_float(float_to_bfloat16(x[d]));
        if (type == CacheType::int8) x[d] = std::nearbyint(x[d] * inverse) * (extreme / 127.0f);
    }
}

Cache filled(const Kernels& kernels, const CacheShape& shape, int length, Random& random) {
    const int num_blocks = (length + shape.block_size - 1) / shape.block_size;
    Cache cache{shape, std::vector<int64_t>(num_blocks), std::vector<uint8_t>(num_blocks * shape.chunk_bytes()),
                random.numbers(size_t(length) * shape.head_dim), random.numbers(size_t(length) * shape.head_dim)};
    for (int i = 0; i < num_blocks; i++) cache.blocks[i] = i;
    for (int i = num_blocks - 1; i > 0; i--) std::swap(cache.blocks[i], cache.blocks[random.from(0, i)]);
    for (int i = 0; i < length; i++) {
        uint8_t* chunk = cache.bytes.data() + shape.chunk_bytes() * cache.blocks[i / shape.block_size];
        float* key = cache.keys.data() + size_t(i) * shape.head_dim;
        float* value = cache.values.data() + size_t(i) * shape.head_dim;
        kernels.write_key_value(shape, chunk, i % shape.block_size, key, nullptr);
        kernels.write_key_value(shape, chunk, i % shape.block_size, nullptr, value);
        round_as_kept(key, shape.head_dim, shape.type);
        round_as_kept(value, shape.head_dim, shape.type);
    }
    return cache;
}

Floats attend(const Kernels& kernels, AttentionJob job) {
    const size_t width = size_t(job.group) * job.shape.head_dim;
    Floats out(width * job.num_tokens, NAN), scratch(attention_scratch(job.shape.head_dim));
    job.query_stride = job.out_stride = width;
    job.out = out.data();
    kernels.attend(job, scratch.data());
    return out;
}

// One head of one token, in double precision.
std::vector<double> attended(const Cache& cache, const AttentionJob& job, int64_t position, const float* query) {
    const int head_dim = job.shape.head_dim;
    std::vector<double> out(head_dim);
    double total = 0;
    const int64_t first = job.window ? std::max<int64_t>(0, position - job.window + 1) : 0;
    for (int64_t key = first; key <= position; key++) {
        double score = 0;
        for (int d = 0; d < head_dim; d++) score += double(query[d]) * cache.keys[key * head_dim + d];
        score *= job.scale;
        if (job.softcap) score = job.softcap * std::tanh(score / job.softcap);
        const double weight = std::exp(score);
        total += weight;
        for (int d = 0; d < head_dim; d++) out[d] += weight * cache.values[key * head_dim + d];
    }
    for (double& value : out) value /= total;
    return out;
}

void test_attention_of(const Kernels& kernels, const CacheShape& shape, Random& random) {
    AttentionJob job{};
    job.num_tokens = random.from(0, 3) ? random.from(1, 9) : random.from(10, 120);
    job.first_position = random.from(0, 1) ? random.from(0, 200) : random.from(0, 9);
    job.group = random.from(1, 5);
    const int length = int(job.first_position) + job.num_tokens;
    const Cache cache = filled(kernels, shape, length, random);
    const size_t width = size_t(job.group) * shape.head_dim;
    const Floats queries = random.numbers(width * job.num_tokens);
    job.shape = shape;
    job.cache = cache.bytes.data();
    job.block_stride = shape.chunk_bytes();
    job.blocks = cache.blocks.data();
    job.queries = queries.data();
    job.scale = 1.0f / std::sqrt(float(shape.head_dim));
    if (!random.from(0, 2)) job.num_keys = length;
    job.window = !job.num_keys && random.from(0, 1) ? random.from(1, 90) : 0;
    job.softcap = random.from(0, 2) ? 0.0f : 5.0f;
    const Floats out = attend(kernels, job);
    // Weights are rounded to 8 bits, and values lie between -2 and 2.
    const bool is_rounded = rounds_rows && shape.type == CacheType::bfloat16;
    const double bound = is_rounded ? 0x1p-8 : 1e-5;
    uint64_t& bits = shape.type == CacheType::bfloat16 ? digest.of_bfloat16 : digest.others;
    for (int t = 0; t < job.num_tokens; t++) {
        AttentionJob alone = job;
        alone.num_tokens = 1;
        alone.first_position += t;
        alone.queries += t * width;
        const Floats token(out.begin() + long(t * width), out.begin() + long((t + 1) * width));
        check(same_bits(attend(kernels, alone), token), "attention: token %d of %d has other bits alone", t,
              job.num_tokens);
        for (int head = 0; head < job.group; head++) {
            const auto at = queries.begin() + long(t * width) + long(head) * shape.head_dim;
            Floats query(at, at + shape.head_dim);
            if (is_rounded) round_as_kept(query.data(), shape.head_dim, CacheType::bfloat16);
            const int64_t position = job.num_keys ? job.num_keys - 1 : alone.first_position;
            const auto expected = attended(cache, job, position, query.data());
            const Floats got(token.begin() + long(head) * shape.head_dim,
                             token.begin() + long(head + 1) * shape.head_dim);
            check_each("attention", got, bound, [&](int d) { return expected[d]; }, bits);
        }
    }
}

void test_attention(const Kernels& kernels) {
    Random random(3);
    for (CacheType type : {CacheType::float32, CacheType::bfloat16, CacheType::int8}) {
        for (int block_size : {1, 5, 16, 32, 48}) {
            for (int head_dim : {8, 16, 24, 40, 64, 80, 128}) {
                test_attention_of(kernels, {type, block_size, head_dim}, random);
            }
        }
    }
}

// Sums of products of bytes, also of the largest, are exact.
void test_dot_bytes(const Kernels& kernels) {
    Random random(11);
    for (int count = 32; count <= 512; count += 32) {
        for (int range : {1, 50, 127}) {
            std::vector<int8_t> a, b;
            int32_t expected = 0;
            for (int i = 0; i < count; i++) {
                a.push_back(int8_t(range == 1 ? 127 - 254 * random.from(0, 1) : random.from(-range, range)));
                b.push_back(int8_t(range == 1 ? 127 : random.from(-range, range)));
                expected += int32_t(a.back()) * b.back();
            }
            check(kernels.dot_bytes(a.data(), b.data(), count) == expected, "dot_bytes of %d is not exact", count);
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    std::vector<std::string> names(arguments + 1, arguments + count);
    if (names.empty()) names = runnable_kernels();
    std::map<std::string, Digest> digests;
    for (const std::string& name : names) {
        const Kernels* kernels = find_kernels(name);
        if (!kernels) {
            std::printf("%s: this machine does not run it\n", name.c_str());
            return 2;
        }
        table = kernels->name;
        const int before = num_checks;
        rounds_rows = name == "avx512bf16" || name == "amx";
        digest = {};
        test_products(*kernels);
        test_rows(*kernels);
        test_attention(*kernels);
        test_dot_bytes(*kernels);
        std::printf("%s: %d checks\n", table, num_checks - before);
        digests[name] = digest;
    }
    for (const auto& [name, own] : digests) {
        if (name == "portable" || !digests.contains("avx2")) continue;
        const Digest& expected = digests["avx2"];
        const bool agrees = name == "avx512bf16" || name == "amx" || own.of_bfloat16 == expected.of_bfloat16;
        check(agrees && own.others == expected.others, "avx2 and %s do not give the same bits", name.c_str());
    }
    std::printf("%d of %d checks failed\n", num_failures, num_checks);
    return num_failures != 0;
}
