// For x86 with AVX2, FMA and AVX-VNNI (Intel's processors without AVX-512, since 2021).
#define CAIRN_ISA avxvnni
#define CAIRN_VNNI
#include "kernels.inl"
