// The kernels compiled under one namespace, CAIRN_ISA, with one set of compiler flags. Defined where these have it:
// CAIRN_AVX512, CAIRN_BF16 (its products of bfloat16), CAIRN_AMX, CAIRN_VNNI (AVX2's products of bytes in one instruction).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>

#include "kernels.h"
#include "simd.h"

#if defined(CAIRN_AVX512)
#include "matmul_avx512.inl"
#if defined(CAIRN_AMX)
#include "matmul_amx.inl"
#endif
#else
#include "matmul.inl"
#endif
#include "norms.inl"
#include "attention.inl"
#include "attention_many.inl"
#if defined(CAIRN_BF16)
#include "attention_pairs.inl"
#endif
#if defined(CAIRN_AMX)
#include "attention_amx.inl"
#endif
#include "adapters.inl"
#include "similarity.inl"

#define CAIRN_STRING(x) #x
#define CAIRN_NAME(x) CAIRN_STRING(x)

namespace cairn::CAIRN_ISA {

extern const Kernels kernels = {
    CAIRN_NAME(CAIRN_ISA), matmul, take_row, take_group, give_row, low_rank, norm, add, activate, rotate,
    write_key_value, attend, softcap, softmax, peak,
    dot_bytes,
};

}  // namespace cairn::CAIRN_ISA
