// The recurrence: distances and runs of cheapest paths.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "../align.hpp"
#include "../recurrence.hpp"
#include "aligner_memory.hpp"
#include "cost.hpp"
#include "cost_narrow.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

/// Aligns consecutive sequences with consecutive groups of centroids; owns the scratch memory of
/// one thread.
///
/// The frames of all sequences form one stream, divided into chunks for the costs. The recurrence
/// of each group visits the stream frame by frame and restarts where a sequence begins. Before
/// frame j, a group's column contains the totals at (i, j - 1), and after it those at (i, j).
template <typename Real>
class Aligner {
 public:
    Aligner(const Problem<Real>& problem, bool diagonal, double* distances, Run* runs,
            Worker& worker)
        : worker_(worker),
          sequences_(problem.sequences),
          centroids_(problem.centroids),
          diagonal_(diagonal),
          is_narrow_(problem.centroids.n_features <= kMostNarrowFeatures),
          distances_(distances),
          runs_(runs) {}

    void align(std::int64_t first_sequence, std::int64_t last_sequence, std::int64_t first_group,
               std::int64_t last_group) {
        std::int64_t n_frames = 0;
        std::int64_t longest = 0;
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            n_frames += sequences_.lengths[s];
            longest = std::max(longest, sequences_.lengths[s]);
        }
        const std::int64_t n_groups = last_group - first_group;
        in_sections_ =
            runs_ && move_bytes(n_groups, longest, centroids_.n_timesteps) > kMostMoveBytes;
        if (!in_sections_) {
            begin_groups(first_group, n_groups);
            store_moves(0, longest);
            align_frames({first_sequence, 0}, n_frames);
            return;
        }
        for (std::int64_t group = first_group; group < last_group; ++group) {
            begin_groups(group, 1);
            for (std::int64_t s = first_sequence; s < last_sequence; ++s) align_in_sections(s);
        }
    }

 private:
    /// Position of a frame in the stream.
    struct Position {
        std::int64_t sequence;
        std::int64_t frame;
    };

    Position next(Position position) const {
        if (++position.frame < sequences_.lengths[position.sequence]) return position;
        return {position.sequence + 1, 0};
    }

    std::int64_t first_centroid(std::int64_t group) const {
        return (first_group_ + group) * kGroup;
    }

    std::int64_t group_size(std::int64_t group) const {
        return std::min<std::int64_t>(kGroup, centroids_.n_centroids - first_centroid(group));
    }

    void begin_groups(std::int64_t first_group, std::int64_t n_groups) {
        first_group_ = first_group;
        n_groups_ = n_groups;
        list_rows();
        columns_.resize(n_groups * centroids_.n_timesteps);
    }

    /// Stores the moves into `n_frames` frames of each sequence, of which the first is `begin`.
    void store_moves(std::int64_t begin, std::int64_t n_frames) {
        first_move_ = begin;
        moves_per_group_ = 2 * n_frames * centroids_.n_timesteps;
        if (runs_) moves_.resize(n_groups_ * moves_per_group_);
        stores_moves_ = runs_ != nullptr;
    }

    /// Aligns the next `n_frames` frames of the stream, chunk by chunk.
    void align_frames(Position position, std::int64_t n_frames) {
        const std::int64_t n_chunks = (n_frames + kChunk - 1) / kChunk;
        for (std::int64_t chunk = 0; chunk < n_chunks; ++chunk) {
            const std::int64_t size =
                (chunk + 1) * n_frames / n_chunks - chunk * n_frames / n_chunks;
            position = align_chunk(position, size);
        }
    }

    /// Aligns one sequence with the centroids of one group. The totals before each section are
    /// kept, so that the recurrence can run again from there.
    void align_in_sections(std::int64_t sequence) {
        const std::int64_t n_frames = sequences_.lengths[sequence];
        const std::int64_t section = frames_of_section(n_frames, group_size(0));
        const std::int64_t n_sections = (n_frames + section - 1) / section;
        const std::int64_t n_totals = centroids_.n_timesteps * group_size(0);
        totals_.resize(n_sections * n_totals);
        const auto align_section = [&](std::int64_t k) {
            align_frames({sequence, k * section}, std::min(section, n_frames - k * section));
        };
        stores_moves_ = false;
        for (std::int64_t k = 0; k < n_sections; ++k) {
            if (k > 0) keep_column(totals_.data() + k * n_totals);
            if (k == n_sections - 1) store_moves(k * section, section);
            align_section(k);
        }
        Trail trails[kGroup];
        for (Trail& trail : trails) trail = last_cell(n_frames);
        for (std::int64_t k = n_sections - 1; !walk_back(0, sequence, trails); --k) {
            if (k > 1) restore_column(totals_.data() + (k - 1) * n_totals);
            store_moves((k - 1) * section, section);
            align_section(k - 1);
        }
    }

    void keep_column(double* totals) {
        for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
            for (std::int64_t g = 0; g < group_size(0); ++g) *totals++ = columns_[i][g];
        }
    }

    void restore_column(const double* totals) {
        for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
            for (std::int64_t g = 0; g < group_size(0); ++g) columns_[i][g] = *totals++;
        }
    }

    /// Lists the rows (time steps of centroids) by group, then by time step, then by centroid, so
    /// that the costs which one step of the recurrence reads are adjacent.
    void list_rows() {
        const std::int64_t multiple = is_narrow_ ? kLanes<Real> : kTileRows;
        n_rows_ = 0;
        const std::int64_t n_centroids =
            std::min(n_groups_ * kGroup, centroids_.n_centroids - first_centroid(0));
        offsets_.resize(n_centroids * centroids_.n_timesteps + multiple);
        for (std::int64_t group = 0; group < n_groups_; ++group) {
            for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
                for (std::int64_t g = 0; g < group_size(group); ++g) {
                    offsets_[n_rows_++] = centroids_.offset(first_centroid(group) + g, i);
                }
            }
        }
        for (; n_rows_ % multiple != 0; ++n_rows_) offsets_[n_rows_] = offsets_[n_rows_ - 1];
        if (is_narrow_) narrow_panels_.pack(rows());
    }

    RowView<Real> rows() const {
        return {centroids_.values, centroids_.weights, offsets_.data(), n_rows_,
                centroids_.n_features};
    }

    /// Aligns the next `size` frames and returns the position after them.
    Position align_chunk(const Position begin, std::int64_t size) {
        Position position = begin;
        for (std::int64_t j = 0; j < size; ++j, position = next(position)) {
            frames_[j] =
                sequences_.frames(position.sequence) + position.frame * sequences_.n_features;
        }
        // `advance` reads a whole register at the costs of any time step, the last one included.
        costs_.resize(size * n_rows_ + kGroup);
        costs_.fill(size * n_rows_, size * n_rows_ + kGroup, 0.0);
        if (is_narrow_) {
            narrow_panels_.compute(frames_, size, costs_.data(), worker_);
        } else {
            panels_.compute(rows(), frames_, size, costs_.data(), worker_);
        }
        const double* costs = costs_.data();
        for (std::int64_t group = 0; group < n_groups_; ++group) {
            position = begin;
            for (std::int64_t j = 0; j < size; ++j, position = next(position)) {
                advance(group, position.frame, costs + j * n_rows_);
                if (position.frame + 1 == sequences_.lengths[position.sequence]) {
                    finish_sequence(group, position.sequence);
                }
            }
            costs += group_size(group) * centroids_.n_timesteps;
        }
        return position;
    }

    /// Performs one step of the recurrence for all centroids of a group; `cheaper` resolves ties.
    /// Lanes without a centroid compute with arbitrary costs, and their totals are not used.
    void advance(std::int64_t group, std::int64_t frame, const double* costs) {
        const Lanes<double> infinity = Lanes<double>{} + std::numeric_limits<double>::infinity();
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t size = group_size(group);
        Lanes<double>* column = columns_.data() + group * n_timesteps;
        std::uint8_t* moves = stores_moves_ ? moves_.data() + group * moves_per_group_ +
                                                  2 * (frame - first_move_) * n_timesteps
                                            : nullptr;
        Lanes<double> along_centroid = infinity;
        Lanes<double> corner = infinity;
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            const Lanes<double> along_sequence = frame == 0 ? infinity : column[i];
            const Predecessors<Lanes<double>> predecessors{along_centroid, along_sequence, corner,
                                                           diagonal_};
            Lanes<double> total = predecessors.cheapest();
            if (moves) {
                const auto compare = [](const auto& a, const auto& b) { return less(a, b); };
                moves[2 * i] =
                    static_cast<std::uint8_t>(predecessors.comes_along_centroid(compare));
                moves[2 * i + 1] =
                    static_cast<std::uint8_t>(predecessors.comes_diagonally(compare));
            }
            if (frame == 0 && i == 0) total = Lanes<double>{};
            corner = along_sequence;
            along_centroid = total + load(costs + i * size);
            column[i] = along_centroid;
        }
    }

    void finish_sequence(std::int64_t group, std::int64_t sequence) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t pair = sequence * centroids_.n_centroids + first_centroid(group);
        for (std::int64_t g = 0; g < group_size(group); ++g) {
            distances_[pair + g] = columns_[(group + 1) * n_timesteps - 1][g];
        }
        if (!runs_ || in_sections_) return;
        Trail trails[kGroup];
        for (Trail& trail : trails) trail = last_cell(sequences_.lengths[sequence]);
        walk_back(group, sequence, trails);
    }

    Trail last_cell(std::int64_t n_frames) const {
        return {centroids_.n_timesteps - 1, n_frames - 1, n_frames - 1};
    }

    /// Follows the paths of a group as far as moves are stored. Returns whether all have ended.
    bool walk_back(std::int64_t group, std::int64_t sequence, Trail* trails) const {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        const std::int64_t pair = sequence * centroids_.n_centroids + first_centroid(group);
        const std::uint8_t* moves = moves_.data() + group * moves_per_group_;
        bool have_ended = true;
        for (std::int64_t g = 0; g < group_size(group); ++g) {
            Run* runs = runs_ + (pair + g) * n_timesteps;
            const auto is_set = [&](std::int64_t i, std::int64_t j, int which) {
                return (moves[2 * ((j - first_move_) * n_timesteps + i) + which] >> g) & 1;
            };
            const auto entry = [&](std::int64_t i, std::int64_t j) {
                while (j > 0 && j >= first_move_ && !(is_set(i, j, 0) || is_set(i, j, 1))) --j;
                return j;
            };
            const auto is_diagonal = [&](std::int64_t i, std::int64_t j) {
                return is_set(i, j, 1);
            };
            const auto write = [&](std::int64_t i, std::int64_t first, std::int64_t last) {
                runs[i] = {static_cast<std::int32_t>(first), static_cast<std::int32_t>(last)};
            };
            walk_back_to(first_move_, trails[g], entry, is_diagonal, write);
            have_ended = have_ended && trails[g].timestep < 0;
        }
        return have_ended;
    }

    Worker& worker_;
    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const bool diagonal_;
    const bool is_narrow_;
    double* const distances_;  // (n_sequences, n_centroids)
    Run* const runs_;          // (n_sequences, n_centroids, n_timesteps), or null if not wanted

    std::int64_t first_group_ = 0;
    std::int64_t n_groups_ = 0;
    std::int64_t n_rows_ = 0;
    std::int64_t moves_per_group_ = 0;
    std::int64_t first_move_ = 0;  // first frame whose moves are stored
    bool stores_moves_ = false;
    bool in_sections_ = false;
    const Real* frames_[kChunk];
    CostPanels<Real> panels_;
    NarrowPanels<Real> narrow_panels_;
    Scratch<std::int64_t> offsets_;   // (n_rows,)
    Scratch<double> costs_;           // (frames of the chunk, n_rows)
    Scratch<Lanes<double>> columns_;  // (n_groups, n_timesteps)
    Scratch<std::uint8_t> moves_;     // (n_groups, n_frames, n_timesteps, 2): one bit per lane for
                                      // moves along the centroid, one for diagonal moves
    Scratch<double> totals_;  // (n_sections, n_timesteps, centroids): columns before sections
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
