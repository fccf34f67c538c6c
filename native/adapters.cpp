// Adapters within a step. Rows that share an adapter are cut into pieces of up to 32 (of an expert those of its
// rows, once tokens are sorted), and around each product:
//
//   shrink    pieces x 16 numbers of the low-rank row    s = A x
//   (within the unit that computes 32 outputs or a head)  y += B s, piece after piece
//
// After Punica (Chen et al. 2023) and S-LoRA (Sheng et al. 2023), whose kernels also compute all adapters of
// a batch at once, grouped by adapter.
#include "adapters.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "model.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cairn {

namespace {
constexpr size_t kHugePage = size_t(2) << 20;
constexpr int kPieceRows = 32;
constexpr int kShrinkTiles = 2;  // of a unit of work
}  // namespace

Adapter::Adapter(const std::vector<LayerSource>& layers, Format format, uint64_t model_id)
    : format_(format), model_id_(model_id) {
    for (const LayerSource& source : layers) {
        std::vector<LowRank>& layer = layers_.emplace_back(source.size());
        for (int p = 0; p < int(source.size()); p++) {
            if (source[p].rank == 0) continue;
            has_experts_ |= p >= kProjections;
            layer[p].a = place(source[p].rank, source[p].inputs);
            widest_ = std::max(widest_, layer[p].a.tiles * kPanelRows);
            for (const auto& part : source[p].parts) {
                layer[p].parts.push_back({part.first, place(part.num_rows, part.rank)});
            }
        }
    }
    const bool is_large = num_bytes_ >= kHugePage;
    const size_t step = is_large ? kHugePage : 64, size = (num_bytes_ + step - 1) / step * step;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(step, std::max(size, step))));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (is_large) madvise(data_.get(), size, MADV_HUGEPAGE);
#endif
    std::memset(data_.get(), 0, size);
    for (int l = 0; l < int(layers.size()); l++) {
        for (int p = 0; p < int(layers[l].size()); p++) {
            const LowRankSource& source = layers[l][p];
            if (source.rank == 0) continue;
            fill(layers_[l][p].a, source.a, source.rank);
            for (int i = 0; i < int(source.parts.size()); i++) {
                const auto& part = source.parts[i];
                fill(layers_[l][p].parts[i].b, part.b, part.num_rows);
            }
        }
    }
}

Panel Adapter::place(int num_rows, int inputs) {
    const Panel panel{inputs, padded(num_rows, kPanelRows) / kPanelRows, num_bytes_};
    num_bytes_ += panel.num_bytes(format_);
    return panel;
}

void Adapter::fill(const Panel& panel, const float* values, int num_rows) {
    const int inputs = panel.inputs;
    uint8_t* to = data_.get() + panel.offset;
    for (int row = 0; row < num_rows; row++) {
        for (int k = 0; k < inputs; k++) {
            const size_t at = (size_t(row / kPanelRows) * inputs + k) * kPanelRows + row % kPanelRows;
            const float value = values[size_t(row) * inputs + k];
            if (format_ == Format::float32) reinterpret_cast<float*>(to)[at] = value;
            else reinterpret_cast<uint16_t*>(to)[at] = float_to_bfloat16(value);
        }
    }
}

// Cut the step's rows into pieces of one adapter each.
void Model::take_adapters() {
    pieces_.clear();
    adapted_rows_.clear();
    low_rank_width_ = 0;
    has_adapted_experts_ = false;
    int widest = 0, num_rows = 0;
    for (const AdapterRows& group : input_.adapters) num_rows += group.num_rows;
    adapted_rows_.reserve(num_rows);  // pieces point into it
    if (num_rows == 0) return;
    adapter_of_row_.assign(input_.num_tokens, -1);
    for (int g = 0; g < int(input_.adapters.size()); g++) {
        const AdapterRows& group = input_.adapters[g];
        low_rank_width_ = std::max(low_rank_width_, group.adapter->widest());
        has_adapted_experts_ |= group.adapter->has_experts();
        for (int i = 0; i < group.num_rows; i++) adapter_of_row_[group.rows[i]] = g;
        for (int at = 0; at < group.num_rows; at += kPieceRows) {
            const int count = std::min(kPieceRows, group.num_rows - at);
            pieces_.push_back({group.adapter.get(), adapted_rows_.data() + adapted_rows_.size(), count});
            adapted_rows_.insert(adapted_rows_.end(), group.rows + at, group.rows + at + count);
            widest = std::max(widest, count);
        }
    }
    grow(low_rank_, size_t(input_.num_tokens) * low_rank_width_);
    const int width = std::max({hidden_rows_.width, attended_rows_.width, mid_rows_.width, expert_rows_.width});
    for (Private& own : private_) grow(own.given, size_t(widest) * width);
}

// The same for the rows of each expert, once tokens are sorted: they are counted from the expert's first slot.
void Model::take_expert_adapters(int layer) {
    const int num_experts = int(spec_.layers[layer].experts.experts.size());
    const int num_slots = routing_.starts[num_experts], num_groups = int(input_.adapters.size());
    expert_pieces_.clear();
    expert_piece_starts_.assign(1, 0);
    adapted_slots_.clear();
    adapted_slots_.reserve(num_slots);
    for (int expert = 0; expert < num_experts; expert++) {
        const int first = routing_.starts[expert], end = routing_.starts[expert + 1];
        for (int g = 0; g < num_groups && first < end; g++) {
            const Adapter* adapter = input_.adapters[g].adapter.get();
            int count = kPieceRows;  // of the piece at hand; at first there is none
            for (int slot = first; slot < end; slot++) {
                if (adapter_of_row_[routing_.token_of_slot[slot]] != g) continue;
                if (count == kPieceRows) {
                    expert_pieces_.push_back({adapter, adapted_slots_.data() + adapted_slots_.size(), 0});
                    count = 0;
                }
                adapted_slots_.push_back(slot - first);
                expert_pieces_.back().num_rows = ++count;
            }
        }
        expert_piece_starts_.push_back(int(expert_pieces_.size()));
    }
    grow(expert_low_rank_, size_t(num_slots) * low_rank_width_);
}

Model::Adapting Model::adapting(int layer, Projection projection) {
    return {layer, int(projection), pieces_, low_rank_.data()};
}

Model::Adapting Model::adapting_expert(int layer, int expert, int product) {
    if (!has_adapted_experts_) return {layer, product, {}, nullptr};
    const int first = expert_piece_starts_[expert], end = expert_piece_starts_[expert + 1];
    return {layer, product, std::span(expert_pieces_).subspan(first, end - first),
            expert_low_rank_.data() + size_t(routing_.starts[expert]) * low_rank_width_};
}

int Model::shrink_units(int layer, Projection projection) const {
    int tiles = 0;
    for (const Piece& piece : pieces_) tiles = std::max(tiles, piece.adapter->of(layer, int(projection)).a.tiles);
    return int(pieces_.size()) * count_units(tiles, kShrinkTiles);
}

// A unit for each expert and 16 numbers of the widest adapter: which rows an expert has is not known beforehand.
int Model::shrink_expert_units(int layer) const {
    if (!has_adapted_experts_) return 0;
    return int(spec_.layers[layer].experts.experts.size()) * count_units(low_rank_width_, kShrinkTiles * kPanelRows);
}

void Model::shrink_expert(int layer, int unit, bool is_down, Private& own) {
    const int num_experts = int(spec_.layers[layer].experts.experts.size()), expert = unit % num_experts;
    const int product = is_down ? expert_down_product(expert) : expert_inner_product(expert);
    const Adapting change = adapting_expert(layer, expert, product);
    const int32_t* from = (is_down ? routing_.slots : routing_.token_of_slot).data() + routing_.starts[expert];
    for (const Piece& piece : change.pieces) {
        shrink(change, piece, unit / num_experts, is_down ? expert_rows_ : hidden_rows_, from, own);
    }
}

// 16 numbers of the low-rank rows of a piece; row `r` of it is row from[r] of `rows`, or `r` itself.
void Model::shrink(const Adapting& change, const Piece& piece, int group, const Activations& rows,
                   const int32_t* from, Private& own) {
    const Panel& a = piece.adapter->of(change.layer, change.product).a;
    const int first = group * kShrinkTiles, tiles = std::min(kShrinkTiles, a.tiles - first);
    if (tiles <= 0) return;
    for (int t = 0; t < piece.num_rows; t++) {
        const int row = from ? from[piece.rows[t]] : piece.rows[t];
        kernels_.give_row(rows, row, own.given.data() + size_t(t) * rows.width);
    }
    kernels_.low_rank({piece.adapter->format(), piece.adapter->data(a), a.inputs, first, tiles, piece.rows,
                       piece.num_rows, own.given.data(), size_t(rows.width), true,
                       change.low_rank + size_t(first) * kPanelRows, size_t(low_rank_width_), false});
}

void Model::shrink(int layer, Projection projection, int unit, const Activations& rows, Private& own) {
    const int num_pieces = int(pieces_.size());
    shrink(adapting(layer, projection), pieces_[unit % num_pieces], unit / num_pieces, rows, nullptr, own);
}

// Panels that `expand` will read are asked for before the product they follow: each is short and lies elsewhere.
void Model::fetch_panels(const Adapting& change, int part, int first_row, int num_rows) const {
    for (const Piece& piece : change.pieces) {
        const LowRank& found = piece.adapter->of(change.layer, change.product);
        if (found.a.tiles == 0) continue;
        const Panel& b = found.parts[part].b;
        const uint8_t* from = piece.adapter->data(b);
        const size_t tile = b.num_bytes(piece.adapter->format()) / std::max(1, b.tiles);
        const size_t end = (first_row + num_rows) / kPanelRows * tile;
        for (size_t at = first_row / kPanelRows * tile; at < end; at += 64) __builtin_prefetch(from + at, 0, 2);
    }
}

// Add what the adapters change of some outputs of a product; row `r` of it lies at out + r * stride.
void Model::expand(const Adapting& change, int part, int first_row, int num_rows, float* out, size_t stride) const {
    for (const Piece& piece : change.pieces) {
        const LowRank& found = piece.adapter->of(change.layer, change.product);
        if (found.a.tiles == 0 || found.parts[part].b.inputs == 0) continue;
        const auto& [first, b] = found.parts[part];
        kernels_.low_rank({piece.adapter->format(), piece.adapter->data(b), b.inputs, first_row / kPanelRows,
                           num_rows / kPanelRows, piece.rows, piece.num_rows, change.low_rank + first,
                           size_t(low_rank_width_), false, out, stride, true});
    }
}

}  // namespace cairn
