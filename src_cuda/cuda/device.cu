// CUDA devices of the machine, and whether this build can compute on them.
#include <cuda_runtime.h>

#include "on_device.cuh"

namespace skdejavid {
namespace {

/// A kernel that is compiled for the same architectures as all others.
__global__ void probe_kernel() {}

std::string name_of(cudaError_t status) {
    return std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
}

}  // namespace

bool built_with_cuda() { return true; }

const char* cuda_architectures() { return SKDEJAVID_CUDA_ARCHITECTURES; }

std::vector<DeviceInfo> list_devices(std::string& reason) {
    int n_devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&n_devices);
    cudaGetLastError();  // resets the error, which the next call would report again
    if (status != cudaSuccess) {
        reason = name_of(status);
        return {};
    }
    std::vector<DeviceInfo> devices;
    for (int device = 0; device < n_devices; ++device) {
        cudaDeviceProp properties;
        device::check_success(cudaGetDeviceProperties(&properties, device),
                              "getting the properties of a CUDA device");
        devices.push_back({properties.name, properties.major, properties.minor,
                           static_cast<std::int64_t>(properties.totalGlobalMem)});
    }
    return devices;
}

std::string cuda_unusable_reason(int device) {
    try {
        const device::CurrentDevice current(device);
        cudaFuncAttributes attributes;
        const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
        cudaGetLastError();
        if (status == cudaSuccess) return "";
        if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
            status == cudaErrorUnsupportedPtxVersion) {
            return std::string("this build's kernels were compiled for ") + cuda_architectures();
        }
        return name_of(status);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

int cuda_driver_version() {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int cuda_runtime_version() {
    int version = 0;
    return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}

}  // namespace skdejavid
