// The CUDA backend of a build without CUDA: the same names, which say that it is not there.
#include <stdexcept>

#include "contract.hpp"

namespace skdejavid {
namespace {

[[noreturn]] void refuse() {
    throw std::runtime_error("this build of skdejavid has no CUDA backend");
}

}  // namespace

template <typename Real, typename Stored>
std::size_t DeviceBackend<Real, Stored>::align_bytes(const DeviceProblem<Real, Stored>&, bool) {
    refuse();
}

template <typename Real, typename Stored>
void DeviceBackend<Real, Stored>::align(const DeviceProblem<Real, Stored>&, Queue, bool, double*,
                                        Run*, void*) {
    refuse();
}

template <typename Real, typename Stored>
std::size_t DeviceBackend<Real, Stored>::along_bytes(const DeviceProblem<Real, Stored>&) {
    refuse();
}

template <typename Real, typename Stored>
void DeviceBackend<Real, Stored>::distances_along(const DeviceProblem<Real, Stored>&, Queue,
                                                  const Run*, double*, void*) {
    refuse();
}

template <typename Real, typename Stored>
void DeviceBackend<Real, Stored>::parameter_gradients(const DeviceProblem<Real, Stored>&, Queue,
                                                      const Run*, const double*, bool, Real*,
                                                      Real*) {
    refuse();
}

template <typename Real, typename Stored>
void DeviceBackend<Real, Stored>::sequence_gradients(const DeviceProblem<Real, Stored>&, Queue,
                                                     const Run*, const double*, Real*) {
    refuse();
}

template <typename Real, typename Stored>
void DeviceBackend<Real, Stored>::barycenters(const DeviceProblem<Real, Stored>&, Queue, const Run*,
                                              const double*, Real*) {
    refuse();
}

template <typename Real>
void device_adam(const DeviceAdamStep<Real>&, Queue) {
    refuse();
}

template struct DeviceBackend<float, float>;
template struct DeviceBackend<float, Half>;
template struct DeviceBackend<double, double>;
template void device_adam<float>(const DeviceAdamStep<float>&, Queue);
template void device_adam<double>(const DeviceAdamStep<double>&, Queue);

bool built_with_cuda() { return false; }

const char* cuda_architectures() { return ""; }

std::vector<DeviceInfo> list_devices(std::string& reason) {
    reason = "this build of skdejavid has no CUDA backend";
    return {};
}

std::string find_obstacle(int) { return "this build of skdejavid has no CUDA backend"; }

int cuda_driver_version() { return 0; }

int cuda_runtime_version() { return 0; }

}  // namespace skdejavid
