#define SKDEJAVID_ISA baseline
#include "align_body.inl"
