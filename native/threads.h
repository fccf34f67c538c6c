// A pool of threads that walk through the steps of one call together.
//
// A step is a number of independent units; it ends when all its *units* are done, not when all threads have
// arrived, so a thread whose core is taken away holds up nobody unless it is in the middle of a unit. Each
// thread has a share of a step's units and, when its own is used up, takes from the others'. Units of one
// step may run in any order and at the same time; everything a step wrote is visible to the next.
//
// Waiting within a call: spin briefly, then yield the core. Between calls: spin briefly, then sleep.
//
// Threads meet in one word a thread (units left of its share) and one word in all (units done), each on a
// cache line of its own: a thread that keeps to its share touches the others' lines twice a step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace cairn {

class Pool {
  public:
    // What is computed: unit `unit` of step `step`, on thread `thread` (below `num_threads()`).
    class Work {
      public:
        virtual void run(int step, int unit, int thread) = 0;
        // `thread` has nothing to do until `step` ends; called `turn` = 0, 1, .. until then. A thread that was
        // asleep may come late, while the next call is being made ready.
        virtual void wait(int step, int thread, int turn) { (void)step, (void)thread, (void)turn; }

      protected:
        ~Work() = default;
    };

    // `num_threads` includes the caller of `run`. `pin`: each thread keeps to a core of its own.
    // No call has more than `max_steps` steps. `work` outlives the pool.
    Pool(Work& work, int num_threads, bool pin, int max_steps);
    ~Pool();
    Pool(const Pool&) = delete;

    int num_threads() const { return num_threads_; }
    // Do `units[step]` units of every step, in order of the steps. One call at a time.
    void run(const std::vector<int>& units);
    // The first unit of a step's that is a thread's own.
    int first_unit(int step, int thread) const {
        return first_of(units_[step].load(std::memory_order_relaxed), thread);
    }

  private:
    // Number of a step, counted over all calls, above; units below.
    struct alignas(64) Word {
        std::atomic<uint64_t> value = 0;
    };

    void serve(int thread);
    void walk(uint64_t call, int thread);
    int do_units(uint64_t call, int step, int thread);
    bool take(uint64_t call, int step, int part, int& unit);
    void add_done(uint64_t serial, int count);
    bool wait_for(uint64_t call, int step, int units, int thread);
    int first_of(int total, int part) const { return int(int64_t(total) * part / num_threads_); }
    void move_to_own_core();

    Work& work_;
    int num_threads_;
    std::unique_ptr<Word[]> left_;  // of each thread's share
    Word done_;
    std::vector<std::atomic<int>> units_;
    std::atomic<int> num_steps_ = 0;
    std::atomic<uint64_t> call_ = 0;  // the number of its first step
    std::atomic<uint64_t> open_ = 0;  // the call whose units may be taken; 0 while the next is written down
    std::atomic<bool> stopping_ = false;
    std::vector<int> cores_;  // of each thread; empty: not pinned
    std::vector<std::thread> threads_;
};

// Cores this process may use.
std::vector<int> usable_cores();

}  // namespace cairn
