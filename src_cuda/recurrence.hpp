// Rules of the time-weighted alignment that must not differ between host and device.
// The paper's symbols in the words used here: docs/method.md.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// The smaller of two totals; the second one among equals. Numbers, or registers of them.
///
/// The one tie rule: a cell (i, j) is reached from the diagonal (i - 1, j - 1), where that is
/// allowed, if it is no worse than the others; from (i - 1, j), along the centroid, only if that is
/// strictly the smallest; else along the sequence, from (i, j - 1).
template <typename Total>
SKDEJAVID_INLINE Total cheaper(Total strictly, Total otherwise) {
    return strictly < otherwise ? strictly : otherwise;
}

/// The totals of the cells from which cell (i, j) can be reached; infinity outside of the grid.
template <typename Total>
struct Before {
    Total along_centroid;  // at (i - 1, j)
    Total along_sequence;  // at (i, j - 1)
    Total corner;          // at (i - 1, j - 1)
    bool diagonal;         // whether that way is allowed

    /// The paper's Algorithm 1, line 5. A chain of cells waits for `along_centroid` alone, so that
    /// comes last.
    SKDEJAVID_INLINE Total cheapest() const {
        const Total others = diagonal ? cheaper(along_sequence, corner) : along_sequence;
        return cheaper(along_centroid, others);
    }

    /// Whether the path comes along the centroid, unless it comes diagonally. `less` compares
    /// numbers, or registers of them lane by lane, and gives a bit for each.
    template <typename Less>
    SKDEJAVID_INLINE unsigned comes_along_centroid(const Less& less) const {
        return less(along_centroid, along_sequence);
    }

    template <typename Less>
    SKDEJAVID_INLINE unsigned comes_diagonally(const Less& less) const {
        return diagonal ? ~(less(along_centroid, corner) | less(along_sequence, corner)) : 0;
    }
};

/// Walks from the last cell back to the first, and hands over the first and the last frame of each
/// time step: `write(i, first, last)`.
///
/// Every cell of row 0 is reached along the sequence and every cell of column 0 along the centroid,
/// whatever move a cost that overflowed to infinity has left there: a path never leaves the grid.
/// `entry(i, j)` is the last frame up to j at which row i > 0 is not reached along the sequence, or
/// 0; `is_diagonal(i, j)` tells how it is reached there.
template <typename Entry, typename IsDiagonal, typename Write>
SKDEJAVID_INLINE void backtrack(std::int64_t n_timesteps, std::int64_t n_frames, const Entry& entry,
                                const IsDiagonal& is_diagonal, const Write& write) {
    std::int64_t j = n_frames - 1;
    for (std::int64_t i = n_timesteps - 1; i > 0; --i) {
        const std::int64_t last = j;
        j = entry(i, j);
        write(i, j, last);
        if (j > 0 && is_diagonal(i, j)) --j;
    }
    write(std::int64_t{0}, std::int64_t{0}, j);
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
