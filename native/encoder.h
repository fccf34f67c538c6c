// An encoder transformer of the BERT family (Devlin et al. 2019): whole texts in, vectors out, in one call.
//
// Texts lie end to end on one axis without padding, and every token sees all tokens of its own text. Rows
// never mix outside attention, every sum has one order, and attention walks a text by its own positions: so a
// text's vector is the same bits alone and in any batch, with any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model.h"

namespace cairn {

enum class Pooling { tokens, first, mean, max };
enum class HeadActivation { none, tanh, relu };

struct EncoderLayer {
    Weights qkv;  // the heads of q, k and v, each padded to a multiple of 16 rows
    Vector qkv_bias;
    Weights output;
    Vector output_bias;
    Norm attention_norm;  // after the residual sum
    Mlp mlp;              // not gated
    Norm mlp_norm;        // after the residual sum
};

// What becomes of the last layer's rows: pooled by text (or not), then each step that is there.
struct EncoderHead {
    Pooling pooling = Pooling::tokens;
    Weights dense;  // float32
    Vector dense_bias;
    HeadActivation activation = HeadActivation::none;
    Weights output;  // float32
    Vector output_bias;
    bool normalise = false;  // to length one
};

struct EncoderSpec {
    int vocab_size = 0, hidden_size = 0, num_heads = 0;
    float norm_eps = 0;
    Activation activation = Activation::gelu;
    Weights embedding;
    Vector positions;  // [longest text, hidden]
    Vector types;      // [kinds of segments, hidden]; may be empty
    Norm norm;
    std::vector<EncoderLayer> layers;
    EncoderHead head;

    int head_dim() const { return hidden_size / num_heads; }
    int max_position() const { return int(positions.size()) / hidden_size; }
    int num_types() const { return int(types.size()) / hidden_size; }
    int out_width() const;
};

// Texts end to end; text i is tokens bounds[i] .. bounds[i + 1] - 1. The arrays are the caller's.
struct EncoderInput {
    int num_texts = 0;
    const int64_t* token_ids = nullptr;
    const int64_t* types = nullptr;
    const int64_t* bounds = nullptr;  // [num_texts + 1]
    float* out = nullptr;             // [tokens or texts, out_width]

    int num_tokens() const { return int(bounds[num_texts]); }
};

class Encoder : private Pool::Work {
  public:
    Encoder(EncoderSpec spec, int num_threads, bool pin, const std::string& kernels);

    const EncoderSpec& spec() const { return spec_; }
    const char* kernels_name() const { return kernels_.name; }
    int num_threads() const { return pool_.num_threads(); }
    size_t num_bytes() const;
    void forward(const EncoderInput& input);

  private:
    // Queries of one head of one text.
    struct QueryTile {
        int text, head;
        int64_t first;
        int count;
    };
    struct Private {
        Activations rows, inner_rows, head_rows;
        Vector product, attention, pooled;
    };

    void make_room();
    void run(int step, int unit, int thread) override;
    void embed(int first, int count, Private& own);
    void project(const EncoderLayer& layer, int first, int count, Private& own);
    void attend(const QueryTile& tile, Private& own);
    void finish(int index, int first, int count, Private& own);
    void inner(const Mlp& mlp, int count, Private& own);
    void add_and_norm(int first, int count, const Norm& norm, Private& own);
    void multiply(const Matrix& matrix, const Vector& bias, const Activations& rows, int count, Private& own);
    void pool_text(int text, float* out) const;
    void apply_head(const float* row, float* out, Private& own);

    float* x(int64_t row) { return x_.data() + row * spec_.hidden_size; }
    const float* x(int64_t row) const { return x_.data() + row * spec_.hidden_size; }
    CacheShape shape_of(int text) const {
        // Weights that were rounded get keys and values that are.
        const bool is_exact = spec_.layers[0].qkv->format == Format::float32;
        const CacheType type = is_exact ? CacheType::float32 : CacheType::bfloat16;
        return {type, int(input_.bounds[text + 1] - input_.bounds[text]), spec_.head_dim()};
    }
    uint8_t* keys_of(int text, int head) {
        return keys_values_.data() + chunks_[text] + shape_of(text).chunk_bytes() * head;
    }

    static constexpr int kBlockRows = 64;    // most rows that pass through a layer as one unit
    static constexpr int kTileQueries = kAttentionRows;  // queries that attend as one unit
    static constexpr int kInnerRows = 128;   // outputs of the MLP's first product that are made at a time

    EncoderSpec spec_;
    const Kernels& kernels_;
    int head_width_;  // head size, padded to the tile

    EncoderInput input_;
    int block_rows_ = 0;
    std::vector<int> units_, text_of_;
    std::vector<size_t> chunks_;  // where a text's keys and values begin
    std::vector<QueryTile> tiles_;
    std::vector<uint8_t> keys_values_;
    Vector x_, queries_, attended_;
    std::vector<Private> private_;
    Pool pool_;  // last: its threads end first
};

}  // namespace cairn
