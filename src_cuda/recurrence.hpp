// The recurrence and its tie rule, shared by CPU and CUDA. docs/method.md relates the names used
// here to the paper's symbols.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Returns the smaller of two totals (numbers, or registers of them), the second one if they are
/// equal.
///
/// The tie rule: a path reaches cell (i, j) from (i - 1, j - 1), where diagonal moves are allowed,
/// if that total is at most the others; from (i - 1, j), along the centroid, only if that total is
/// strictly the smallest; and otherwise from (i, j - 1), along the sequence.
template <typename Total>
SKDEJAVID_INLINE Total cheaper(Total strictly, Total otherwise) {
    return strictly < otherwise ? strictly : otherwise;
}

/// Totals of the cells from which a path can reach cell (i, j); infinity outside of the grid.
template <typename Total>
struct Predecessors {
    Total along_centroid;  // at (i - 1, j)
    Total along_sequence;  // at (i, j - 1)
    Total corner;          // at (i - 1, j - 1)
    bool diagonal;         // whether diagonal moves are allowed

    /// Returns the smallest total (the paper's Algorithm 1, line 5). Only `along_centroid` depends
    /// on the cell computed just before, so it is compared last.
    SKDEJAVID_INLINE Total cheapest() const {
        const Total others = diagonal ? cheaper(along_sequence, corner) : along_sequence;
        return cheaper(along_centroid, others);
    }

    /// Returns whether the path moves along the centroid, unless it moves diagonally. `less`
    /// compares numbers, or registers lane by lane, and returns one bit for each.
    template <typename Less>
    SKDEJAVID_INLINE unsigned comes_along_centroid(const Less& less) const {
        return less(along_centroid, along_sequence);
    }

    template <typename Less>
    SKDEJAVID_INLINE unsigned comes_diagonally(const Less& less) const {
        return diagonal ? ~(less(along_centroid, corner) | less(along_sequence, corner)) : 0;
    }
};

/// Follows a path from the last cell back to the first and calls `write(i, first, last)` with the
/// first and the last frame of each time step.
///
/// `entry(i, j)` must return the last frame up to j at which the move into time step i > 0 is not
/// along the sequence, or 0; `is_diagonal(i, j)` whether that move is diagonal. In time step 0 all
/// moves are along the sequence, and at frame 0 all are along the centroid. Stored moves are not
/// read there: costs that overflow to infinity make them arbitrary, and the path must stay on the
/// grid.
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
