// Strips of features, and the frames along paths in one strip.
//
// Features are divided into strips of a few registers. A strip of all centroids and of the
// sequences of a task stays in the L2 cache while all runs of all pairs are visited; without
// strips, centroids would be read from memory again for every sequence.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../align.hpp"
#include "lanes.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

template <int kWidth>
struct Width {
    static constexpr int value = kWidth;
};

/// Calls `visit(Width<width>{})` with `width` as a constant, for a width between 1 and kMost.
template <int kMost, typename Visitor>
SKDEJAVID_INLINE void with_width(std::int64_t width, const Visitor& visit) {
    if constexpr (kMost > 1) {
        if (width < kMost) return with_width<kMost - 1>(width, visit);
    }
    visit(Width<kMost>{});
}

/// A division of features into strips of nearly equal width, at most kMost registers.
template <int kMost, typename Real>
class Strips {
 public:
    explicit Strips(std::int64_t n_features)
        : n_registers_((n_features + kLanes<Real> - 1) / kLanes<Real>),
          size_((n_registers_ + kMost - 1) / kMost) {}

    std::int64_t size() const { return size_; }

    /// Calls `visit(Width, begin)` for one strip, where `begin` is its first feature.
    template <typename Visitor>
    SKDEJAVID_INLINE void visit(std::int64_t strip, const Visitor& visit) const {
        const std::int64_t first = strip * n_registers_ / size_;
        const std::int64_t last = (strip + 1) * n_registers_ / size_;
        with_width<kMost>(last - first, [&](auto width) { visit(width, first * kLanes<Real>); });
    }

 private:
    std::int64_t n_registers_;
    std::int64_t size_;
};

/// Consecutive packed frames that are matched to one time step.
template <typename Real>
struct Visit {
    const Lanes<Real>* first;
    const Lanes<Real>* last;
    Real coefficient;
};

/// An iterator over the frames of several consecutive visits. It has no branch, because the ends of
/// runs are hard to predict; it therefore reads one entry after the last visit.
template <int kWidth, typename Real>
struct Walk {
    const Visit<Real>* visit;
    const Lanes<Real>* frame;

    explicit Walk(const Visit<Real>* visits) : visit(visits), frame(visits->first) {}

    /// Moves to the next frame. Returns 1 if a new visit begins there, else 0.
    SKDEJAVID_INLINE std::int64_t advance() {
        const std::int64_t is_last = frame == visit->last;
        visit += is_last;
        const auto within = reinterpret_cast<std::uintptr_t>(frame + kWidth);
        const auto restart = reinterpret_cast<std::uintptr_t>(visit->first);
        const std::uintptr_t mask = -static_cast<std::uintptr_t>(is_last);
        frame = reinterpret_cast<const Lanes<Real>*>((within & ~mask) | (restart & mask));
        return is_last;
    }
};

/// One strip of the frames of consecutive sequences, in contiguous memory.
template <typename Real>
class PackedFrames {
 public:
    template <int kWidth>
    void pack_strip(const SequenceView<Real>& sequences, std::int64_t first_sequence,
                    std::int64_t last_sequence, std::int64_t begin) {
        first_sequence_ = first_sequence;
        starts_.resize(last_sequence - first_sequence);
        std::int64_t n_frames = 0;
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            starts_[s - first_sequence] = n_frames * kWidth;
            n_frames += sequences.lengths[s];
        }
        frames_.resize(n_frames * kWidth);
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, sequences.n_features - begin);
        Lanes<Real>* target = frames_.data();
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            const Real* source = sequences.frames(s) + begin;
            const std::int64_t length = sequences.lengths[s];
            for (std::int64_t j = 0; j < length; ++j, target += kWidth) {
                pack(source + j * sequences.n_features, n, target, 1,
                     source + std::min(j + 4, length - 1) * sequences.n_features);
            }
        }
    }

    template <int kWidth>
    SKDEJAVID_INLINE Visit<Real> visit(std::int64_t sequence, Run run, Real coefficient) const {
        const Lanes<Real>* frames = frames_.data() + starts_[sequence - first_sequence_];
        return {frames + std::int64_t{run.first} * kWidth, frames + std::int64_t{run.last} * kWidth,
                coefficient};
    }

 private:
    std::int64_t first_sequence_ = 0;
    Scratch<std::int64_t> starts_;  // of each sequence in `frames_`
    Scratch<Lanes<Real>> frames_;   // (n_frames, width)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
