// How an Aligner uses memory: which moves it stores at once, and how much scratch memory it takes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../align.hpp"
#include "cost.hpp"
#include "cost_narrow.hpp"
#include "lanes.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Number of centroids that go through the recurrence together, one in each lane.
constexpr int kGroup = kLanes<double>;

// Most bytes of moves that a thread stores. Of larger pairs only the moves of a section of frames
// are stored: the recurrence runs a second time, section by section from the end, while the path is
// followed.
constexpr double kMostMoveBytes = 64.0 * 1024 * 1024;

/// Bytes of the moves into all cells of a group of centroids.
inline double move_bytes(std::int64_t n_groups, std::int64_t n_frames, std::int64_t n_timesteps) {
    return 2.0 * static_cast<double>(n_groups) * static_cast<double>(n_frames) *
           static_cast<double>(n_timesteps);
}

/// Number of frames in a section, for which its moves take about as many bytes as the totals that
/// the recurrence had before each section.
inline std::int64_t frames_of_section(std::int64_t n_frames, std::int64_t n_centroids) {
    const double best =
        std::sqrt(4.0 * static_cast<double>(n_centroids) * static_cast<double>(n_frames));
    return std::clamp(static_cast<std::int64_t>(best), std::min(kChunk, n_frames), n_frames);
}

/// Returns how many bytes of scratch memory an Aligner takes at most.
template <typename Real>
double aligner_bytes(const Sizes& sizes, std::int64_t most_groups, bool with_runs) {
    const auto product = [](auto... factors) { return (1.0 * ... * static_cast<double>(factors)); };
    const std::int64_t group_size = std::min<std::int64_t>(kGroup, sizes.n_centroids);
    const double n_rows =
        product(std::min(most_groups * kGroup, sizes.n_centroids), sizes.n_timesteps) +
        kLanes<float>;
    const std::int64_t n_at_once = std::min(kChunk, sizes.n_frames);
    double n_bytes = (sizeof(std::int64_t) + product(n_at_once, sizeof(double))) * n_rows;
    n_bytes += product(most_groups, sizes.n_timesteps, sizeof(Lanes<double>));
    if (sizes.n_features <= kMostNarrowFeatures) {
        n_bytes += product(2, n_rows, sizes.n_features, sizeof(Real));
    } else {
        n_bytes += product(n_at_once, kBlockRegisters, kRegisterBytes);
    }
    if (!with_runs) return n_bytes;
    const double moves = move_bytes(most_groups, sizes.longest, sizes.n_timesteps);
    if (moves <= kMostMoveBytes) return n_bytes + moves;
    // A task of fewer groups or of shorter sequences may store all of its moves.
    const double others = sizes.n_sequences > 1 || most_groups > 1 ? kMostMoveBytes : 0.0;
    const std::int64_t section = frames_of_section(sizes.longest, group_size);
    const double n_sections =
        std::ceil(static_cast<double>(sizes.longest) / static_cast<double>(section));
    return n_bytes + std::max(move_bytes(1, section, sizes.n_timesteps), others) +
           product(n_sections, sizes.n_timesteps, group_size, sizeof(double));
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
