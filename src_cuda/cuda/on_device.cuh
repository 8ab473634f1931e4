// Tools that kernels are written with, and their launch. Tests compile the same kernels as plain
// C++ with cuda_emulation.hpp in place of CUDA's headers.
#pragma once

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#else
#include "cuda_emulation.hpp"
#endif

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#define SKDEJAVID_ISA device
#include "../cost_term.hpp"
#include "../optimizer.hpp"
#include "../recurrence.hpp"
#include "align_cuda.hpp"

namespace skdejavid {
namespace device {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Numbers that one instruction reads or writes.
template <typename T, int kSize>
struct alignas(kSize * sizeof(T)) Pack {
    T numbers[kSize];
};

/// Number of bytes in the widest access to memory.
constexpr int kPackBytes = 16;

/// Number of values of the arithmetic's type in such an access.
template <typename Real>
constexpr int kPackSize = kPackBytes / static_cast<int>(sizeof(Real));

template <typename T, int kSize>
__device__ __forceinline__ Pack<T, kSize> load_pack(const void* source) {
#if !defined(__CUDACC__)
    cuda_emulation::check_aligned(source, alignof(Pack<T, kSize>));
#endif
    return *static_cast<const Pack<T, kSize>*>(source);
}

__device__ __forceinline__ float to_real(float x) { return x; }
__device__ __forceinline__ double to_real(double x) { return x; }
__device__ __forceinline__ float to_real(Half x) { return __half2float(__ushort_as_half(x.bits)); }

/// Starts a copy of 16 bytes to shared memory, or of zeros if `exists` is false. The target must
/// not be read before `wait_for_copies`.
__device__ __forceinline__ void copy_async(void* target, const void* source, bool exists) {
    __pipeline_memcpy_async(target, source, kPackBytes, exists ? 0 : kPackBytes);
}

/// Ends a group of copies.
__device__ __forceinline__ void end_copies() { __pipeline_commit(); }

/// Waits for all copies of this thread; a barrier afterwards waits for those of other threads.
__device__ __forceinline__ void wait_for_copies() { __pipeline_wait_prior(0); }

/// Returns the shared memory of the block; the launch sets its size.
__device__ __forceinline__ unsigned char* shared_memory() {
#if defined(__CUDACC__)
    extern __shared__ __align__(16) unsigned char skdejavid_shared_memory[];
    return skdejavid_shared_memory;
#else
    return emulated_shared_memory();
#endif
}

/// Returns the sequence, `from` or a later one, that contains frame `frame` of the concatenation of
/// all sequences.
__device__ __forceinline__ std::int64_t find_sequence(const std::int64_t* offsets,
                                                      std::int64_t n_sequences, std::int64_t frame,
                                                      std::int64_t from = 0) {
    std::int64_t first = from;
    std::int64_t end = n_sequences;
    while (end - first > 1) {  // the result is in [first, end)
        const std::int64_t middle = first + (end - first) / 2;
        if (offsets[middle] <= frame) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return first;
}

inline void check_success(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // resets the error, which the next call would report again
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status) + " (" +
                             cudaGetErrorName(status) + ")");
}

/// Makes a device the current one during the lifetime of the object.
class CurrentDevice {
 public:
    explicit CurrentDevice(int device) {
        check_success(cudaGetDevice(&before_), "getting the current CUDA device");
        is_other_ = device != before_;
        if (is_other_) check_success(cudaSetDevice(device), "setting the current CUDA device");
    }
    ~CurrentDevice() {
        if (is_other_) cudaSetDevice(before_);
    }
    CurrentDevice(const CurrentDevice&) = delete;
    CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
    int before_ = 0;
    bool is_other_ = false;
};

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Numbers of blocks in a grid; y must be at most 65535.
struct Grid {
    std::int64_t x;
    std::int64_t y;
};

/// Launches a kernel on a stream, with `n_threads` threads and `n_bytes` of shared memory per
/// block.
template <typename... Parameters, typename... Arguments>
void start(void (*kernel)(Parameters...), Grid grid, int n_threads, std::size_t n_bytes,
           Queue queue, const char* what, const Arguments&... arguments) {
    if (grid.x == 0 || grid.y == 0) return;
    if (grid.x > std::numeric_limits<std::int32_t>::max() || grid.y > 65535) {
        throw std::runtime_error(std::string(what) +
                                 " needs more blocks than a CUDA grid can have; use fewer "
                                 "sequences or centroids at once");
    }
    const CurrentDevice current(queue.device);
    constexpr std::size_t kDefaultSharedBytes = 48 * 1024;
    if (n_bytes > kDefaultSharedBytes) {
        check_success(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(n_bytes)),
                      what);
    }
#if defined(__CUDACC__)
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
    kernel<<<blocks, n_threads, n_bytes, static_cast<cudaStream_t>(queue.stream)>>>(arguments...);
#else
    emulate(kernel, grid.x, grid.y, n_threads, n_bytes, arguments...);
#endif
    check_success(cudaGetLastError(), what);
}

}  // namespace device
}  // namespace skdejavid
