// Low-rank adapters (LoRA, Hu et al. 2021): y += B (A x) for the rows of a step that ask for one.
//
// Four products of a layer may have one each: queries, keys and values; attention's output; gate and up; down;
// and of a mixture, gate and up and down of each expert.
// What is multiplied together in the base is adapted together: the A's of a product lie below each other
// and give one low-rank row; each part of the product (queries | keys | values, gate | up) has a B of its own
// that reads its piece of that row. A scale is part of B.
//
// A and B are panels: tiles of 8 outputs, [inputs][8] numbers each, in float32 or bfloat16:
//
//   input 0: output 0 .. output 7 | input 1: output 0 .. output 7 | ...
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "layout.h"

namespace cairn {

constexpr int kPanelRows = 8;

struct Panel {
    int inputs = 0;
    int tiles = 0;
    size_t offset = 0;  // in the adapter's memory

    size_t num_bytes(Format format) const {
        return size_t(tiles) * inputs * kPanelRows * (format == Format::float32 ? 4 : 2);
    }
};

struct LowRank {
    struct Part {
        int first = 0;  // where in the low-rank row its numbers begin
        Panel b;        // no inputs: this part is not adapted
    };
    Panel a;  // no tiles: this product is not adapted
    std::vector<Part> parts;
};

enum class Projection { qkv, output, inner, down };
constexpr int kProjections = 4;
// Products of a layer by number: its projections, then `inner` and `down` of each expert.
constexpr int expert_inner_product(int expert) { return kProjections + 2 * expert; }
constexpr int expert_down_product(int expert) { return kProjections + 2 * expert + 1; }

// What a product's adapter is made of, row by row; `b` is as wide as its part of the base's matrix.
struct LowRankSource {
    struct Part {
        int first = 0, rank = 0, num_rows = 0;
        const float* b = nullptr;  // [num_rows, rank]
    };
    int rank = 0, inputs = 0;  // rank 0: not adapted
    const float* a = nullptr;  // [rank, inputs]
    std::vector<Part> parts;
};
using LayerSource = std::vector<LowRankSource>;  // by product; experts may be left out

// An adapter of one model. Immutable; a step that uses it keeps it alive.
class Adapter {
  public:
    // `model_id`: whose shapes the caller has checked it against.
    Adapter(const std::vector<LayerSource>& layers, Format format, uint64_t model_id);

    uint64_t model_id() const { return model_id_; }
    Format format() const { return format_; }
    size_t num_bytes() const { return num_bytes_; }
    const LowRank& of(int layer, int product) const {
        static const LowRank kNone;
        return product < int(layers_[layer].size()) ? layers_[layer][product] : kNone;
    }
    bool has_experts() const { return has_experts_; }
    const uint8_t* data(const Panel& panel) const { return data_.get() + panel.offset; }
    int widest() const { return widest_; }  // numbers of its longest low-rank row, padded

  private:
    Panel place(int num_rows, int inputs);
    void fill(const Panel& panel, const float* values, int num_rows);

    Format format_;
    uint64_t model_id_;
    std::vector<std::vector<LowRank>> layers_;
    size_t num_bytes_ = 0;
    int widest_ = 0;
    bool has_experts_ = false;
    std::unique_ptr<uint8_t, decltype(&std::free)> data_{nullptr, &std::free};
};

// Rows of a step that use an adapter.
struct AdapterRows {
    std::shared_ptr<const Adapter> adapter;
    const int64_t* rows = nullptr;
    int num_rows = 0;
};

}  // namespace cairn
