// The kernels compiled under one namespace, CAIRN_ISA, with one set of compiler flags.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>

#include "kernels.h"
#include "simd.h"

#include "matmul.inl"
#include "norms.inl"
#include "attention.inl"
#include "adapters.inl"

#define CAIRN_STRING(x) #x
#define CAIRN_NAME(x) CAIRN_STRING(x)

namespace cairn::CAIRN_ISA {

extern const Kernels kernels = {
    CAIRN_NAME(CAIRN_ISA), matmul, take_row, take_group, give_row, low_rank, norm, add, activate, rotate,
    write_key_value, attend, softcap, softmax, argmax,
};

}  // namespace cairn::CAIRN_ISA
