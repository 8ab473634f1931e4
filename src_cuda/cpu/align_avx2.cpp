#define SKDEJAVID_ISA avx2
#include "align_body.inl"
