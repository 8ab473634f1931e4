// The recurrence and its tie rule, shared by CPU and CUDA. docs/explanation/method.md relates the
// names used here to the paper's symbols.
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

/// A path on its walk back: the cell that it has reached, and the last frame of its time step. At
/// the end, the time step is -1.
struct Trail {
    std::int64_t timestep;
    std::int64_t frame;
    std::int64_t last;
};

/// Follows a path back to its first cell, or to the frame before `begin`, and calls `write(i,
/// first, last)` with the first and the last frame of each time step that it has left.
///
/// `entry(i, j)` must return the last frame from `begin` up to j at which the move into time step
/// i > 0 is not along the sequence; if there is none, the frame before `begin`, or 0.
/// `is_diagonal(i, j)` must return whether that move is diagonal. In time step 0 all moves are
/// along the sequence, and at frame 0 all are along the centroid. Stored moves are not read there:
/// costs that overflow to infinity make them arbitrary, and the path must stay on the grid.
template <typename Entry, typename IsDiagonal, typename Write>
SKDEJAVID_INLINE void walk_back_to(std::int64_t begin, Trail& trail, const Entry& entry,
                                   const IsDiagonal& is_diagonal, const Write& write) {
    while (trail.timestep > 0 && trail.frame >= begin) {
        trail.frame = entry(trail.timestep, trail.frame);
        if (trail.frame < begin) return;
        write(trail.timestep, trail.frame, trail.last);
        if (trail.frame > 0 && is_diagonal(trail.timestep, trail.frame)) --trail.frame;
        trail.last = trail.frame;
        --trail.timestep;
    }
    if (trail.timestep != 0) return;
    write(std::int64_t{0}, std::int64_t{0}, trail.last);
    trail.timestep = -1;
}

/// Follows a whole path, of which all moves are stored; see `walk_back_to`.
template <typename Entry, typename IsDiagonal, typename Write>
SKDEJAVID_INLINE void backtrack(std::int64_t n_timesteps, std::int64_t n_frames, const Entry& entry,
                                const IsDiagonal& is_diagonal, const Write& write) {
    Trail trail = {n_timesteps - 1, n_frames - 1, n_frames - 1};
    walk_back_to(0, trail, entry, is_diagonal, write);
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
