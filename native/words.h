// The entries whose words fit a query best: BM25 (Robertson and Zaragoza 2009) over postings in ranges of slots.
//
// Slots are gone through a window at a time. Once as many are found as are asked for, words that all together
// cannot lift an entry above the worst of these are not walked any more, only looked up for entries that the other
// words have brought near enough (MaxScore; Turtle and Flood 1995). What is found, and each score, is the same as if
// every word were walked for every entry: a score is the sum in the order of the query, rounded once a word.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace cairn {

// One word in one range of slots.
struct Postings {
    int32_t word;          // its place in the query
    const int32_t* slots;  // ascending
    const uint8_t* counts;
    int64_t size;
};

struct WordQuery {
    const float* weights;  // [num_words]: how rare each is, above 0
    int32_t num_words;
    const float* norms;    // [num_slots]: an entry's length, as a count is held against it; above 0
    const int32_t* group;  // [num_slots]
    const uint8_t* groups;  // [num_groups], 1: let through
    const int64_t* ids;     // [num_slots]: of equal scores the smaller one is better
    int64_t num_slots, num_groups;
};

struct Scored {
    float score;
    int32_t slot;
};

// The `limit` best that are let through, the best first. `ranges`: the postings of each range of slots, in order;
// `std::invalid_argument` where a word or slot is not there.
std::vector<Scored> best_by_words(const WordQuery& query, const std::vector<std::vector<Postings>>& ranges,
                                  int64_t limit);

}  // namespace cairn
