// The kernels of one instruction set, as a table; `best_kernels` picks the table for this machine.
//
// To add an instruction set: a file like kernels_avx2.cpp that compiles the *.inl files (or its own
// versions of them) under another namespace and other compiler flags, and a line in kernels.cpp.
#pragma once

#include <string>
#include <vector>

#include "layout.h"

namespace cairn {

enum class Activation { silu, gelu_tanh, gelu, relu };
enum class CacheType { float32, bfloat16, int8 };

// Which rows of the activations are multiplied, which rows of the product are wanted, and where to.
// The rows of the activations may be wider than the matrix.
struct Product {
    const Matrix* matrix;
    const Activations* input;
    const int32_t* rows = nullptr;  // rows of `input`; null: 0 .. num_rows - 1
    int num_rows = 0;
    int first_tile = 0;
    int num_tiles = 0;
    const float* bias = nullptr;  // of the whole matrix, padded to its tiles; null: none
    float* out = nullptr;         // [num_rows, stride], the first column belongs to the first tile
    size_t stride = 0;
};

struct NormSpec {
    const float* weight = nullptr;
    const float* bias = nullptr;  // set: layer norm; null: RMS norm
    float eps = 0;
};

// Rows times a panel of an adapter (adapters.h).
struct LowRankProduct {
    Format format;        // float32 or bfloat16
    const void* weights;  // the panel
    int inputs;
    int first_tile, num_tiles;  // of 8 outputs
    const int32_t* rows;        // [num_rows]: the rows of `out`, and of `x` unless it is gathered
    int num_rows;
    const float* x;
    size_t x_stride;
    bool is_gathered;  // row t of `x` belongs to rows[t]
    float* out;        // the first column belongs to the first tile
    size_t out_stride;
    bool adds;  // to what is there; otherwise it is replaced
};

// Keys and values of one (block, key-value head):
//
//   keys [head_dim, padded block size], values [block size, head_dim],
//   for int8 then the scales of the keys and of the values [2, padded block size], float
struct CacheShape {
    CacheType type = CacheType::float32;
    int block_size = 0;
    int head_dim = 0;

    int padded_block() const { return padded(block_size, 8); }
    size_t element() const { return type == CacheType::float32 ? 4 : type == CacheType::bfloat16 ? 2 : 1; }
    size_t values_offset() const { return element() * head_dim * padded_block(); }
    size_t scales_offset() const { return values_offset() + padded(int(element()) * head_dim * block_size, 4); }
    size_t chunk_bytes() const {
        const size_t scales = type == CacheType::int8 ? size_t(8) * padded_block() : 0;
        return (scales_offset() + scales + 63) / 64 * 64;
    }
};

// Queries of one key-value head: `num_tokens` following tokens of a sequence, `group` heads each.
struct AttentionJob {
    CacheShape shape;
    const uint8_t* cache;       // chunk of block 0 and this head
    size_t block_stride;        // bytes from one block's chunk to the next block's
    const int64_t* blocks;      // the sequence's block table
    const float* queries;       // [num_tokens, query_stride]; the group's heads lie side by side
    size_t query_stride;
    float* out;                 // [num_tokens, out_stride]
    size_t out_stride;
    int64_t first_position;     // of the first token; it sees the keys up to its own
    int64_t num_keys;           // not 0: every token sees keys 0 .. num_keys - 1, before it and after it
    int num_tokens;
    int group;
    float scale;
    int64_t window;             // 0: all
    float softcap;              // 0: none
};

constexpr int kAttentionKeys = 64;    // keys of a tile
constexpr int kAttentionRows = 192;   // queries that share one pass over the keys, a multiple of 6 and of 16
constexpr size_t attention_scratch(int head_dim) {
    return size_t(kAttentionRows) * (kAttentionKeys + 2 * head_dim) + size_t(kAttentionKeys) * (2 * head_dim + 2);
}

// None of the functions allocates: what the library's templates become here must not leave this
// instruction set's file.
struct Kernels {
    const char* name;
    void (*matmul)(const Product&);
    // Row `row` of `to` becomes the `count` numbers of `from`, padded with zeros.
    void (*take_row)(const float* from, int count, Activations& to, int row);
    // Group `group` of row `row` of `to` becomes 32 numbers.
    void (*take_group)(const float* from, Activations& to, int row, int group);
    // The reverse, without what rounding took: `to` [width].
    void (*give_row)(const Activations& from, int row, float* to);
    void (*low_rank)(const LowRankProduct&);
    void (*norm)(const float* from, int count, const NormSpec&, float* to);
    void (*add)(const float* a, const float* b, int count, float* to);
    // inner [count] -> activation(inner); gated: activation(inner) * up
    void (*activate)(const float* inner, const float* up, int count, Activation, float* to);
    // In place, heads [num_heads, head_dim]: the first `rotary_dim` dimensions turn.
    void (*rotate)(float* head, int rotary_dim, const float* cos, const float* sin);
    void (*write_key_value)(const CacheShape&, uint8_t* chunk, int offset, const float* key, const float* value);
    void (*attend)(const AttentionJob&, float* scratch);  // [attention_scratch(head_dim)]
    void (*softcap)(float* scores, int count, float cap);
    void (*softmax)(float* scores, int count);
    // The largest; NaN when one is not finite.
    float (*peak)(const float* scores, int count);
    // Sum of products of numbers from -127 to 127; `count` is a multiple of 32.
    int32_t (*dot_bytes)(const int8_t* a, const int8_t* b, int count);
};

// The table called `name`, or the fastest this machine can run when it is empty; null for one it cannot.
const Kernels* find_kernels(const std::string& name);
// The same; `std::invalid_argument` for one this machine does not run.
const Kernels& chosen_kernels(const std::string& name);
std::vector<std::string> runnable_kernels();

}  // namespace cairn
