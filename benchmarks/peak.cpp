// The machine's own limit: subtract, drop the sign, multiply and add, with everything in registers.
// Compiled for one instruction set by peak.py.
#include <chrono>
#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

typedef float Lanes __attribute__((vector_size(kRegisterBytes)));
typedef std::int32_t Bits __attribute__((vector_size(kRegisterBytes)));

constexpr int kSums = 12;  // enough to hide the latency of an addition

}  // namespace

/// Weighted absolute differences per second of one thread, in float32.
extern "C" double peak(std::int64_t n_rounds) {
    Lanes sums[kSums] = {};
    Lanes centroid = Lanes{} + 1.5f, weight = Lanes{} + 0.5f, frame = Lanes{} + 0.25f;
    const Bits all_but_sign = Bits{} + 0x7fffffff;
    const auto begin = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < n_rounds; ++i) {
#pragma GCC unroll 12
        for (int k = 0; k < kSums; ++k) {
            asm volatile("" : "+v"(frame));  // hides its value from the optimizer
            sums[k] += weight * (Lanes)((Bits)(centroid - frame) & all_but_sign);
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    for (int k = 0; k < kSums; ++k) asm volatile("" : : "v"(sums[k]));
    const double n_lanes = kRegisterBytes / sizeof(float);
    return static_cast<double>(n_rounds) * kSums * n_lanes / seconds.count();
}
