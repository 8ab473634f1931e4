// Squared differences, in place of src_cuda/cost_term.hpp: deviation(d) = d * d, slope(d) = 2 * d.
#pragma once

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

template <typename Value, typename Frame>
SKDEJAVID_INLINE Value add_cost(Value sum, Value weight, Value centroid, Frame frame) {
    const Value difference = centroid - frame;
    return multiply_add(weight, difference * difference, sum);
}

template <typename Value>
SKDEJAVID_INLINE void add_derivatives(Value centroid, Value frame, Value& slopes,
                                      Value& deviations) {
    const Value difference = centroid - frame;
    slopes += difference + difference;
    deviations += difference * difference;
}

template <typename Value>
SKDEJAVID_INLINE void add_derivatives(Value coefficient, Value centroid, Value frame, Value& slopes,
                                      Value& deviations) {
    const Value difference = centroid - frame;
    slopes += coefficient * (difference + difference);
    deviations += coefficient * difference * difference;
}

template <typename Weight, typename Real>
SKDEJAVID_INLINE Weight derivative_by_frame(Weight weight, Real centroid, Real frame) {
    return Weight(-2) * weight * (centroid - frame);
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
