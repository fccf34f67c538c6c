// The graph of nearest neighbours: recall against plain comparison for every table of kernels and the same finds by
// all of them, with filters, when much is gone, exported and restored, and searched by threads while one writes.
//
// Vectors are clustered: 24 numbers around one of 40 centres, of length one, from a fixed seed.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "graph.h"

using namespace cairn;

namespace {

constexpr int kDimensions = 24, kQueries = 40, kLimit = 10, kBreadth = 40;
std::atomic<int> num_failures = 0;

void check(bool holds, const char* what, double value = 0) {
    if (!holds && ++num_failures < 20) std::printf("%s (%g)\n", what, value);
}

// SplitMix64 (Steele et al. 2014).
uint64_t hashed(uint64_t number) {
    uint64_t z = (number + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
float number(uint64_t seed) { return float(int64_t(hashed(seed) >> 40) - (1 << 23)) / float(1 << 23); }

std::vector<float> vectors(int count, uint64_t seed) {
    std::vector<float> out;
    for (int i = 0; i < count; i++) {
        const uint64_t own = seed * 1000003 + uint64_t(i), centre = hashed(own) % 40;
        float row[kDimensions], length = 0;
        for (int d = 0; d < kDimensions; d++) {
            row[d] = number(centre * 997 + uint64_t(d)) + 0.5f * number(own * 1009 + uint64_t(d));
            length += row[d] * row[d];
        }
        for (float value : row) out.push_back(value / std::sqrt(length));
    }
    return out;
}

// Slots of the nearest that pass, exactly.
std::vector<int32_t> nearest(const std::vector<float>& all, const float* query, const SlotFilter& filter) {
    std::vector<Neighbour> found;
    for (int32_t slot = 0; slot < int32_t(filter.num_slots); slot++) {
        if (!filter.passes(slot)) continue;
        float sum = 0;
        for (int d = 0; d < kDimensions; d++) sum += all[size_t(slot) * kDimensions + d] * query[d];
        found.push_back({sum, slot});
    }
    std::sort(found.begin(), found.end(), std::greater<>());
    std::vector<int32_t> slots;
    for (size_t i = 0; i < found.size() && i < kLimit; i++) slots.push_back(found[i].slot);
    return slots;
}

// The share of the true nearest among what is found; what is found must pass, once, the best first.
double recall(const Graph& graph, const std::vector<float>& all, const SlotFilter& filter) {
    const std::vector<float> queries = vectors(kQueries, 77);
    size_t hits = 0, wanted = 0;
    for (int q = 0; q < kQueries; q++) {
        const float* query = queries.data() + q * kDimensions;
        const std::vector<Neighbour> found = graph.search(query, kBreadth, filter);
        for (size_t i = 0; i < found.size(); i++) {
            check(filter.passes(found[i].slot), "a slot that does not pass");
            check(i == 0 || found[i - 1] > found[i], "out of order or twice");
        }
        for (int32_t slot : nearest(all, query, filter)) {
            wanted++;
            hits += std::any_of(found.begin(), found.end(), [slot](Neighbour each) { return each.slot == slot; });
        }
    }
    return double(hits) / double(wanted);
}

std::vector<int32_t> every(int count, int step) {
    std::vector<int32_t> group(static_cast<size_t>(count));
    for (int i = 0; i < count; i++) group[size_t(i)] = i % step == 0;
    return group;
}

const uint8_t kGroups[] = {0, 1};
SlotFilter filter_of(const std::vector<int32_t>& group) { return {group.data(), int64_t(group.size()), kGroups, 2}; }

std::vector<int32_t> finds(const Graph& graph, const SlotFilter& filter) {
    std::vector<int32_t> out;
    const std::vector<float> queries = vectors(kQueries, 78);
    for (int q = 0; q < kQueries; q++) {
        for (const Neighbour& each : graph.search(queries.data() + q * kDimensions, kBreadth, filter)) {
            out.push_back(each.slot);
        }
    }
    return out;
}

void test_recall(const std::string& kernels, std::vector<int32_t>& others) {
    const int count = 1200;
    const std::vector<float> all = vectors(count, 1);
    Graph graph(kDimensions, 12, 60, kernels);
    check(graph.search(all.data(), 5, filter_of({})).empty(), "an empty graph finds something");
    graph.add(all.data(), count);
    for (int step : {1, 3, 30}) {
        const std::vector<int32_t> group = every(count, step);
        const double share = recall(graph, all, filter_of(group));
        check(share >= 0.97, "recall under a filter", share);
    }
    const std::vector<int32_t> group = every(count, 1), found = finds(graph, filter_of(group));
    check(others.empty() || others == found, "tables of kernels find different things");
    others = found;
}

void test_what_is_gone() {
    const int count = 1200;
    const std::vector<float> all = vectors(count, 2);
    Graph graph(kDimensions, 12, 60, "");
    graph.add(all.data(), count);
    std::vector<uint8_t> is_live(size_t(count), 1);
    std::vector<int64_t> live;
    std::vector<float> kept;
    for (int i = 0; i < count; i++) {
        is_live[size_t(i)] = hashed(uint64_t(i)) % 3 == 0;
        if (!is_live[size_t(i)]) continue;
        live.push_back(i);
        kept.insert(kept.end(), all.begin() + i * kDimensions, all.begin() + (i + 1) * kDimensions);
    }
    graph.unlink(is_live.data());
    const std::vector<int32_t> group(is_live.begin(), is_live.end());
    const double share = recall(graph, all, filter_of(group));
    check(share >= 0.97, "recall when most is gone", share);
    const std::vector<int32_t> passing = every(count, 1);
    for (int32_t slot : finds(graph, filter_of(passing))) check(is_live[size_t(slot)], "what was unlinked is found");

    Graph again(kDimensions, 12, 60, "");
    again.restore(kept.data(), int64_t(live.size()), graph.exported(live.data(), int64_t(live.size())));
    const std::vector<int32_t> ones(live.size(), 1);
    const std::vector<int32_t> before = finds(graph, filter_of(passing)), after = finds(again, filter_of(ones));
    check(before.size() == after.size(), "another number is found after restoring");
    for (size_t i = 0; i < before.size() && i < after.size(); i++) {
        check(live[size_t(after[i])] == before[i], "something else is found after restoring");
    }
    again.add(all.data(), 100);
    check(again.size() == int64_t(live.size()) + 100, "a restored graph does not grow");

    std::fill(is_live.begin(), is_live.end(), uint8_t(0));
    graph.unlink(is_live.data());
    check(finds(graph, filter_of(passing)).empty(), "something is found when all is gone");
    graph.add(all.data(), 50);
    check(graph.search(all.data(), 5, filter_of(every(count + 50, 1))).size() == 5, "nothing is found after that");
}

void test_threads() {
    const int count = 800, first = 200;
    const std::vector<float> all = vectors(count, 3);
    Graph graph(kDimensions, 8, 30, "");
    graph.add(all.data(), first);
    std::atomic<bool> is_done = false;
    const std::vector<int32_t> group = every(first, 1);
    const std::vector<float> queries = vectors(8, 79);
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 3; reader++) {
        readers.emplace_back([&, reader] {
            for (int i = reader; !is_done; i++) {
                const float* query = queries.data() + i % 8 * kDimensions;
                const int64_t slots[] = {1, 5, 9};
                check(graph.scan(query, slots, 3, 2).size() == 2, "a scan finds too few");
                for (const Neighbour& each : graph.search(query, 20, filter_of(group))) {
                    check(each.slot < first, "a slot that does not pass");
                }
            }
        });
    }
    std::vector<uint8_t> is_live;
    for (int at = first; at < count; at += 100) {
        graph.add(all.data() + at * kDimensions, 100);
        is_live.assign(size_t(at + 100), 1);
        for (int i = 0; i < at / 2; i++) is_live[size_t(i)] = i % 4 != 0;
        graph.unlink(is_live.data());
    }
    is_done = true;
    for (std::thread& reader : readers) reader.join();
}

}  // namespace

int main() {
    std::vector<int32_t> found;
    for (const std::string& kernels : runnable_kernels()) test_recall(kernels, found);
    test_what_is_gone();
    test_threads();
    std::printf("graph: %d failures\n", num_failures.load());
    return num_failures ? 1 : 0;
}
