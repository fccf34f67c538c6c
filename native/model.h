// A decoder transformer over a paged cache: one call computes one step of the engine.
//
// The record below says everything that tells one model from another; cairn.models reads it from a
// config.json, cairn.engine.native_weights fills it. Rows of a step never mix outside attention, every sum
// has one order, and a query's attention depends on its own keys alone: so a sequence's logits are the
// same bits alone and in any batch, in chunks or at once, with any number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adapters.h"
#include "kernels.h"
#include "layout.h"
#include "threads.h"

namespace cairn {

using Weights = std::shared_ptr<Matrix>;
using Vector = Lines<float>;

inline int count_units(int rows, int unit) { return (rows + unit - 1) / unit; }
inline const float* bias_or_null(const Vector& bias) { return bias.empty() ? nullptr : bias.data(); }
// Biases as wide as their matrix's tiles, so that they are added eight at a time.
inline void pad_bias(Vector& bias) {
    if (!bias.empty()) bias.resize(padded(int(bias.size()), kTileRows));
}

struct Norm {
    Vector weight;  // empty: no norm
    Vector bias;    // not empty: layer norm
    bool is_there() const { return !weight.empty(); }
    NormSpec spec(float eps) const { return {weight.data(), bias.empty() ? nullptr : bias.data(), eps}; }
};

struct Rope {
    int rotary_dim = 0;
    float factor = 1.0f;  // on cosines and sines
    Vector frequencies;   // radians a position [rotary_dim / 2]
};

// A multi-layer perceptron. Gated: `inner` holds 32 rows of the gate, then the same 32 of up, and so on.
struct Mlp {
    Weights inner, down;
    Vector inner_bias, down_bias;
};

struct Experts {
    int num_per_token = 0;
    bool normalise = true;  // the chosen ones' weights sum to one
    Weights router;         // float32
    std::vector<Mlp> experts;
    Mlp shared;  // inner null: none
    Weights shared_gate;  // float32, one row
    bool is_there() const { return router != nullptr; }
};

struct Layer {
    Norm attention_norm, attention_post_norm, mlp_norm, mlp_post_norm, q_norm, k_norm;
    Weights qkv;  // the heads of q, k and v, each padded to a multiple of 16 rows
    Vector qkv_bias;
    Weights output;
    Vector output_bias;
    Mlp mlp;
    Experts experts;
    int rope = -1;  // index into the model's ropes; -1: none
    float scale = 1.0f;
    int64_t window = 0;    // 0: none
    float softcap = 0.0f;  // 0: none
};

struct ModelSpec {
    int vocab_size = 0, hidden_size = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
    float norm_eps = 0, embedding_scale = 1.0f, logit_softcap = 0.0f;
    bool norms_whole_projection = false;  // q_norm and k_norm over all heads (OLMo 2), not each head
    bool gated = true;
    Activation activation = Activation::silu;
    Weights embedding, position_embedding, head;  // head null: the embedding
    Norm norm;
    std::vector<Rope> ropes;
    std::vector<Layer> layers;
};

// One step: T tokens end to end, decode tokens first. The arrays are the caller's.
struct StepInput {
    struct Span {
        int64_t row, start, stop;
        const int64_t* blocks;
    };
    int num_tokens = 0, num_decodes = 0;
    const int64_t* token_ids = nullptr;
    const int64_t* positions = nullptr;
    const int64_t* slots = nullptr;
    const int64_t* decode_tables = nullptr;  // [num_decodes, table_width]
    int64_t table_width = 0;
    std::vector<Span> spans;
    std::vector<int64_t> logit_rows;
    float* logits = nullptr;  // [logit_rows, vocab_size]
    int64_t* likeliest = nullptr;  // [logit_rows], the first of equals; -1 where a logit is not finite
    std::vector<AdapterRows> adapters;  // made for this model; a row is in one of them at most
};

class Model : private Pool::Work {
  public:
    Model(ModelSpec spec, int num_threads, bool pin, const std::string& kernels);

    const ModelSpec& spec() const { return spec_; }
    uint64_t id() const { return id_; }  // no two models of a process have the same
    const char* kernels_name() const { return kernels_.name; }
    int num_threads() const { return pool_.num_threads(); }
    size_t num_bytes() const;

    size_t bytes_per_block(int block_size, CacheType type) const;
    void allocate_cache(int num_blocks, int block_size, CacheType type);
    int64_t num_blocks() const { return num_blocks_; }
    int block_size() const { return shape_.block_size; }
    void clear_blocks(const std::vector<int64_t>& blocks);
    // What the first block of each pair holds goes to the second, one pair after the other.
    void copy_blocks(const std::vector<std::pair<int64_t, int64_t>>& pairs);
    void forward(const StepInput& input);

  private:
    enum class Kind {
        embed, enter_attention, project, norm_whole, attend, take_attended, output,
        enter_mlp, inner, down, route, group, expert_inner, expert_down, combine, enter_head, head,
        shrink_qkv, shrink_output, shrink_inner, shrink_down, shrink_expert_inner, shrink_expert_down,
    };
    struct Planned {
        Kind kind;
        int layer;
        const Matrix* weights = nullptr;  // of a product that every token takes part in
        int unit_tiles = 0;
        int next_product = -1;  // the next step with weights
    };
    // Queries of one sequence that lie in following rows.
    struct QueryTile {
        int64_t row, position;
        int num_tokens;
        const int64_t* blocks;
    };
    // What a thread keeps to itself.
    struct Private {
        Activations rows;  // of a step with few tokens: each thread makes its own
        int prepared = -1;  // the step they belong to
        Vector product, hidden, attention, given;
    };
    // Rows of a product that share an adapter.
    struct Piece {
        const Adapter* adapter;
        const int32_t* rows;
        int num_rows;
    };
    // What changes a product: whose rows, and where their low-rank rows lie [rows, low_rank_width_].
    struct Adapting {
        int layer, product;
        std::span<const Piece> pieces;
        float* low_rank;
    };
    // Where the tokens of a mixture of experts go; slots are (token, choice) pairs sorted by expert.
    struct Routing {
        std::vector<int32_t> chosen, slot_of, token_of_slot, slots, starts;
        Vector weights;
    };

    static std::vector<Planned> plan(const ModelSpec& spec);
    void find_weights();
    void make_room(const StepInput& input);
    void make_room_for_experts(const Experts& experts);
    int units_of(const Planned& planned) const;
    void run(int step, int unit, int thread) override;
    void wait(int step, int thread, int turn) override;

    void add_decode(int row);
    void embed(int token);
    void add_residual(int64_t row, const float* x, const Norm& post_norm, float* out) const;
    void enter(int row, int64_t from_row, const Norm& post_norm, const Norm& norm, bool has_residual,
               const float* from, float* to, Activations& out, Vector& hidden);
    void enter_attention(int layer, int token, Activations& out, Vector& hidden);
    void enter_mlp(int layer, int token, Activations& out, Vector& hidden);
    void enter_head(int row, Activations& out, Vector& hidden);
    const Activations& entered(int step, Kind kind, int layer, int num_rows, const Activations& shared, Private& own);
    void project(int step, int layer, int head, Private& own);
    void finish_head(const Layer& layer, int layer_index, int head, int token, float* values);
    void write_cache(int layer, int head, int token, const float* key, const float* value);
    void norm_whole(int layer, int token);
    void attend(int layer, int unit, Private& own);
    void take_adapters();
    void take_expert_adapters(int layer);
    Adapting adapting(int layer, Projection projection);
    Adapting adapting_expert(int layer, int expert, int product);
    int shrink_units(int layer, Projection projection) const;
    int shrink_expert_units(int layer) const;
    void shrink(const Adapting& change, const Piece& piece, int group, const Activations& rows, const int32_t* from,
                Private& own);
    void shrink(int layer, Projection projection, int unit, const Activations& rows, Private& own);
    void shrink_expert(int layer, int unit, bool is_down, Private& own);
    void fetch_panels(const Adapting& change, int part, int first_row, int num_rows) const;
    void expand(const Adapting& change, int part, int first_row, int num_rows, float* out, size_t stride) const;
    void multiply_rows(int layer, Projection projection, const Weights& matrix, const Vector& bias,
                       const Activations& input, int unit, float* out);
    void inner(const Adapting& change, const Mlp& mlp, const Activations& input, const int32_t* rows, int num_rows,
               int unit, int first_out, Activations& out, Private& own);
    void head(int step, int unit, Private& own);
    int64_t likeliest(int row) const;
    void route(int layer, int token, Private& own);
    void group_tokens(int layer);
    void expert_down(int layer, int unit);
    void combine(int layer, int token);

    float* x(int which, int64_t row) { return x_[which].data() + row * width_; }
    const float* angles(int rope, int token) const;
    uint8_t* chunk(int layer, int64_t block, int head) const {
        return cache_.data() + ((size_t(layer) * num_blocks_ + block) * spec_.num_kv_heads + head) * shape_.chunk_bytes();
    }
    bool is_private(int num_rows) const { return num_rows <= kFewRows && pieces_.empty(); }

    // Up to so many rows each thread norms and quantises for itself, which is quicker than to wait for it.
    static constexpr int kFewRows = 4;
    static constexpr int kUnitRows = 32;   // outputs of a unit of work
    static constexpr int kHeadRows = 64;   // the same for the output head
    static constexpr int kAheadTurns = 256;  // of waiting, in which 256 bytes each are fetched ahead

    const uint64_t id_;
    ModelSpec spec_;
    const Kernels& kernels_;
    std::vector<Planned> steps_;
    int width_;       // hidden size, padded to the tile
    int head_width_;  // head size, padded to the tile
    CacheShape shape_;
    int64_t num_blocks_ = 0;
    Buffer cache_;

    StepInput input_;
    std::vector<int> units_;
    std::atomic<bool> has_few_rows_ = false;
    std::vector<QueryTile> tiles_;
    int tile_tokens_ = 1;  // tokens of a sequence that attend in one unit of work, at most
    Vector x_[2], y_, queries_, keys_, attended_, angles_, expert_out_;
    Vector peaks_;  // of each row's logits, those of a unit of the head [logit_rows, units]
    Activations hidden_rows_, attended_rows_, mid_rows_, head_rows_, router_rows_, expert_rows_;
    Routing routing_;
    std::vector<Piece> pieces_, expert_pieces_;
    std::vector<int> expert_piece_starts_;  // [experts + 1] of the layer under way
    std::vector<int32_t> adapted_rows_, adapted_slots_, adapter_of_row_;
    Vector low_rank_, expert_low_rank_;
    int low_rank_width_ = 0;
    bool has_adapted_experts_ = false;
    std::vector<Private> private_;
    Pool pool_;  // last: its threads end first
};

}  // namespace cairn
