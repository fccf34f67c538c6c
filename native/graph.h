// Nearest neighbours of a vector by a graph of navigable small worlds in layers (HNSW; Malkov and Yashunin 2018).
//
// Vectors of length one are kept as bytes, with a scale each; what a search finds is re-scored from the exact
// vectors by whoever asked. A vector lies in a slot; slots are counted up and not used again. What must not be
// found (by a filter, or since it is gone) still leads the way, so a filter holds during the search and costs no
// recall. Slots that are gone lose their place in the graph by `unlink`, which joins their neighbours (as in
// FreshDiskANN; Singh et al. 2021), and their memory when the graph is exported and read again.
//
// One thread writes, any number search at the same time. A writer works out what changes without a lock and holds
// up searches only while it writes that down. Similarities are sums of whole numbers times two scales: the
// same bits on every machine, and the graph depends on nothing but the vectors and their order.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "kernels.h"

namespace cairn {

struct Neighbour {
    float similarity;
    int32_t slot;
    // The better one is larger; of equals the earlier slot.
    bool operator<(const Neighbour& other) const {
        return similarity != other.similarity ? similarity < other.similarity : slot > other.slot;
    }
    bool operator>(const Neighbour& other) const { return other < *this; }
};

// Which slots may be found: those below `num_slots` whose group is let through.
struct SlotFilter {
    const int32_t* group;   // [num_slots]
    int64_t num_slots;
    const uint8_t* groups;  // [num_groups], 1: let through
    int64_t num_groups;

    bool passes(int32_t slot) const {
        return slot < num_slots && group[slot] >= 0 && group[slot] < num_groups && groups[group[slot]];
    }
};

// The graph without its vectors. Lists of slots are [1 + capacity]: how many there are, then these.
struct GraphLinks {
    std::vector<uint8_t> levels;  // [slots]
    std::vector<uint32_t> base;   // [slots, 1 + 2 * degree]
    std::vector<uint32_t> upper;  // [sum of levels, 1 + degree]: of each slot, its layers from 1 up
};

class Graph {
  public:
    // A slot has `degree` neighbours in upper layers and twice as many at the base; `breadth` is that of the search
    // by which a new one finds its own.
    Graph(int dimensions, int degree, int breadth, const std::string& kernels);
    Graph(const Graph&) = delete;
    ~Graph();

    int dimensions() const { return dimensions_; }
    int degree() const { return degree_; }
    int64_t size() const { return size_; }

    // The next `count` slots.
    void add(const float* vectors, int64_t count);
    // The same as they were when `links` was exported; `std::invalid_argument` if these are no graph of so many.
    void restore(const float* vectors, int64_t count, const GraphLinks& links);
    // Take all that is not live (`is_live` [size]) out of everybody's neighbourhood.
    void unlink(const uint8_t* is_live);
    // The graph over `slots` (ascending, all others unlinked before), counted anew.
    GraphLinks exported(const int64_t* slots, int64_t count) const;

    // The `breadth` best that pass, the best first.
    std::vector<Neighbour> search(const float* query, int breadth, const SlotFilter& filter) const;
    // The `breadth` best of `slots`, compared one by one.
    std::vector<Neighbour> scan(const float* query, const int64_t* slots, int64_t count, int breadth) const;

  private:
    struct Code {
        std::vector<int8_t> bytes;
        float scale;
    };
    struct Scratch;
    struct Change {
        int32_t slot;
        int layer;
        std::vector<int32_t> neighbours;
    };

    static constexpr int kChunk = 4096;  // slots whose memory is made at once

    int8_t* code(int32_t slot) const {
        return reinterpret_cast<int8_t*>(codes_[size_t(slot) / kChunk].data()) + size_t(slot) % kChunk * width_;
    }
    uint32_t* links(int32_t slot, int layer) const {
        if (layer) return upper_[size_t(slot)].get() + size_t(layer - 1) * (1 + degree_);
        return reinterpret_cast<uint32_t*>(base_[size_t(slot) / kChunk].data()) + size_t(slot) % kChunk * base_width();
    }
    size_t base_width() const { return 1 + 2 * size_t(degree_); }
    int capacity(int layer) const { return layer ? degree_ : 2 * degree_; }
    float similarity(const Code& to, int32_t slot) const {
        return float(kernels_.dot_bytes(to.bytes.data(), code(slot), width_)) * to.scale * scales_[size_t(slot)];
    }
    float similarity(int32_t a, int32_t b) const {
        return float(kernels_.dot_bytes(code(a), code(b), width_)) * scales_[size_t(a)] * scales_[size_t(b)];
    }

    Code encoded(const float* vector) const;
    void append(const float* vector, int level);
    template <typename Passes>
    void search_layer(const Code& query, int32_t entry, int layer, int breadth, const Passes& passes, Scratch&) const;
    int32_t descend(const Code& query, int32_t entry, int from, int to) const;
    std::vector<int32_t> chosen(int32_t slot, std::vector<Neighbour> candidates, int count) const;
    std::vector<int32_t> neighbours(int32_t slot, int layer) const;
    template <typename Passes>
    void connect(int32_t slot, int lowest, int highest, const Passes& passes);
    void add_back_link(int32_t slot, int32_t to, int layer, std::vector<Change>& changes) const;
    void repair(int32_t slot, int layer, const uint8_t* is_live);
    void write(const std::vector<Change>& changes);
    void check(const GraphLinks& links, int64_t count) const;
    std::unique_lock<std::shared_mutex> exclusive() const;
    std::shared_lock<std::shared_mutex> shared() const;
    std::unique_ptr<Scratch> scratch() const;
    void give_back(std::unique_ptr<Scratch>) const;

    const Kernels& kernels_;
    int dimensions_, width_, degree_, breadth_;
    int64_t size_ = 0;
    int32_t entry_ = -1;  // a slot of the highest layer
    std::vector<Buffer> codes_, base_;
    std::vector<float> scales_;
    std::vector<uint8_t> levels_;
    std::vector<std::unique_ptr<uint32_t[]>> upper_;

    mutable std::shared_mutex lock_;
    mutable std::mutex gate_;  // who waits to write lets no more readers in before it
    std::mutex writing_;
    mutable std::mutex spare_lock_;
    mutable std::vector<std::unique_ptr<Scratch>> spare_;
};

}  // namespace cairn
