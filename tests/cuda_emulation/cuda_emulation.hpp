// The parts of CUDA that kernels use, for tests that run them on the host, compiled as plain C++.
//
// The threads of a block are coroutines on one thread of the host, which run until they reach a
// barrier. Faults that are rarely visible on a device are always detected:
// - the order in which threads run between barriers is a parameter, so that a missing barrier
//   changes results; shared memory is NaN at the start of each block and has exactly the requested
//   size; asynchronous copies are made only when a thread waits for them;
// - lanes of a warp that do not meet in the same warp-wide operation, misaligned accesses of 16
//   bytes and more shared memory than every device has end the launch with an exception.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

namespace cuda_emulation {

struct Index {
    unsigned x, y;
};

enum class Meeting { none, block, warp_barrier, shuffle, shuffle_up, shuffle_xor, ballot };

/// Waits until all threads of the block, or of the warp, are in a meeting of this kind.
void meet(Meeting meeting, unsigned mask);

/// Does the same and shares a value: afterwards `value_of(lane)` is that of a lane of this warp.
void meet_with(Meeting meeting, unsigned mask, std::uint64_t value);
std::uint64_t value_of(int lane);

int lane();

/// Queues a copy, or zeros if the source is null, which `make_copies` makes.
void copy_later(void* target, const void* source, std::size_t n_bytes);
void make_copies();

/// Ends the launch with an exception if an address is not aligned to `n_bytes`.
void check_aligned(const void* address, std::size_t n_bytes);

unsigned char* shared_memory();

void run(const std::function<void()>& kernel, std::int64_t x, std::int64_t y, int n_threads,
         std::size_t n_bytes);

/// Sets the order in which threads of a block, and blocks, run: 0 as numbered, 1 backwards, else
/// random.
void set_order(unsigned order);

template <typename T>
std::uint64_t bits_of(T value) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "a value of at most 8 bytes");
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T>
T from_bits(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace cuda_emulation

extern cuda_emulation::Index threadIdx, blockIdx, gridDim;

inline void __syncthreads() { cuda_emulation::meet(cuda_emulation::Meeting::block, ~0u); }
inline void __syncwarp() { cuda_emulation::meet(cuda_emulation::Meeting::warp_barrier, ~0u); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
    cuda_emulation::meet_with(cuda_emulation::Meeting::shuffle, mask,
                              cuda_emulation::bits_of(value));
    return cuda_emulation::from_bits<T>(cuda_emulation::value_of(source % 32));
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, int distance, int width) {
    cuda_emulation::meet_with(cuda_emulation::Meeting::shuffle_up, mask,
                              cuda_emulation::bits_of(value));
    const int lane = cuda_emulation::lane();
    const bool exists = lane % width >= distance;
    return cuda_emulation::from_bits<T>(cuda_emulation::value_of(exists ? lane - distance : lane));
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    cuda_emulation::meet_with(cuda_emulation::Meeting::shuffle_xor, mask,
                              cuda_emulation::bits_of(value));
    return cuda_emulation::from_bits<T>(cuda_emulation::value_of(cuda_emulation::lane() ^ lanes));
}

inline unsigned __ballot_sync(unsigned mask, bool value) {
    cuda_emulation::meet_with(cuda_emulation::Meeting::ballot, mask, value);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane) {
        bits |= static_cast<unsigned>(cuda_emulation::value_of(lane)) << lane;
    }
    return bits;
}

inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }

using __half = _Float16;
inline __half __ushort_as_half(std::uint16_t bits) {
    return cuda_emulation::from_bits<__half>(bits);
}
inline float __half2float(__half x) { return static_cast<float>(x); }

inline void __pipeline_memcpy_async(void* target, const void* source, std::size_t n_bytes,
                                    std::size_t n_zeros) {
    cuda_emulation::copy_later(target, n_zeros == n_bytes ? nullptr : source, n_bytes);
}
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(int) { cuda_emulation::make_copies(); }

inline unsigned char* emulated_shared_memory() { return cuda_emulation::shared_memory(); }

template <typename... Parameters, typename... Arguments>
void emulate(void (*kernel)(Parameters...), std::int64_t x, std::int64_t y, int n_threads,
             std::size_t n_bytes, const Arguments&... arguments) {
    cuda_emulation::run([&] { kernel(arguments...); }, x, y, n_threads, n_bytes);
}

enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline const char* cudaGetErrorString(cudaError_t) { return "invalid value"; }
inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorInvalidValue"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }

/// The limit is that of all devices since compute capability 7.5.
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int n_bytes) {
    return n_bytes <= 64 * 1024 ? cudaSuccess : cudaErrorInvalidValue;
}
