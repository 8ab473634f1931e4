// Adam's update on a device.
#pragma once

#include "on_device.cuh"

namespace skdejavid {
namespace device {

constexpr int kAdamThreads = 256;

template <typename Real>
struct AdamArguments {
    CudaAdamStep<Real> step;
    AdamCorrections<Real> corrections;
};

/// Each thread updates one parameter and its moments.
template <typename Real>
__global__ void __launch_bounds__(kAdamThreads)
    adam_kernel(const __grid_constant__ AdamArguments<Real> arguments) {
    const CudaAdamStep<Real>& step = arguments.step;
    const std::int64_t k = std::int64_t{blockIdx.x} * kAdamThreads + threadIdx.x;
    if (k >= step.n_rows * step.n_features) return;
    const std::int64_t feature = k % step.n_features;
    const std::int64_t at = k / step.n_features * step.pitch + feature;
    const Real parameter = step.parameters[at];
    const bool is_relative = step.scale == nullptr;
    const Real unit = is_relative ? parameter : step.scale[feature];
    Real first = step.first_moments[at];
    Real second = step.second_moments[at];
    const Real change = arguments.corrections.change(step.gradients[at], unit, first, second);
    step.first_moments[at] = first;
    step.second_moments[at] = second;
    step.parameters[at] = is_relative ? parameter * exponential(change) : parameter + unit * change;
}

template <typename Real>
void start_adam(const CudaAdamStep<Real>& step, Queue queue) {
    const AdamArguments<Real> arguments = {step,
                                           AdamCorrections<Real>(step.learning_rate, step.n_steps)};
    start(&adam_kernel<Real>, {ceil_div(step.n_rows * step.n_features, kAdamThreads), 1},
          kAdamThreads, 0, queue, "the CUDA kernel of Adam", arguments);
}

}  // namespace device
}  // namespace skdejavid
