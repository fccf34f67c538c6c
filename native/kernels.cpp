// Which kernels this machine can run, the fastest first.
#include "kernels.h"

#include <stdexcept>

#if defined(CAIRN_KNOWS_amx)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cairn {

namespace portable { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avxvnni { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
namespace avx512bf16 { extern const Kernels kernels; }
namespace amx { extern const Kernels kernels; }

namespace {

// Whether the processor has it, and the operating system keeps its registers.
#if defined(CAIRN_EMULATE_AVX512)
#define CAIRN_HAS(feature) true  // a test build: plain code stands for the instructions
#else
#define CAIRN_HAS(feature) __builtin_cpu_supports(feature)
#endif

#if defined(CAIRN_KNOWS_amx)
// Whether the processor has AMX and Linux lets this process have its registers, which it must be asked for.
bool has_amx() {
#if defined(CAIRN_EMULATE_AVX512)
    return true;
#else
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16") &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#endif
}
#endif

// CAIRN_KNOWS_*: the compiler of this build knows the instruction set.
std::vector<const Kernels*> runnable() {
    std::vector<const Kernels*> found;
#if defined(CAIRN_KNOWS_avx512)
    const bool has_avx512 = CAIRN_HAS("avx512f") && CAIRN_HAS("avx512bw") && CAIRN_HAS("avx512vl") &&
                            CAIRN_HAS("avx512dq") && CAIRN_HAS("avx512vnni");
#if defined(CAIRN_KNOWS_amx)
    if (has_avx512 && has_amx()) found.push_back(&amx::kernels);
#endif
    if (has_avx512) found.push_back(&avx512::kernels);
#if defined(CAIRN_KNOWS_avx512bf16)
    // Processors with AMX have VDPBF16PS for its sake alone: at half the multiply-adds a cycle that floats have.
    const bool is_slow = __builtin_cpu_supports("amx-bf16");
    if (has_avx512 && CAIRN_HAS("avx512bf16")) found.insert(found.end() - !is_slow, &avx512bf16::kernels);
#endif
#endif
#if defined(CAIRN_KNOWS_avx2)
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(CAIRN_KNOWS_avxvnni)
    if (has_avx2 && CAIRN_HAS("avxvnni")) found.push_back(&avxvnni::kernels);
#endif
    if (has_avx2) found.push_back(&avx2::kernels);
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
