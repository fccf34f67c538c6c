// The mixture of experts: tokens are sorted by expert, and each expert is two products over its tokens.
//
//   route         a token        probabilities = softmax(router), the k likeliest and their weights
//   group         once           slots: the (token, choice) pairs in order of expert, then of token
//   expert_inner  experts x 32   for all tokens of an expert
//   expert_down   experts x 32
//   inner, down                  of the expert that all tokens pass, where there is one
//   combine       a token        y = sum of its experts' outputs times their weights, in the router's order
#include <algorithm>
#include <cmath>
#include <numeric>

#include "model.h"

namespace cairn {

void Model::make_room_for_experts(const Experts& experts) {
    const int num_tokens = input_.num_tokens, num_slots = num_tokens * experts.num_per_token;
    router_rows_.shape(num_tokens, spec_.hidden_size, Format::float32);
    expert_rows_.shape(num_slots, experts.experts[0].down->num_inputs, experts.experts[0].down->format);
    for (auto* each : {&routing_.chosen, &routing_.slot_of, &routing_.token_of_slot, &routing_.slots}) {
        grow(*each, num_slots);
    }
    grow(routing_.weights, num_slots);
    grow(expert_out_, size_t(num_slots) * width_);
}

void Model::route(int index, int token, Private& own) {
    const Experts& experts = spec_.layers[index].experts;
    const int num = int(experts.experts.size()), chosen = experts.num_per_token;
    if (own.product.size() < size_t(padded(num, kTileRows))) own.product.resize(padded(num, kTileRows));
    float* scores = own.product.data();
    const int32_t row = token;
    kernels_.matmul({experts.router.get(), &router_rows_, &row, 1, 0, experts.router->num_tiles(), nullptr, scores,
                     size_t(experts.router->num_tiles()) * kTileRows});
    kernels_.softmax(scores, num);
    int32_t* choice = routing_.chosen.data() + size_t(token) * chosen;
    float* weight = routing_.weights.data() + size_t(token) * chosen;
    float total = 0.0f;
    for (int k = 0; k < chosen; k++) {
        int best = -1;
        for (int e = 0; e < num; e++) {
            const bool is_taken = std::find(choice, choice + k, e) != choice + k;
            if (!is_taken && (best < 0 || scores[e] > scores[best])) best = e;
        }
        choice[k] = best;
        total += weight[k] = scores[best];
    }
    for (int k = 0; experts.normalise && k < chosen; k++) weight[k] /= total;
}

void Model::group_tokens(int index) {
    const Experts& experts = spec_.layers[index].experts;
    const int num = int(experts.experts.size()), chosen = experts.num_per_token;
    const int num_slots = input_.num_tokens * chosen;
    routing_.starts.assign(num + 1, 0);
    for (int i = 0; i < num_slots; i++) routing_.starts[routing_.chosen[i] + 1]++;
    std::partial_sum(routing_.starts.begin(), routing_.starts.end(), routing_.starts.begin());
    std::vector<int32_t> next(routing_.starts.begin(), routing_.starts.end() - 1);
    for (int i = 0; i < num_slots; i++) {
        const int slot = next[routing_.chosen[i]]++;
        routing_.slot_of[i] = slot;
        routing_.token_of_slot[slot] = i / chosen;
        routing_.slots[slot] = slot;
    }
    if (has_adapted_experts_) take_expert_adapters(index);
}

void Model::expert_down(int index, int unit) {
    const Experts& experts = spec_.layers[index].experts;
    const int blocks = (spec_.hidden_size + kUnitRows - 1) / kUnitRows, expert = unit / blocks;
    const int first = routing_.starts[expert], count = routing_.starts[expert + 1] - first;
    if (count == 0) return;
    const Matrix& down = *experts.experts[expert].down;
    const int tile = unit % blocks * (kUnitRows / kTileRows);
    const int tiles = std::min(kUnitRows / kTileRows, down.num_tiles() - tile);
    const Adapting change = adapting_expert(index, expert, expert_down_product(expert));
    float* out = expert_out_.data() + size_t(first) * width_ + size_t(tile) * kTileRows;
    fetch_panels(change, 0, tile * kTileRows, tiles * kTileRows);
    kernels_.matmul({&down, &expert_rows_, routing_.slots.data() + first, count, tile, tiles, nullptr, out,
                     size_t(width_)});
    expand(change, 0, tile * kTileRows, tiles * kTileRows, out, size_t(width_));
}

void Model::combine(int index, int token) {
    const Experts& experts = spec_.layers[index].experts;
    const int chosen = experts.num_per_token, size = spec_.hidden_size;
    float* y = y_.data() + size_t(token) * width_;
    float gate = 0.0f;
    if (experts.shared.inner) {
        alignas(32) float score[kTileRows];
        const int32_t row = token;
        kernels_.matmul({experts.shared_gate.get(), &router_rows_, &row, 1, 0, 1, nullptr, score, kTileRows});
        gate = 1.0f / (1.0f + std::exp(-score[0]));
    }
    for (int i = 0; i < size; i++) {
        float total = 0.0f;
        for (int k = 0; k < chosen; k++) {
            const size_t at = size_t(token) * chosen + k;
            total += routing_.weights[at] * expert_out_[size_t(routing_.slot_of[at]) * width_ + i];
        }
        y[i] = experts.shared.inner ? total + gate * y[i] : total;
    }
}

}  // namespace cairn
