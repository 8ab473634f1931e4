// Adam (betas 0.9 and 0.999, epsilon 1e-8), as the paper's optimizer is without weight decay: what
// must not differ between host and device.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// What corrects the moments for their start at 0.
template <typename Real>
struct AdamCorrections {
    Real rate;       // the learning rate over the correction of the first moment
    Real deviation;  // 1 over the square root of the correction of the second moment

    AdamCorrections(double learning_rate, std::int64_t n_steps)
        : rate(static_cast<Real>(learning_rate /
                                 (1.0 - __builtin_pow(0.9, static_cast<double>(n_steps))))),
          deviation(static_cast<Real>(
              1.0 / __builtin_sqrt(1.0 - __builtin_pow(0.999, static_cast<double>(n_steps))))) {}

    /// By how much one parameter changes, in units of `unit`; moves its moments.
    SKDEJAVID_INLINE Real change(Real gradient, Real unit, Real& first, Real& second) const {
        constexpr Real kFirstRate = Real(1.0 - 0.9), kSecondRate = Real(1.0 - 0.999);
        constexpr Real kSecond = Real(0.999), kEpsilon = Real(1e-8);
        gradient *= unit;
        first += kFirstRate * (gradient - first);
        second = kSecond * second + kSecondRate * gradient * gradient;
        return -rate * first / (square_root(second) * deviation + kEpsilon);
    }
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
