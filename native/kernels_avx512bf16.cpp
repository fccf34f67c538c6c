// For x86 with AVX-512 and its products of bfloat16 (Intel since Cooper Lake and Sapphire Rapids, AMD since Zen 4).
#define CAIRN_ISA avx512bf16
#define CAIRN_AVX512
#define CAIRN_BF16
#include "kernels.inl"
