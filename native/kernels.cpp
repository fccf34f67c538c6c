// Which kernels this machine can run, the fastest first.
#include "kernels.h"

#include <stdexcept>

namespace cairn {

namespace portable { extern const Kernels kernels; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels kernels; }
#endif

namespace {

std::vector<const Kernels*> runnable() {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kernels);
#endif
    found.push_back(&portable::kernels);
    return found;
}

}  // namespace

const Kernels* find_kernels(const std::string& name) {
    for (const Kernels* kernels : runnable()) {
        if (name.empty() || name == kernels->name) return kernels;
    }
    return nullptr;
}

const Kernels& chosen_kernels(const std::string& name) {
    const Kernels* found = find_kernels(name);
    if (!found) throw std::invalid_argument("this machine does not run the kernels '" + name + "'");
    return *found;
}

std::vector<std::string> runnable_kernels() {
    std::vector<std::string> names;
    for (const Kernels* kernels : runnable()) names.push_back(kernels->name);
    return names;
}

}  // namespace cairn
