// Adam (betas 0.9 and 0.999, epsilon 1e-8), shared by CPU and CUDA: the paper's AdamW without
// weight decay.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Factors that correct the moments for their initial value 0.
template <typename Real>
struct AdamCorrections {
    Real rate;   // the learning rate divided by the correction of the first moment
    Real scale;  // 1 / the square root of the correction of the second moment

    AdamCorrections(double learning_rate, std::int64_t n_steps)
        : rate(static_cast<Real>(learning_rate /
                                 (1.0 - __builtin_pow(0.9, static_cast<double>(n_steps))))),
          scale(static_cast<Real>(
              1.0 / __builtin_sqrt(1.0 - __builtin_pow(0.999, static_cast<double>(n_steps))))) {}

    /// Updates the moments of one parameter and returns its change, in multiples of `unit`.
    SKDEJAVID_INLINE Real change(Real gradient, Real unit, Real& first, Real& second) const {
        constexpr Real kFirstRate = Real(1.0 - 0.9), kSecondRate = Real(1.0 - 0.999);
        constexpr Real kSecond = Real(0.999), kEpsilon = Real(1e-8);
        gradient *= unit;
        first += kFirstRate * (gradient - first);
        second = kSecond * second + kSecondRate * gradient * gradient;
        return -rate * first / (square_root(second) * scale + kEpsilon);
    }
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
