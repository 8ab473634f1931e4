// Adam, as the paper's optimizer is without weight decay, in one pass over parameters and moments.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "lanes.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

SKDEJAVID_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
SKDEJAVID_INLINE double square_root(double x) { return __builtin_sqrt(x); }
SKDEJAVID_INLINE float exponential(float x) { return __builtin_expf(x); }
SKDEJAVID_INLINE double exponential(double x) { return __builtin_exp(x); }

/// What corrects the moments for their start at 0.
template <typename Real>
struct AdamCorrections {
    Real rate;       // the learning rate over the correction of the first moment
    Real deviation;  // 1 over the square root of the correction of the second moment

    explicit AdamCorrections(const AdamStep<Real>& step)
        : rate(static_cast<Real>(step.learning_rate /
                                 (1.0 - __builtin_pow(0.9, static_cast<double>(step.n_steps))))),
          deviation(static_cast<Real>(
              1.0 / square_root(1.0 - __builtin_pow(0.999, static_cast<double>(step.n_steps))))) {}
};

/// One step for row `row` of the parameters.
template <typename Real>
void adam_step(const AdamStep<Real>& step, const AdamCorrections<Real>& corrections,
               std::int64_t row) {
    constexpr Real kFirstRate = Real(1.0 - 0.9), kSecondRate = Real(1.0 - 0.999);
    constexpr Real kSecond = Real(0.999), kEpsilon = Real(1e-8);
    constexpr std::int64_t kBlock = 256;
    for (std::int64_t begin = 0; begin < step.n_features; begin += kBlock) {
        const std::int64_t n = std::min(kBlock, step.n_features - begin);
        const std::int64_t offset = row * step.n_features + begin;
        Real* parameters = step.parameters + offset;
        Real* first = step.first_moments + offset;
        Real* second = step.second_moments + offset;
        const Real* units = step.is_relative ? parameters : step.scale + begin;
        Real changes[kBlock];
        for (std::int64_t k = 0; k < n; ++k) {
            const Real gradient = step.gradients[offset + k] * units[k];
            first[k] += kFirstRate * (gradient - first[k]);
            second[k] = kSecond * second[k] + kSecondRate * gradient * gradient;
            const Real deviation = square_root(second[k]) * corrections.deviation + kEpsilon;
            changes[k] = -corrections.rate * first[k] / deviation;
        }
        if (step.is_relative) {
            for (std::int64_t k = 0; k < n; ++k) parameters[k] *= exponential(changes[k]);
        } else {
            for (std::int64_t k = 0; k < n; ++k) parameters[k] += units[k] * changes[k];
        }
    }
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
