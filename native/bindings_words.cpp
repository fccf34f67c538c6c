// The search by words as Python sees it; see bindings.cpp.
#include "bindings.h"
#include "words.h"

namespace {

// Of one range of slots: the place of a word in the query, its slots, its counts.
using Range = std::vector<std::tuple<int32_t, Numbers, Flags>>;

std::vector<std::vector<Postings>> postings_of(const std::vector<Range>& ranges) {
    std::vector<std::vector<Postings>> out;
    for (const Range& range : ranges) {
        std::vector<Postings>& list = out.emplace_back();
        for (const auto& [word, slots, counts] : range) {
            require(slots.size() == counts.size(), "one count a slot");
            list.push_back({word, slots.data(), counts.data(), int64_t(slots.size())});
        }
    }
    return out;
}

nb::tuple found_by_words(const std::vector<Range>& ranges, const Values& weights, const Values& norms,
                         const Numbers& group, const Flags& groups, const Ids& ids, int64_t limit) {
    require(norms.size() == group.size() && group.size() == ids.size(), "one norm, group and id a slot");
    const WordQuery query{weights.data(), int32_t(weights.size()), norms.data(),         group.data(),
                          groups.data(),  ids.data(),              int64_t(ids.size()), int64_t(groups.size())};
    const auto postings = postings_of(ranges);
    std::vector<int64_t> slots;
    std::vector<float> scores;
    {
        nb::gil_scoped_release release;
        for (const Scored& each : best_by_words(query, postings, limit)) {
            slots.push_back(each.slot);
            scores.push_back(each.score);
        }
    }
    return nb::make_tuple(array_of(std::move(slots)), array_of(std::move(scores)));
}

}  // namespace

void bind_words(nb::module_& m) {
    m.def("best_by_words", &found_by_words, nb::arg("ranges"), nb::kw_only(), nb::arg("weights"), nb::arg("norms"),
          nb::arg("group"), nb::arg("groups"), nb::arg("ids"), nb::arg("limit"));
}
