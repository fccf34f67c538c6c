// For x86 with AMX for bytes and bfloat16 beside AVX-512 (Intel's servers since Sapphire Rapids).
#define CAIRN_ISA amx
#define CAIRN_AVX512
#define CAIRN_AMX
#include "kernels.inl"
