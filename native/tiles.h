// AMX's tile registers: 8 of 16 rows x 64 bytes, and what is done with them.
//
// Written as instructions, not by the compiler's intrinsics, which say nothing of the memory that they read. Nor does
// `load_tile`, so that sums beside it stay in registers: what the same function has written must be `settled` before.
#pragma once

#include <cstdint>

#include "simd.h"

namespace cairn::CAIRN_ISA {

constexpr int kLineBytes = 64;
constexpr int kTileLines = 16;

// The shape of each register, as LDTILECFG takes it. What is multiplied has one:
//   sums += a . b     a [T rows, bytes], b [bytes / 4 lines, 64 bytes], sums [T rows, 16 numbers]
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0;
    uint8_t unused[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};

    CAIRN_INLINE void set(int tile, int num_rows, int num_bytes) {
        rows[tile] = uint8_t(num_rows);
        bytes[tile] = uint16_t(num_bytes);
    }
};

#if defined(CAIRN_EMULATE_AVX512)
#include "tests/emulated_tiles.h"
#else

// The registers have these shapes, and hold zeros, until `release_tiles`.
CAIRN_INLINE void configure_tiles(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}
CAIRN_INLINE void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

CAIRN_INLINE void settled() { asm volatile("" : : : "memory"); }

// The rows of register `tile`, from memory and to it, `stride` bytes apart.
template <int tile>
CAIRN_INLINE void load_tile(const void* from, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile));
}
template <int tile>
CAIRN_INLINE void store_tile(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
CAIRN_INLINE void store_tile(int32_t (&to)[kTileLines * 16]) {
    asm volatile("tilestored %%tmm%c3, (%1,%2,1)" : "=m"(to) : "r"(to), "r"(size_t(kLineBytes)), "i"(tile));
}
template <int tile>
CAIRN_INLINE void clear_tile() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}

// Pairs of bfloat16. Of each sum the even and the odd products are added up apart, in order, from 0, each with one
// rounding; then odd to even, and both to the sum. Subnormal numbers that come in or out are zeros.
template <int sums, int a, int b>
CAIRN_INLINE void multiply_pairs() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(a), "i"(b));
}
// Fours of signed bytes, exactly.
template <int sums, int a, int b>
CAIRN_INLINE void multiply_bytes() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(a), "i"(b));
}
#endif

#define CAIRN_INLINED __attribute__((always_inline))  // for lambdas: their captures stay in registers

// Calls `run` with the constants 0 .. N - 1.
template <int N, typename Run>
CAIRN_INLINE void each(const Run& run) {
    if constexpr (N > 0) {
        each<N - 1>(run);
        run.template operator()<N - 1>();
    }
}

}  // namespace cairn::CAIRN_ISA
