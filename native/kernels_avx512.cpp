// For x86 with AVX-512 (F, BW, VL, DQ and VNNI: Intel's servers since Cascade Lake, AMD since Zen 4).
#define CAIRN_ISA avx512
#define CAIRN_AVX512
#include "kernels.inl"
