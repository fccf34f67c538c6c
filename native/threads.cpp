// How the pool hands out units. See threads.h for what it promises.
//
// Every counter carries the number of its call. A thread that was asleep through one or more calls finds
// another number than its own and gives up what it was doing; it can neither take a unit of a later call
// under an earlier one's name nor count one as done.
#include "threads.h"

#include <algorithm>
#include <cassert>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {

namespace {

constexpr int kSpins = 2000;  // some 30 microseconds

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

uint64_t word(uint32_t call, uint32_t left) { return uint64_t(call) << 32 | left; }

}  // namespace

std::vector<int> usable_cores() {
    std::vector<int> cores;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        for (int core = 0; core < CPU_SETSIZE; core++) {
            if (CPU_ISSET(core, &set)) cores.push_back(core);
        }
    }
#endif
    if (cores.empty()) cores.resize(std::max(1u, std::thread::hardware_concurrency()));
    return cores;
}

Pool::Pool(int num_threads, bool pin, int max_steps)
    : num_threads_(num_threads),
      words_per_step_((num_threads + 8) / 8 * 8),
      words_(max_steps * words_per_step_) {
    const std::vector<int> cores = usable_cores();
    if (pin && num_threads > 1 && int(cores.size()) >= num_threads) cores_ = cores;
    for (int thread = 1; thread < num_threads; thread++) threads_.emplace_back([this, thread] { serve(thread); });
}

Pool::~Pool() {
    stopping_ = true;
    call_.fetch_add(1);
    call_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Pool::run(const std::vector<int>& units, Work& work) {
    assert(units.size() * words_per_step_ <= words_.size());
    const uint32_t call = call_.load(std::memory_order_relaxed) + 1;
    const int num_steps = int(units.size());
    // Nothing of an earlier call is left to take, so no thread reads these while they change.
    units_ = units;
    work_ = &work;
    num_steps_.store(num_steps, std::memory_order_relaxed);
    for (int step = 0; step < num_steps; step++) {
        Word* own = words(step);
        own[0].store(word(call, units[step]), std::memory_order_relaxed);
        for (int part = 0; part < num_threads_; part++) {
            const int count = first_of(units[step], part + 1) - first_of(units[step], part);
            own[1 + part].store(word(call, count), std::memory_order_release);
        }
    }
    call_.store(call, std::memory_order_release);
    if (num_threads_ > 1) call_.notify_all();
    move_to_own_core();
    walk(call, 0);
}

void Pool::serve(int thread) {
#if defined(__linux__)
    if (!cores_.empty()) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cores_[thread], &set);
        pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
#endif
    uint32_t seen = 0;
    while (true) {
        for (int spin = 0; spin < kSpins && call_.load(std::memory_order_relaxed) == seen; spin++) relax();
        call_.wait(seen, std::memory_order_acquire);
        seen = call_.load(std::memory_order_acquire);
        if (stopping_) return;
        walk(seen, thread);
    }
}

void Pool::walk(uint32_t call, int thread) {
    const int num_steps = num_steps_.load(std::memory_order_relaxed);
    for (int step = 0; step < num_steps; step++) {
        for (int turn = 0; turn < num_threads_; turn++) {
            const int part = (thread + turn) % num_threads_;
            int unit;
            while (take(call, step, part, unit)) {
                work_->run(step, unit, thread);
                words(step)[0].fetch_sub(1, std::memory_order_acq_rel);
            }
        }
        if (!wait_for(call, step)) return;
    }
}

bool Pool::take(uint32_t call, int step, int part, int& unit) {
    Word& left = words(step)[1 + part];
    uint64_t value = left.load(std::memory_order_acquire);
    while (value >> 32 == call && uint32_t(value) != 0) {
        if (left.compare_exchange_weak(value, value - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
            unit = first_of(units_[step], part + 1) - int(uint32_t(value));
            return true;
        }
    }
    return false;
}

bool Pool::wait_for(uint32_t call, int step) {
    const Word& left = words(step)[0];
    for (int spin = 0;; spin++) {
        const uint64_t value = left.load(std::memory_order_acquire);
        if (value >> 32 != call) return false;
        if (uint32_t(value) == 0) return true;
        spin < kSpins ? relax() : std::this_thread::yield();
    }
}

void Pool::move_to_own_core() {
#if defined(__linux__)
    if (cores_.empty() || sched_getcpu() == cores_[0]) return;
    // The caller's thread is not ours: it is moved off the others' cores, and free again.
    cpu_set_t before, own;
    if (sched_getaffinity(0, sizeof(before), &before) != 0) return;
    CPU_ZERO(&own);
    CPU_SET(cores_[0], &own);
    if (sched_setaffinity(0, sizeof(own), &own) == 0) sched_setaffinity(0, sizeof(before), &before);
#endif
}

}  // namespace cairn
