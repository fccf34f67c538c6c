#include "graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace cairn {

namespace {

constexpr int kMostLayers = 16;

// The highest layer of a slot: geometric with mean 1 / ln(degree), drawn from the slot's number (SplitMix64, Steele
// et al. 2014).
int level_of(int32_t slot, int degree) {
    uint64_t z = uint64_t(slot + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    const double uniform = double((z ^ (z >> 31)) >> 11) * 0x1p-53 + 0x1p-54;
    return std::min(kMostLayers, int(-std::log(uniform) / std::log(double(degree))));
}

void prefetch(const int8_t* from, int count) {
    for (int i = 0; i < count; i += 64) __builtin_prefetch(from + i);
}

}  // namespace

// What one search writes to: marks of what it has seen, and two heaps.
struct Graph::Scratch {
    std::vector<uint16_t> marks;
    uint16_t mark = 0;
    std::vector<Neighbour> open;   // the best on top
    std::vector<Neighbour> found;  // the worst on top

    void begin(size_t size) {
        if (marks.size() < size) marks.resize(size + size / 4, 0);
        if (++mark == 0) {
            std::fill(marks.begin(), marks.end(), uint16_t(0));
            mark = 1;
        }
        open.clear();
        found.clear();
    }
    bool is_new(int32_t slot) {
        if (marks[size_t(slot)] == mark) return false;
        marks[size_t(slot)] = mark;
        return true;
    }
    void push_open(Neighbour each) {
        open.push_back(each);
        std::push_heap(open.begin(), open.end());
    }
    Neighbour pop_open() {
        std::pop_heap(open.begin(), open.end());
        const Neighbour best = open.back();
        open.pop_back();
        return best;
    }
    void push_found(Neighbour each, int breadth) {
        found.push_back(each);
        std::push_heap(found.begin(), found.end(), std::greater<>());
        if (int(found.size()) <= breadth) return;
        std::pop_heap(found.begin(), found.end(), std::greater<>());
        found.pop_back();
    }
    std::vector<Neighbour> best_first() {
        std::sort(found.begin(), found.end(), std::greater<>());
        return std::move(found);
    }
};

Graph::Graph(int dimensions, int degree, int breadth, const std::string& kernels)
    : kernels_(chosen_kernels(kernels)), dimensions_(dimensions), width_(padded(dimensions, 32)), degree_(degree),
      breadth_(breadth) {}
Graph::~Graph() = default;

std::unique_lock<std::shared_mutex> Graph::exclusive() const {
    std::lock_guard gate(gate_);
    return std::unique_lock(lock_);
}
std::shared_lock<std::shared_mutex> Graph::shared() const {
    std::lock_guard gate(gate_);
    return std::shared_lock(lock_);
}

std::unique_ptr<Graph::Scratch> Graph::scratch() const {
    std::lock_guard held(spare_lock_);
    if (spare_.empty()) return std::make_unique<Scratch>();
    std::unique_ptr<Scratch> taken = std::move(spare_.back());
    spare_.pop_back();
    return taken;
}
void Graph::give_back(std::unique_ptr<Scratch> used) const {
    std::lock_guard held(spare_lock_);
    spare_.push_back(std::move(used));
}

Graph::Code Graph::encoded(const float* vector) const {
    float extreme = 0;
    for (int i = 0; i < dimensions_; i++) extreme = std::max(extreme, std::fabs(vector[i]));
    Code out{std::vector<int8_t>(size_t(width_)), extreme / 127.0f};
    const float inverse = extreme > 0 ? 127.0f / extreme : 0.0f;
    for (int i = 0; i < dimensions_; i++) {
        out.bytes[size_t(i)] = int8_t(std::clamp(std::nearbyint(vector[i] * inverse), -127.0f, 127.0f));
    }
    return out;
}

// A slot without links. Nobody can come to it yet.
void Graph::append(const float* vector, int level) {
    const Code made = encoded(vector);
    std::unique_ptr<uint32_t[]> upper;
    if (level) upper = std::make_unique<uint32_t[]>(size_t(level) * (1 + degree_));
    const auto held = exclusive();
    if (size_ % kChunk == 0 && size_t(size_) / kChunk == codes_.size()) {
        codes_.emplace_back(size_t(kChunk) * width_);
        base_.emplace_back(size_t(kChunk) * base_width() * sizeof(uint32_t));
    }
    scales_.push_back(made.scale);
    levels_.push_back(uint8_t(level));
    upper_.push_back(std::move(upper));
    const int32_t slot = int32_t(size_);
    std::memcpy(code(slot), made.bytes.data(), size_t(width_));
    links(slot, 0)[0] = 0;
    size_++;
}

void Graph::add(const float* vectors, int64_t count) {
    std::lock_guard writer(writing_);
    if (size_ + count > INT32_MAX) throw std::invalid_argument("more vectors than slots can be counted");
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = int32_t(size_);
        const int level = level_of(slot, degree_);
        append(vectors + i * dimensions_, level);
        const int top = entry_ < 0 ? -1 : levels_[size_t(entry_)];
        if (entry_ >= 0) connect(slot, 0, std::min(level, top), [slot](int32_t other) { return other != slot; });
        if (level > top) {
            const auto held = exclusive();
            entry_ = slot;
        }
    }
}

// The nearest of a layer by going to the best neighbour as long as there is a better one, layer by layer.
int32_t Graph::descend(const Code& query, int32_t entry, int from, int to) const {
    float best = similarity(query, entry);
    for (int layer = from; layer > to; layer--) {
        for (bool moved = true; moved;) {
            moved = false;
            const uint32_t* list = links(entry, layer);
            for (uint32_t i = 1; i <= list[0]; i++) {
                const float value = similarity(query, int32_t(list[i]));
                if (value > best) {
                    best = value, entry = int32_t(list[i]), moved = true;
                }
            }
        }
    }
    return entry;
}

// Algorithm 2 of the paper; what does not pass leads on but is not among what is found.
template <typename Passes>
void Graph::search_layer(const Code& query, int32_t entry, int layer, int breadth, const Passes& passes,
                         Scratch& scratch) const {
    scratch.begin(size_t(size_));
    const Neighbour first{similarity(query, entry), entry};
    scratch.is_new(entry);
    scratch.push_open(first);
    if (passes(entry)) scratch.push_found(first, breadth);
    int32_t unseen[256];
    while (!scratch.open.empty()) {
        const Neighbour nearest = scratch.pop_open();
        bool is_full = int(scratch.found.size()) >= breadth;
        if (is_full && nearest.similarity < scratch.found.front().similarity) break;
        const uint32_t* list = links(nearest.slot, layer);
        int count = 0;
        for (uint32_t i = 1; i <= list[0]; i++) {
            if (!scratch.is_new(int32_t(list[i]))) continue;
            unseen[count++] = int32_t(list[i]);
            prefetch(code(int32_t(list[i])), width_);
        }
        for (int i = 0; i < count; i++) {
            const Neighbour each{similarity(query, unseen[i]), unseen[i]};
            is_full = int(scratch.found.size()) >= breadth;
            if (is_full && each.similarity <= scratch.found.front().similarity) continue;
            scratch.push_open(each);
            if (passes(each.slot)) scratch.push_found(each, breadth);
        }
    }
}

// Algorithm 4: the nearest, but none that is nearer to one already chosen than to the slot itself.
std::vector<int32_t> Graph::chosen(int32_t slot, std::vector<Neighbour> candidates, int count) const {
    std::sort(candidates.begin(), candidates.end(), std::greater<>());
    std::vector<int32_t> out;
    for (const Neighbour& each : candidates) {
        if (int(out.size()) == count) break;
        const bool is_apart = std::none_of(out.begin(), out.end(), [&](int32_t other) {
            return similarity(each.slot, other) > each.similarity;
        });
        if (is_apart && each.slot != slot) out.push_back(each.slot);
    }
    return out;
}

std::vector<int32_t> Graph::neighbours(int32_t slot, int layer) const {
    const uint32_t* list = links(slot, layer);
    return {list + 1, list + 1 + list[0]};
}

// Find a slot's neighbours in its layers up to `highest`, and make them its own and it theirs.
template <typename Passes>
void Graph::connect(int32_t slot, int lowest, int highest, const Passes& passes) {
    const Code query{{code(slot), code(slot) + width_}, scales_[size_t(slot)]};
    int32_t entry = descend(query, entry_, levels_[size_t(entry_)], highest);
    std::unique_ptr<Scratch> used = scratch();
    std::vector<Change> changes;
    for (int layer = highest; layer >= lowest; layer--) {
        search_layer(query, entry, layer, breadth_, passes, *used);
        const std::vector<Neighbour> found = used->best_first();
        if (found.empty()) continue;
        entry = found.front().slot;
        changes.push_back({slot, layer, chosen(slot, found, degree_)});
        const std::vector<int32_t> mine = changes.back().neighbours;
        for (int32_t other : mine) add_back_link(other, slot, layer, changes);
    }
    give_back(std::move(used));
    write(changes);
}

void Graph::add_back_link(int32_t slot, int32_t to, int layer, std::vector<Change>& changes) const {
    std::vector<int32_t> list = neighbours(slot, layer);
    if (std::find(list.begin(), list.end(), to) != list.end()) return;
    list.push_back(to);
    if (int(list.size()) > capacity(layer)) {
        std::vector<Neighbour> candidates;
        for (int32_t each : list) candidates.push_back({similarity(slot, each), each});
        list = chosen(slot, std::move(candidates), capacity(layer));
    }
    changes.push_back({slot, layer, std::move(list)});
}

void Graph::write(const std::vector<Change>& changes) {
    const auto held = exclusive();
    for (const Change& each : changes) {
        uint32_t* list = links(each.slot, each.layer);
        list[0] = uint32_t(each.neighbours.size());
        std::copy(each.neighbours.begin(), each.neighbours.end(), list + 1);
    }
}

void Graph::unlink(const uint8_t* is_live) {
    std::lock_guard writer(writing_);
    if (entry_ >= 0 && !is_live[entry_]) {
        int32_t best = -1;
        for (int32_t slot = 0; slot < size_; slot++) {
            if (is_live[slot] && (best < 0 || levels_[size_t(slot)] > levels_[size_t(best)])) best = slot;
        }
        const auto held = exclusive();
        entry_ = best;
    }
    for (int32_t slot = 0; slot < size_; slot++) {
        for (int layer = 0; is_live[slot] && layer <= levels_[size_t(slot)]; layer++) repair(slot, layer, is_live);
    }
    for (int32_t slot = 0; slot < size_; slot++) {
        for (int layer = 0; !is_live[slot] && layer <= levels_[size_t(slot)]; layer++) write({{slot, layer, {}}});
    }
}

// In place of neighbours that are gone come theirs; where these leave too few, they are looked for anew.
void Graph::repair(int32_t slot, int layer, const uint8_t* is_live) {
    const std::vector<int32_t> old = neighbours(slot, layer);
    if (std::all_of(old.begin(), old.end(), [&](int32_t each) { return is_live[each] != 0; })) return;
    std::vector<int32_t> pool;
    for (int32_t each : old) {
        if (is_live[each]) {
            pool.push_back(each);
            continue;
        }
        for (int32_t next : neighbours(each, layer)) {
            if (is_live[next] && next != slot) pool.push_back(next);
        }
    }
    std::sort(pool.begin(), pool.end());
    pool.erase(std::unique(pool.begin(), pool.end()), pool.end());
    std::vector<Neighbour> candidates;
    for (int32_t each : pool) candidates.push_back({similarity(slot, each), each});
    const std::vector<int32_t> list = chosen(slot, std::move(candidates), capacity(layer));
    write({{slot, layer, list}});
    if (int(list.size()) < degree_ / 4 && layer <= levels_[size_t(entry_)]) {
        connect(slot, layer, layer, [&](int32_t each) { return is_live[each] != 0 && each != slot; });
    }
}

GraphLinks Graph::exported(const int64_t* slots, int64_t count) const {
    std::vector<int32_t> moved(size_t(size_), -1);
    for (int64_t i = 0; i < count; i++) moved[size_t(slots[i])] = int32_t(i);
    GraphLinks out;
    const auto take = [&](int32_t slot, int layer, std::vector<uint32_t>& to) {
        const size_t at = to.size();
        to.resize(at + 1 + size_t(capacity(layer)), 0);
        for (int32_t each : neighbours(slot, layer)) {
            if (moved[size_t(each)] >= 0) to[at + ++to[at]] = uint32_t(moved[size_t(each)]);
        }
    };
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = int32_t(slots[i]);
        out.levels.push_back(levels_[size_t(slot)]);
        take(slot, 0, out.base);
        for (int layer = 1; layer <= levels_[size_t(slot)]; layer++) take(slot, layer, out.upper);
    }
    return out;
}

void Graph::check(const GraphLinks& from, int64_t count) const {
    const auto require = [](bool holds) {
        if (!holds) throw std::invalid_argument("these are no links of this graph");
    };
    const size_t rows = std::accumulate(from.levels.begin(), from.levels.end(), size_t(0));
    require(count <= INT32_MAX && int64_t(from.levels.size()) == count);
    require(from.base.size() == size_t(count) * base_width() && from.upper.size() == rows * (1 + size_t(degree_)));
    const auto check_list = [&](const uint32_t* list, int layer) {
        require(list[0] <= uint32_t(capacity(layer)));
        for (uint32_t i = 1; i <= list[0]; i++) {
            require(int64_t(list[i]) < count && from.levels[list[i]] >= layer);
        }
    };
    const uint32_t* upper = from.upper.data();
    for (int64_t slot = 0; slot < count; slot++) {
        check_list(from.base.data() + size_t(slot) * base_width(), 0);
        require(from.levels[size_t(slot)] <= kMostLayers);
        for (int layer = 1; layer <= from.levels[size_t(slot)]; layer++, upper += 1 + degree_) check_list(upper, layer);
    }
}

void Graph::restore(const float* vectors, int64_t count, const GraphLinks& from) {
    std::lock_guard writer(writing_);
    if (size_) throw std::invalid_argument("a graph is restored when it is empty");
    check(from, count);
    const uint32_t* upper = from.upper.data();
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = int32_t(i);
        const int level = from.levels[size_t(i)];
        append(vectors + i * dimensions_, level);
        std::memcpy(links(slot, 0), from.base.data() + size_t(i) * base_width(), base_width() * sizeof(uint32_t));
        const size_t size = size_t(level) * (1 + size_t(degree_));
        if (level) std::memcpy(links(slot, 1), upper, size * sizeof(uint32_t));
        upper += size;
        if (entry_ < 0 || level > levels_[size_t(entry_)]) entry_ = slot;
    }
}

std::vector<Neighbour> Graph::search(const float* query, int breadth, const SlotFilter& filter) const {
    const Code encoded_query = encoded(query);
    std::unique_ptr<Scratch> used = scratch();
    std::vector<Neighbour> found;
    {
        const auto held = shared();
        if (entry_ >= 0) {
            const int32_t entry = descend(encoded_query, entry_, levels_[size_t(entry_)], 0);
            search_layer(encoded_query, entry, 0, breadth, [&](int32_t slot) { return filter.passes(slot); }, *used);
            found = used->best_first();
        }
    }
    give_back(std::move(used));
    return found;
}

std::vector<Neighbour> Graph::scan(const float* query, const int64_t* slots, int64_t count, int breadth) const {
    const Code encoded_query = encoded(query);
    Scratch used;
    const auto held = shared();
    for (int64_t i = 0; i < count; i++) {
        if (slots[i] < 0 || slots[i] >= size_) throw std::invalid_argument("a slot that is not there");
        if (i + 4 < count && slots[i + 4] >= 0 && slots[i + 4] < size_) prefetch(code(int32_t(slots[i + 4])), width_);
        const Neighbour each{similarity(encoded_query, int32_t(slots[i])), int32_t(slots[i])};
        if (int(used.found.size()) < breadth || each > used.found.front()) used.push_found(each, breadth);
    }
    return used.best_first();
}

}  // namespace cairn
