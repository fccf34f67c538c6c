// What a decoder's step consists of: the list of the pool's steps, the weights that each one reads, and for a
// given call the room it needs and how many units each step has. model.cpp computes them.
#include <algorithm>

#include "model.h"

namespace cairn {

std::vector<Model::Planned> Model::plan(const ModelSpec& spec) {
    std::vector<Planned> steps{{.kind = Kind::embed, .layer = 0}};
    for (int layer = 0; layer < int(spec.layers.size()); layer++) {
        const auto add = [&](std::initializer_list<Kind> kinds) {
            for (Kind kind : kinds) steps.push_back({.kind = kind, .layer = layer});
        };
        add({Kind::enter_attention, Kind::shrink_qkv, Kind::project});
        if (spec.norms_whole_projection) add({Kind::norm_whole});
        add({Kind::attend, Kind::take_attended, Kind::shrink_output, Kind::output, Kind::enter_mlp});
        const Experts& experts = spec.layers[layer].experts;
        if (experts.is_there()) {
            add({Kind::route, Kind::group, Kind::shrink_expert_inner, Kind::expert_inner});
            add({Kind::shrink_expert_down, Kind::expert_down});
        }
        if (!experts.is_there() || experts.shared.inner) {
            add({Kind::shrink_inner, Kind::inner, Kind::shrink_down, Kind::down});
        }
        if (experts.is_there()) add({Kind::combine});
    }
    steps.push_back({.kind = Kind::enter_head, .layer = 0});
    steps.push_back({.kind = Kind::head, .layer = 0});
    return steps;
}

// Which weights each step streams, and which come next.
void Model::find_weights() {
    int next = -1;
    for (int step = int(steps_.size()) - 1; step >= 0; step--) {
        Planned& planned = steps_[step];
        const Layer& layer = spec_.layers[planned.layer];
        const Mlp& mlp = layer.experts.is_there() ? layer.experts.shared : layer.mlp;
        const auto set = [&](const Weights& weights, int unit_rows) {
            planned.weights = weights.get();
            planned.unit_tiles = unit_rows / kTileRows;
        };
        switch (planned.kind) {
            case Kind::project: set(layer.qkv, head_width_); break;
            case Kind::output: set(layer.output, kUnitRows); break;
            case Kind::inner: set(mlp.inner, (spec_.gated ? 2 : 1) * kUnitRows); break;
            case Kind::down: set(mlp.down, kUnitRows); break;
            case Kind::head: set(spec_.head, kHeadRows); break;
            default: break;
        }
        planned.next_product = next;
        if (planned.weights) next = step;
    }
}

void Model::make_room(const StepInput& input) {
    const size_t rows = std::max(input.num_tokens, int(input.logit_rows.size()));
    grow(x_[0], rows * width_);
    grow(x_[1], rows * width_);
    grow(y_, rows * width_);
    grow(queries_, rows * spec_.num_heads * spec_.head_dim);
    if (spec_.norms_whole_projection) grow(keys_, rows * spec_.num_kv_heads * spec_.head_dim);
    grow(attended_, rows * spec_.num_heads * spec_.head_dim);
    size_t num_angles = 0;
    for (const Rope& rope : spec_.ropes) num_angles += rope.rotary_dim;
    grow(angles_, rows * num_angles);
    grow(peaks_, input.logit_rows.size() * count_units(spec_.vocab_size, kHeadRows));
    for (Private& own : private_) {
        grow(own.product, rows * std::max(2 * kUnitRows, head_width_));
        grow(own.hidden, size_t(2) * width_);
        grow(own.attention, attention_scratch(spec_.head_dim));
    }
    const int num_tokens = input.num_tokens, heads = spec_.num_heads * spec_.head_dim;
    const Format format = spec_.layers[0].qkv->format;
    hidden_rows_.shape(num_tokens, spec_.hidden_size, format);
    attended_rows_.shape(num_tokens, heads, format);
    head_rows_.shape(int(input.logit_rows.size()), spec_.hidden_size, spec_.head->format);
    int widest = kGroup;
    for (const Layer& layer : spec_.layers) {
        for (const Mlp* mlp : {&layer.mlp, &layer.experts.shared}) {
            if (mlp->down) widest = std::max(widest, mlp->down->width());
        }
        if (layer.experts.is_there()) make_room_for_experts(layer.experts);
    }
    mid_rows_.shape(num_tokens, widest, format);
}

// How many units a step has for this call; none where each thread does it for itself.
int Model::units_of(const Planned& planned) const {
    const Layer& layer = spec_.layers[planned.layer];
    const int num_tokens = input_.num_tokens, num_rows = int(input_.logit_rows.size());
    const Mlp& mlp = layer.experts.shared.inner ? layer.experts.shared : layer.mlp;
    switch (planned.kind) {
        case Kind::embed:
        case Kind::norm_whole:
        case Kind::route:
        case Kind::combine: return num_tokens;
        case Kind::enter_attention:
        case Kind::take_attended: return is_private(num_tokens) ? 0 : num_tokens;
        case Kind::enter_mlp: return is_private(num_tokens) && !layer.experts.is_there() ? 0 : num_tokens;
        case Kind::enter_head: return is_private(num_rows) ? 0 : num_rows;
        case Kind::project: return spec_.num_heads + 2 * spec_.num_kv_heads;
        case Kind::attend: return int(tiles_.size()) * spec_.num_kv_heads;
        case Kind::output: return count_units(spec_.hidden_size, kUnitRows);
        case Kind::inner: return mlp.down->width() / kUnitRows;
        case Kind::down: return count_units(spec_.hidden_size, kUnitRows);
        case Kind::group: return 1;
        case Kind::expert_inner:
            return int(layer.experts.experts.size()) * layer.experts.experts[0].down->width() / kUnitRows;
        case Kind::expert_down:
            return int(layer.experts.experts.size()) * count_units(spec_.hidden_size, kUnitRows);
        case Kind::shrink_qkv: return shrink_units(planned.layer, Projection::qkv);
        case Kind::shrink_output: return shrink_units(planned.layer, Projection::output);
        case Kind::shrink_inner: return shrink_units(planned.layer, Projection::inner);
        case Kind::shrink_down: return shrink_units(planned.layer, Projection::down);
        case Kind::shrink_expert_inner:
        case Kind::shrink_expert_down: return shrink_expert_units(planned.layer);
        case Kind::head: return num_rows ? count_units(spec_.vocab_size, kHeadRows) : 0;
    }
    return 0;
}

}  // namespace cairn
