#include "out_of_memory.hpp"

#include <cstdio>
#include <new>

namespace skdejavid {
namespace {

class OutOfMemory : public std::bad_alloc {
 public:
    explicit OutOfMemory(double n_bytes) {
        char asked[32];
        write_bytes(n_bytes, asked);
        std::snprintf(message_, sizeof message_,
                      "the native core could not allocate %s of memory: pass fewer or shorter "
                      "sequences or centroids at a time, or use fewer threads (n_jobs)",
                      asked);
    }

    const char* what() const noexcept override { return message_; }

 private:
    // No string, which would have to be allocated.
    char message_[192];
};

}  // namespace

void write_bytes(double n_bytes, char (&text)[32]) {
    constexpr const char* kUnits[] = {"bytes", "kB", "MB", "GB"};
    int unit = 0;
    for (; unit < 3 && n_bytes >= 1000.0; ++unit) n_bytes /= 1000.0;
    std::snprintf(text, sizeof text, "%.3g %s", n_bytes, kUnits[unit]);
}

void throw_out_of_memory(double n_bytes) { throw OutOfMemory(n_bytes); }

}  // namespace skdejavid
