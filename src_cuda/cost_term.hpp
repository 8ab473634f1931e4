// The cost of matching a frame to a time step of a centroid, for one feature, and its derivatives:
//
//     cost         weight * deviation(difference), where difference = centroid - frame
//     by weight    deviation(difference)
//     by centroid  weight * slope(difference)
//     by frame     -weight * slope(difference)
//
// Here deviation is the absolute value, and slope its derivative. All native code, on hosts and
// devices, computes costs and gradients with `add_cost`, `add_derivatives` and
// `derivative_by_frame`; for another cost, change these functions. `Real` is a floating-point
// number, `Register` a register of numbers (one of GCC's vector types) and `Value` either of them.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Returns the absolute value.
SKDEJAVID_INLINE float deviation(float difference) { return ::fabsf(difference); }
SKDEJAVID_INLINE double deviation(double difference) { return ::fabs(difference); }

/// Returns the sign: the derivative of the deviation, 0 at 0 as in PyTorch.
template <typename Real>
SKDEJAVID_INLINE Real slope(Real difference) {
    return Real(difference > Real(0)) - Real(difference < Real(0));
}

#if !defined(__CUDACC__)
template <typename Register>
using BitsOf = decltype(Register{} < Register{});

/// Returns a register with only the sign bit of each lane set, which are the bits of -0.0.
template <typename Register>
SKDEJAVID_INLINE BitsOf<Register> sign_bits() {
    return (BitsOf<Register>)(-Register{});
}

/// Returns the absolute value of each lane.
template <typename Register>
SKDEJAVID_INLINE Register deviation(Register difference) {
    return (Register)((BitsOf<Register>)difference & ~sign_bits<Register>());
}

/// Returns `value`, negated where `sign` is negative.
template <typename Register>
SKDEJAVID_INLINE Register negated_where_negative(Register value, Register sign) {
#if defined(__AVX512F__)
    constexpr int kFirstAndSecondXorThird = 0x6a;
    return (Register)_mm512_ternarylogic_epi64((__m512i)sign, (__m512i)sign_bits<Register>(),
                                               (__m512i)value, kFirstAndSecondXorThird);
#else
    using Bits = BitsOf<Register>;
    return (Register)(((Bits)sign & sign_bits<Register>()) ^ (Bits)value);
#endif
}

/// Returns `sum + value`, or `sum` where `test` is 0.
template <typename Register>
SKDEJAVID_INLINE Register add_where_not_zero(Register sum, Register value, Register test) {
#if defined(__AVX512F__)
    if constexpr (sizeof test[0] == 4) {
        const __mmask16 mask = _mm512_cmp_ps_mask((__m512)test, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        return (Register)_mm512_mask_add_ps((__m512)sum, mask, (__m512)sum, (__m512)value);
    } else {
        const __mmask8 mask = _mm512_cmp_pd_mask((__m512d)test, _mm512_setzero_pd(), _CMP_NEQ_UQ);
        return (Register)_mm512_mask_add_pd((__m512d)sum, mask, (__m512d)sum, (__m512d)value);
    }
#else
    using Bits = BitsOf<Register>;
    return sum + (Register)((Bits)value & (Bits)(test != Register{}));
#endif
}

/// Adds `coefficient` times slope and deviation to two sums. Both are computed from the coefficient
/// with its sign flipped where the difference is negative, without an absolute value or a sign.
template <typename Register>
SKDEJAVID_INLINE void add_derivatives(Register coefficient, Register centroid, Register frame,
                                      Register& slopes, Register& deviations) {
    const Register difference = centroid - frame;
    const Register signed_coefficient = negated_where_negative(coefficient, difference);
    deviations += signed_coefficient * difference;
    slopes = add_where_not_zero(slopes, signed_coefficient, difference);
}
#endif

/// Adds slope and deviation to two sums: the derivatives by the centroid, but for the factor
/// `weight`, and by the weight.
template <typename Real>
SKDEJAVID_INLINE void add_derivatives(Real centroid, Real frame, Real& slopes, Real& deviations) {
    const Real difference = centroid - frame;
    deviations += deviation(difference);
    slopes += slope(difference);
}

/// Returns `sum` plus the cost. A frame that is one number is matched to each lane of a register.
template <typename Value, typename Frame>
SKDEJAVID_INLINE Value add_cost(Value sum, Value weight, Value centroid, Frame frame) {
    const Value difference = centroid - frame;
    return multiply_add(weight, deviation(difference), sum);
}

/// Returns the derivative by the frame, of numbers; `weight` may have a wider type.
template <typename Weight, typename Real>
SKDEJAVID_INLINE Weight derivative_by_frame(Weight weight, Real centroid, Real frame) {
    return -weight * slope(centroid - frame);
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
