// The CUDA backend of a build without CUDA: the same functions, which throw.
#include <stdexcept>

#include "align_cuda.hpp"

namespace skdejavid {
namespace {

[[noreturn]] void refuse() {
    throw std::runtime_error("this build of skdejavid has no CUDA backend");
}

}  // namespace

template <typename Real, typename Stored>
std::size_t CudaBackend<Real, Stored>::align_bytes(const CudaProblem<Real, Stored>&, bool) {
    refuse();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::align(const CudaProblem<Real, Stored>&, Queue, bool, double*, Run*,
                                      void*) {
    refuse();
}

template <typename Real, typename Stored>
std::size_t CudaBackend<Real, Stored>::along_bytes(const CudaProblem<Real, Stored>&) {
    refuse();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::distances_along(const CudaProblem<Real, Stored>&, Queue, const Run*,
                                                double*, void*) {
    refuse();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::parameter_gradients(const CudaProblem<Real, Stored>&, Queue,
                                                    const Run*, const double*, bool, Real*, Real*) {
    refuse();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::sequence_gradients(const CudaProblem<Real, Stored>&, Queue,
                                                   const Run*, const double*, Real*) {
    refuse();
}

template <typename Real, typename Stored>
void CudaBackend<Real, Stored>::barycenters(const CudaProblem<Real, Stored>&, Queue, const Run*,
                                            const double*, Real*) {
    refuse();
}

template <typename Real>
void cuda_adam(const CudaAdamStep<Real>&, Queue) {
    refuse();
}

template struct CudaBackend<float, float>;
template struct CudaBackend<float, Half>;
template struct CudaBackend<double, double>;
template void cuda_adam<float>(const CudaAdamStep<float>&, Queue);
template void cuda_adam<double>(const CudaAdamStep<double>&, Queue);

bool built_with_cuda() { return false; }

const char* cuda_architectures() { return ""; }

std::vector<DeviceInfo> list_devices(std::string& reason) {
    reason = "this build of skdejavid has no CUDA backend";
    return {};
}

std::string cuda_unusable_reason(int) { return "this build of skdejavid has no CUDA backend"; }

int cuda_driver_version() { return 0; }

int cuda_runtime_version() { return 0; }

}  // namespace skdejavid
