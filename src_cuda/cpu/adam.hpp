// Adam's update on the CPU, in one pass over parameters and moments.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "../optimizer.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Updates row `row` of the parameters and its moments. Blocks of changes stay in the L1 cache;
/// both loops over a block are vectorized.
template <typename Real>
void adam_step(const AdamStep<Real>& step, const AdamCorrections<Real>& corrections,
               std::int64_t row) {
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
            changes[k] =
                corrections.change(step.gradients[offset + k], units[k], first[k], second[k]);
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
