// Adapters within a step. Rows that share an adapter are cut into pieces of up to 32, and around each product:
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
        std::vector<LowRank>& layer = layers_.emplace_back(kProjections);
        for (int p = 0; p < kProjections; p++) {
            if (source[p].rank == 0) continue;
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
        for (int p = 0; p < kProjections; p++) {
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
    int widest = 0;
    for (const AdapterRows& group : input_.adapters) {
        low_rank_width_ = std::max(low_rank_width_, group.adapter->widest());
        for (int at = 0; at < group.num_rows; at += kPieceRows) {
            const int count = std::min(kPieceRows, group.num_rows - at);
            pieces_.push_back({group.adapter.get(), int(adapted_rows_.size()), count});
            adapted_rows_.insert(adapted_rows_.end(), group.rows + at, group.rows + at + count);
            widest = std::max(widest, count);
        }
    }
    if (pieces_.empty()) return;
    const size_t low_rank = size_t(input_.num_tokens) * low_rank_width_;
    if (low_rank_.size() < low_rank) low_rank_.resize(low_rank);
    const size_t wide = size_t(widest) * std::max({hidden_rows_.width, attended_rows_.width, mid_rows_.width});
    for (Private& own : private_) {
        if (own.given.size() < wide) own.given.resize(wide);
    }
}

int Model::shrink_units(int layer, Projection projection) const {
    int tiles = 0;
    for (const Piece& piece : pieces_) tiles = std::max(tiles, piece.adapter->of(layer, projection).a.tiles);
    return int(pieces_.size()) * ((tiles + kShrinkTiles - 1) / kShrinkTiles);
}

// 16 numbers of the low-rank rows of a piece.
void Model::shrink(int layer, Projection projection, int unit, const Activations& rows, Private& own) {
    const Piece& piece = pieces_[unit % pieces_.size()];
    const Panel& a = piece.adapter->of(layer, projection).a;
    const int first = unit / int(pieces_.size()) * kShrinkTiles, tiles = std::min(kShrinkTiles, a.tiles - first);
    if (tiles <= 0) return;
    const int32_t* at = adapted_rows_.data() + piece.first;
    for (int t = 0; t < piece.num_rows; t++) kernels_.give_row(rows, at[t], own.given.data() + size_t(t) * rows.width);
    kernels_.low_rank({piece.adapter->format(), piece.adapter->data(a), a.inputs, first, tiles, at, piece.num_rows,
                       own.given.data(), size_t(rows.width), true,
                       low_rank_.data() + size_t(first) * kPanelRows, size_t(low_rank_width_), false});
}

// Add what the adapters change of some outputs of a product; row `r` of it lies at out + r * stride.
void Model::expand(int layer, Projection projection, int part, int first_row, int num_rows, float* out,
                   size_t stride) {
    for (const Piece& piece : pieces_) {
        const LowRank& found = piece.adapter->of(layer, projection);
        if (found.a.tiles == 0 || found.parts[part].b.inputs == 0) continue;
        const auto& [first, b] = found.parts[part];
        kernels_.low_rank({piece.adapter->format(), piece.adapter->data(b), b.inputs, first_row / kPanelRows,
                           num_rows / kPanelRows, adapted_rows_.data() + piece.first, piece.num_rows,
                           low_rank_.data() + first, size_t(low_rank_width_), false, out, stride, true});
    }
}

}  // namespace cairn
