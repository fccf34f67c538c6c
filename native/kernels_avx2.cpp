// For x86 with AVX2, FMA and F16C (2013 and later); compiled with these flags, run only where they hold.
#define CAIRN_ISA avx2
#include "kernels.inl"
