#define SKDEJAVID_ISA avx512
#include "align_body.inl"
