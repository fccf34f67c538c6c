// For any machine: what the compiler makes of eight lanes (SSE2, NEON, or plain code).
#define CAIRN_ISA portable
#include "kernels.inl"
