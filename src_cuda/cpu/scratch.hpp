// Scratch memory, aligned to whole registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "../out_of_memory.hpp"
#include "lanes.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// An array of uninitialized scratch memory.
template <typename T>
class Scratch {
 public:
    explicit Scratch(std::int64_t size = 0) { resize(size); }
    ~Scratch() { ::operator delete(data_, std::align_val_t{kRegisterBytes}); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    /// Makes room for `size` elements. The contents are lost if the array grows: the old memory is
    /// freed first, so that both are never held at once.
    void resize(std::int64_t size) {
        if (size <= capacity_) return;
        ::operator delete(data_, std::align_val_t{kRegisterBytes});
        data_ = nullptr;
        capacity_ = 0;
        std::size_t n_bytes;
        if (!__builtin_mul_overflow(size, sizeof(T), &n_bytes)) {
            data_ = static_cast<T*>(
                ::operator new(n_bytes, std::align_val_t{kRegisterBytes}, std::nothrow));
        }
        if (data_ == nullptr) throw_out_of_memory(static_cast<double>(size) * sizeof(T));
        capacity_ = size;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](std::int64_t i) { return data_[i]; }
    const T& operator[](std::int64_t i) const { return data_[i]; }

    void fill(std::int64_t begin, std::int64_t end, T value) {
        for (std::int64_t i = begin; i < end; ++i) data_[i] = value;
    }

 private:
    T* data_ = nullptr;
    std::int64_t capacity_ = 0;
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
