// How the pool hands out units. See threads.h for what it promises.
//
// Every step of every call has a number of its own, and every word carries the number of the step it speaks
// of. A word of an earlier step stands for "nothing taken yet" or "nothing done yet": whoever comes first
// moves it on, and nothing has to be set up before a call. A thread that was asleep through one or more steps
// finds higher numbers than its own and gives up what it was doing; it can neither take a unit of a later
// step under an earlier one's name nor count one as done.
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

constexpr int kUnitBits = 18;  // the other 46 count steps for years
constexpr uint64_t kUnits = (uint64_t(1) << kUnitBits) - 1;

uint64_t word(uint64_t serial, uint64_t units) { return serial << kUnitBits | units; }
uint64_t serial_of(uint64_t word) { return word >> kUnitBits; }

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

Pool::Pool(Work& work, int num_threads, bool pin, int max_steps)
    : work_(work),
      num_threads_(num_threads),
      left_(std::make_unique<Word[]>(num_threads)),
      units_(max_steps) {
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

void Pool::run(const std::vector<int>& units) {
    assert(units.size() <= units_.size());
    // Numbers begin at 1, and those of the last call are used up.
    const uint64_t call = call_.load(std::memory_order_relaxed) + num_steps_.load(std::memory_order_relaxed) + 1;
    // Closed first: a thread that comes late to the last call may see this one's numbers of units, but then it
    // sees as well that it can take none.
    open_.store(0, std::memory_order_relaxed);
    num_steps_.store(int(units.size()), std::memory_order_release);
    for (size_t step = 0; step < units.size(); step++) units_[step].store(units[step], std::memory_order_release);
    open_.store(call, std::memory_order_relaxed);
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
    uint64_t seen = 0;
    while (true) {
        for (int spin = 0; spin < kSpins && call_.load(std::memory_order_relaxed) == seen; spin++) relax();
        call_.wait(seen, std::memory_order_acquire);
        seen = call_.load(std::memory_order_acquire);
        if (stopping_) return;
        walk(seen, thread);
    }
}

void Pool::walk(uint64_t call, int thread) {
    const int num_steps = num_steps_.load(std::memory_order_acquire);
    for (int step = 0; step < num_steps; step++) {
        const int units = units_[step].load(std::memory_order_relaxed);
        if (units == 0) continue;
        if (const int count = do_units(call, step, thread)) add_done(call + step, count);
        if (!wait_for(call, step, units, thread)) return;
    }
}

// Units of the thread's own share, then of the others'; how many.
int Pool::do_units(uint64_t call, int step, int thread) {
    int count = 0;
    for (int turn = 0; turn < num_threads_; turn++) {
        const int part = (thread + turn) % num_threads_;
        for (int unit; take(call, step, part, unit); count++) work_.run(step, unit, thread);
    }
    return count;
}

bool Pool::take(uint64_t call, int step, int part, int& unit) {
    const int units = units_[step].load(std::memory_order_acquire);
    const int first = first_of(units, part), share = first_of(units, part + 1) - first;
    // Were this a later call's number of units, `call` would not be open. It is this one's, and not zero: so
    // a word that stands at an earlier step cannot mean that this one is over.
    if (share == 0 || open_.load(std::memory_order_acquire) != call) return false;
    std::atomic<uint64_t>& left = left_[part].value;
    const uint64_t serial = call + step;
    uint64_t value = left.load(std::memory_order_acquire);
    while (serial_of(value) <= serial) {
        const uint64_t now = serial_of(value) < serial ? uint64_t(share) : value & kUnits;
        if (now == 0) return false;
        if (left.compare_exchange_weak(value, word(serial, now - 1), std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
            unit = first + share - int(now);
            return true;
        }
    }
    return false;
}

void Pool::add_done(uint64_t serial, int count) {
    uint64_t value = done_.value.load(std::memory_order_relaxed);
    uint64_t more;
    do {
        more = serial_of(value) < serial ? word(serial, count) : value + count;
    } while (!done_.value.compare_exchange_weak(value, more, std::memory_order_acq_rel, std::memory_order_relaxed));
}

// False: the call is long over.
bool Pool::wait_for(uint64_t call, int step, int units, int thread) {
    const uint64_t complete = word(call + step, units);
    for (int turn = 0; done_.value.load(std::memory_order_acquire) < complete; turn++) {
        if (call_.load(std::memory_order_relaxed) != call) return false;
        if (turn >= kSpins) {
            std::this_thread::yield();
            continue;
        }
        work_.wait(step, thread, turn);
        relax();
    }
    return true;
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
