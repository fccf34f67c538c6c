// A pool of threads that walk through the steps of one call together.
//
// A step is a number of independent units; it ends when all its *units* are done, not when all threads have
// arrived, so a thread whose core is taken away holds up nobody unless it is in the middle of a unit. Each
// thread has a share of a step's units and, when its own is used up, takes from the others'. Units of one
// step may run in any order and at the same time; everything a step wrote is visible to the next.
//
// Waiting within a call: spin briefly, then yield the core. Between calls: spin briefly, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace cairn {

class Pool {
  public:
    // What is computed: unit `unit` of step `step`, on thread `thread` (below `num_threads()`).
    class Work {
      public:
        virtual void run(int step, int unit, int thread) = 0;

      protected:
        ~Work() = default;
    };

    // `num_threads` includes the caller of `run`. `pin`: each thread keeps to a core of its own.
    // No call has more than `max_steps` steps.
    Pool(int num_threads, bool pin, int max_steps);
    ~Pool();
    Pool(const Pool&) = delete;

    int num_threads() const { return num_threads_; }
    // Do `units[step]` units of every step, in order of the steps. One call at a time.
    void run(const std::vector<int>& units, Work& work);

  private:
    using Word = std::atomic<uint64_t>;  // number of the call, above; units left, below

    Word* words(int step) { return words_.data() + size_t(step) * words_per_step_; }
    void serve(int thread);
    void walk(uint32_t call, int thread);
    bool take(uint32_t call, int step, int part, int& unit);
    bool wait_for(uint32_t call, int step);
    int first_of(int total, int part) const { return int(int64_t(total) * part / num_threads_); }
    void move_to_own_core();

    int num_threads_;
    size_t words_per_step_;
    std::vector<Word> words_;  // of a step: units not done, then units not taken of each thread's share
    std::vector<int> units_;
    Work* work_ = nullptr;
    std::atomic<int> num_steps_ = 0;
    std::atomic<uint32_t> call_ = 0;
    std::atomic<bool> stopping_ = false;
    std::vector<int> cores_;  // of each thread; empty: not pinned
    std::vector<std::thread> threads_;
};

// Cores this process may use.
std::vector<int> usable_cores();

}  // namespace cairn
