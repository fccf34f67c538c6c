#include "words.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace cairn {

namespace {

constexpr int32_t kWindow = 4096;  // slots: their sums stay in the first-level cache
constexpr int kTogether = 128;     // postings
constexpr int64_t kLookUp = 12;    // postings that are walked in the time of looking one up

class Search {
  public:
    Search(const WordQuery& query, int64_t limit)
        : query_(query), limit_(size_t(limit)), slack_(1.0 + double(query.num_words + 4) * 0x1p-22) {}

    // Postings in the order of their words.
    void go_through(const std::vector<Postings>& postings) {
        lists_.clear();
        for (const Postings& each : postings) {
            if (!each.size) continue;
            if (each.word < 0 || each.word >= query_.num_words || each.slots[0] < 0 ||
                each.slots[each.size - 1] >= query_.num_slots) {
                throw std::invalid_argument("postings of a word or slot that is not there");
            }
            lists_.push_back({each.slots, each.counts, each.size, query_.weights[each.word]});
        }
        by_weight_.clear();
        for (List& list : lists_) by_weight_.push_back(&list);
        std::sort(by_weight_.begin(), by_weight_.end(), [](List* a, List* b) { return a->weight < b->weight; });
        num_idle_ = 0;
        most_of_idle_ = 0.0;
        while (next_window()) {
        }
    }

    std::vector<Scored> best_first() {
        std::sort(found_.begin(), found_.end(), [&](const Scored& a, const Scored& b) { return is_better(a, b); });
        return std::move(found_);
    }

  private:
    struct List {
        const int32_t* slots;
        const uint8_t* counts;
        int64_t size;
        float weight;
        int64_t at = 0, end = 0;  // those of the window; before the first, the first that may be in it
        bool is_idle = false;
    };

    bool is_better(const Scored& a, const Scored& b) const {
        return a.score != b.score ? a.score > b.score : query_.ids[a.slot] < query_.ids[b.slot];
    }
    float worth(const List& list, int64_t at) const {
        const float count = list.counts[at];
        return count / (query_.norms[list.slots[at]] + count) * list.weight;
    }

    // Words that all together weigh less than the worst of what was found stand still from here on.
    void lay_idle() {
        if (found_.size() < limit_) return;
        for (; num_idle_ < by_weight_.size(); num_idle_++) {
            List& next = *by_weight_[num_idle_];
            if ((most_of_idle_ + next.weight) * slack_ >= found_.front().score) return;
            most_of_idle_ += next.weight;
            next.is_idle = true;
        }
    }

    bool next_window() {
        lay_idle();
        int32_t first = INT32_MAX;
        for (const List& list : lists_) {
            if (!list.is_idle && list.at < list.size) first = std::min(first, list.slots[list.at]);
        }
        if (first == INT32_MAX) return false;
        const int32_t stop = int32_t(std::min<int64_t>(int64_t(first) + kWindow, query_.num_slots));
        for (List& list : lists_) {
            const int32_t* end = list.slots + list.size;
            const int32_t* at = std::lower_bound(list.slots + list.at, end, first);
            list.at = at - list.slots;
            list.end = std::lower_bound(at, std::min(end, at + (stop - first)), stop) - list.slots;
        }
        add_up(first, stop, false);
        const bool is_whole = num_idle_ == 0 || has_many(first, stop);
        if (is_whole && num_idle_) add_up(first, stop, true);
        for (int32_t slot = first; slot < stop; slot++) {
            const float sum = sums_[size_t(slot - first)];
            if (sum > 0.0f) consider(slot, sum, is_whole);
        }
        for (List& list : lists_) list.at = list.end;
        return true;
    }

    // Sums of a window's slots, of all words or those that walk.
    void add_up(int32_t first, int32_t stop, bool of_all) {
        std::fill_n(sums_.begin(), stop - first, 0.0f);
        for (const List& list : lists_) {
            if (list.is_idle && !of_all) continue;
            for (int64_t at = list.at; at < list.end; at += kTogether) {
                add(list, at, int(std::min<int64_t>(kTogether, list.end - at)), first);
            }
        }
    }

    // Whether so many slots come near enough that it is quicker to walk the idle words here than to look them up.
    bool has_many(int32_t first, int32_t stop) const {
        const float least = float(found_.front().score / slack_ - most_of_idle_);
        int64_t num_near = 0, num_idle_postings = 0;
        for (int32_t i = 0; i < stop - first; i++) num_near += sums_[size_t(i)] > 0.0f && sums_[size_t(i)] >= least;
        for (const List& list : lists_) num_idle_postings += list.is_idle ? list.end - list.at : 0;
        return num_near * kLookUp * int64_t(lists_.size()) > num_idle_postings;
    }

    // Postings of a list, apart into steps of which the machine does several numbers at a time.
    void add(const List& list, int64_t at, int count, int32_t first) {
        const int32_t* slots = list.slots + at;
        const uint8_t* counts = list.counts + at;
        float worths[kTogether], numbers[kTogether];
        for (int i = 0; i < count; i++) worths[i] = query_.norms[slots[i]];
        for (int i = 0; i < count; i++) numbers[i] = counts[i];
        for (int i = 0; i < count; i++) worths[i] = numbers[i] / (worths[i] + numbers[i]) * list.weight;
        for (int i = 0; i < count; i++) sums_[size_t(slots[i] - first)] += worths[i];
    }

    void consider(int32_t slot, float sum, bool is_whole) {
        const bool is_full = found_.size() == limit_;
        const double most = is_whole ? 0.0 : most_of_idle_;
        if (is_full && (double(sum) + most) * slack_ < found_.front().score) return;
        const int32_t group = query_.group[slot];
        if (group < 0 || group >= query_.num_groups || !query_.groups[group]) return;
        const Scored each{is_whole ? sum : whole(slot), slot};
        const auto worse = [&](const Scored& a, const Scored& b) { return is_better(a, b); };  // the worst on top
        if (is_full) {
            if (!is_better(each, found_.front())) return;
            std::pop_heap(found_.begin(), found_.end(), worse);
            found_.back() = each;
        } else {
            found_.push_back(each);
        }
        std::push_heap(found_.begin(), found_.end(), worse);
    }

    // The sum over all words in their order.
    float whole(int32_t slot) const {
        float sum = 0.0f;
        for (const List& list : lists_) {
            const int64_t at = std::lower_bound(list.slots + list.at, list.slots + list.end, slot) - list.slots;
            if (at < list.end && list.slots[at] == slot) sum += worth(list, at);
        }
        return sum;
    }

    const WordQuery& query_;
    size_t limit_;
    double slack_;  // a sum of floats may be so much above the sum of their bounds
    std::vector<List> lists_;
    std::vector<List*> by_weight_;
    size_t num_idle_ = 0;
    double most_of_idle_ = 0.0;
    std::vector<Scored> found_;
    std::array<float, kWindow> sums_{};
};

}  // namespace

std::vector<Scored> best_by_words(const WordQuery& query, const std::vector<std::vector<Postings>>& ranges,
                                  int64_t limit) {
    if (limit < 1) return {};
    Search search(query, limit);
    for (const std::vector<Postings>& each : ranges) search.go_through(each);
    return search.best_first();
}

}  // namespace cairn
