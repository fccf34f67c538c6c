// The pool under stress: every unit of every step is done once, by one thread, after the step before it.
//
// Calls follow each other at once and after pauses in which the threads fall asleep, with more threads than
// cores, with steps of no, one, and many units, and with units of such different length that shares are
// stolen. Built with ThreadSanitizer it also shows that what a step wrote is visible to the next without
// any lock of its own.
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "threads.h"

using namespace cairn;

namespace {

int num_failures = 0;

void check(bool holds, const char* what, int call) {
    if (!holds && ++num_failures < 20) std::printf("call %d: %s\n", call, what);
}

// A unit writes its own number, plain memory, and reads all that the step before it wrote.
class Chain : public Pool::Work {
  public:
    void begin(const std::vector<int>& units) {
        units_ = units;
        written_.resize(units.size());
        for (size_t step = 0; step < units.size(); step++) written_[step].assign(size_t(units[step]), -1);
    }

    void run(int step, int unit, int thread) override {
        long sum = step;
        const int before = step - 1;
        if (before >= 0) {
            for (long value : written_[size_t(before)]) sum += value < 0 ? kWrong : 1;
        }
        for (int i = 0; i < (unit % 7 == 0 ? 2000 : 10); i++) sum = sum * 3 % 1000003;  // work of uneven length
        long& own = written_[size_t(step)][size_t(unit)];
        own = own == -1 && thread >= 0 ? (sum < 0 ? kWrong : unit) : kWrong;
    }

    void finish(int call) const {
        for (size_t step = 0; step < units_.size(); step++) {
            for (int unit = 0; unit < units_[step]; unit++) {
                check(written_[step][size_t(unit)] == unit, "a unit was left out, done twice, or too early", call);
            }
        }
    }

  private:
    static constexpr long kWrong = -1000000000000;
    std::vector<int> units_;
    std::vector<std::vector<long>> written_;
};

void stress(int num_threads, bool pin, int num_calls) {
    constexpr int kMostSteps = 12;
    Chain chain;
    Pool pool(chain, num_threads, pin, kMostSteps);
    uint32_t random = 12345;
    const auto from = [&](int least, int most) {
        random = random * 1664525 + 1013904223;
        return least + int((random >> 8) % uint32_t(most - least + 1));
    };
    for (int call = 0; call < num_calls; call++) {
        std::vector<int> units(size_t(from(1, kMostSteps)));
        for (int& count : units) count = from(0, 3) ? from(0, 40) : from(0, 2);
        chain.begin(units);
        pool.run(units);
        chain.finish(call);
        if (call % 50 == 49) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // until they sleep
    }
}

}  // namespace

int main() {
    stress(1, false, 200);
    stress(2, true, 1500);
    stress(3, false, 800);
    stress(8, false, 300);
    Chain chain;
    for (int i = 0; i < 50; i++) Pool(chain, 4, false, 1);  // threads that never saw a call end as well
    std::printf("%d failures\n", num_failures);
    return num_failures != 0;
}
