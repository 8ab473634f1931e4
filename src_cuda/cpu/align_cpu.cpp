// Choice of the CPU backend's instruction set, at the first call.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "../align.hpp"

namespace skdejavid {

#define SKDEJAVID_DECLARE_BACKEND(isa) \
    namespace isa {                    \
    template <typename Real>           \
    const Backend<Real>& backend();    \
    }

SKDEJAVID_DECLARE_BACKEND(baseline)
#if defined(SKDEJAVID_X86)
SKDEJAVID_DECLARE_BACKEND(avx2)
SKDEJAVID_DECLARE_BACKEND(avx512)
#endif

namespace {

enum class InstructionSet { baseline, avx2, avx512 };

InstructionSet best_instruction_set() {
#if defined(SKDEJAVID_X86)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        return InstructionSet::avx512;
    }
    if (has_avx2) return InstructionSet::avx2;
#endif
    return InstructionSet::baseline;
}

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

/// Returns the best instruction set of this machine, or the one that the environment variable
/// names: tests run all of them.
InstructionSet choose() {
    const InstructionSet best = best_instruction_set();
    const char* wanted = std::getenv("SKDEJAVID_INSTRUCTION_SET");
    if (wanted == nullptr || *wanted == '\0') return best;
    for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
        if (std::string(wanted) == kNames[isa]) return static_cast<InstructionSet>(isa);
    }
    throw std::invalid_argument("SKDEJAVID_INSTRUCTION_SET=" + std::string(wanted) +
                                " is not supported by this build on this machine; the best is " +
                                kNames[static_cast<int>(best)]);
}

InstructionSet chosen() {
    static const InstructionSet isa = choose();
    return isa;
}

}  // namespace

const char* cpu_instruction_set() { return kNames[static_cast<int>(chosen())]; }

template <typename Real>
const Backend<Real>& cpu_backend() {
    switch (chosen()) {
#if defined(SKDEJAVID_X86)
        case InstructionSet::avx512:
            return avx512::backend<Real>();
        case InstructionSet::avx2:
            return avx2::backend<Real>();
#endif
        default:
            return baseline::backend<Real>();
    }
}

template const Backend<float>& cpu_backend<float>();
template const Backend<double>& cpu_backend<double>();

}  // namespace skdejavid
