// Scratch memory, aligned to whole registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

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

    /// Makes room for `size` elements. The contents are lost if the array grows.
    void resize(std::int64_t size) {
        if (size <= capacity_) return;
        T* const larger = static_cast<T*>(::operator new(static_cast<std::size_t>(size) * sizeof(T),
                                                         std::align_val_t{kRegisterBytes}));
        ::operator delete(data_, std::align_val_t{kRegisterBytes});
        data_ = larger;
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
