// Derivatives of distances along given paths by centroids and weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../align.hpp"
#include "../cost_term.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "path_strips.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Maximum number of registers in a strip: half as many as in path_sums.hpp where registers are few,
// because a gradient has two sums for each.
constexpr int kGradientStrip = kRegisters == 32 ? 8 : 4;

// Number of terms that a lane sums in the data's own type before the sum continues in double.
constexpr std::int64_t kTermsPerGradient = 256;

// Maximum number of frames that are packed at once, which bounds the memory.
constexpr std::int64_t kFramesPacked = 1664;

/// One strip of sums over all cells of one time step: grad_distance times slope and deviation (see
/// cost_term.hpp). Long sums continue in double.
template <int kWidth, typename Real>
struct StripGradients {
    Lanes<Real> slopes[kWidth];
    Lanes<Real> deviations[kWidth];

    void sum(const Lanes<Real>* centroid, Walk<kWidth, Real> walk, std::int64_t n_cells) {
        add_cells(centroid, walk, std::min(n_cells, kTermsPerGradient));
        if (n_cells <= kTermsPerGradient) return;
        constexpr int kSize = kWidth * kLanes<Real>;
        alignas(kRegisterBytes) double totals[2][kSize] = {};
        add_to(totals);
        for (std::int64_t done = kTermsPerGradient; done < n_cells; done += kTermsPerGradient) {
            add_cells(centroid, walk, std::min(n_cells - done, kTermsPerGradient));
            add_to(totals);
        }
        alignas(kRegisterBytes) Real numbers[2][kSize];
        for (int k = 0; k < kSize; ++k) numbers[0][k] = static_cast<Real>(totals[0][k]);
        for (int k = 0; k < kSize; ++k) numbers[1][k] = static_cast<Real>(totals[1][k]);
        std::memcpy(slopes, numbers[0], sizeof slopes);
        std::memcpy(deviations, numbers[1], sizeof deviations);
    }

 private:
    void add_cells(const Lanes<Real>* centroid, Walk<kWidth, Real>& walk, std::int64_t n_cells) {
        Lanes<Real> values[kWidth];
        for (int v = 0; v < kWidth; ++v) values[v] = centroid[v];
        Lanes<Real> sums[2][kWidth] = {};
        for (std::int64_t cell = 0; cell < n_cells; ++cell) {
            const Lanes<Real> grad = walk.visit->coefficient - Lanes<Real>{};
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                add_derivatives(grad, values[v], walk.frame[v], sums[0][v], sums[1][v]);
            }
            walk.advance();
        }
        std::memcpy(slopes, sums[0], sizeof slopes);
        std::memcpy(deviations, sums[1], sizeof deviations);
    }

    void add_to(double (*totals)[kWidth * kLanes<Real>]) const {
        alignas(kRegisterBytes) Real numbers[2][kWidth * kLanes<Real>];
        std::memcpy(numbers[0], slopes, sizeof slopes);
        std::memcpy(numbers[1], deviations, sizeof deviations);
        for (int k = 0; k < kWidth * kLanes<Real>; ++k) totals[0][k] += numbers[0][k];
        for (int k = 0; k < kWidth * kLanes<Real>; ++k) totals[1][k] += numbers[1][k];
    }
};

/// Computes strips of the gradients by centroids and weights; owns the packed copies.
template <typename Real>
class ParameterGradients {
 public:
    ParameterGradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                       Real* grad_centroids, Real* grad_weights, Worker& worker)
        : worker_(worker),
          sequences_(problem.sequences),
          centroids_(problem.centroids),
          runs_(runs),
          grad_distances_(grad_distances),
          grad_centroids_(grad_centroids),
          grad_weights_(grad_weights),
          n_cells_(centroids_.n_timesteps) {}

    /// Computes one strip, which begins at feature `begin`, for a range of centroids. Sequences are
    /// packed in batches that do not depend on the number of threads, so that neither do the sums.
    template <int kWidth>
    void compute(std::int64_t begin, std::int64_t first_centroid, std::int64_t last_centroid) {
        std::int64_t last = 0;
        do {
            const std::int64_t first = last;
            std::int64_t n_frames = 0;
            while (last < sequences_.n_sequences &&
                   (last == first || n_frames + sequences_.lengths[last] <= kFramesPacked)) {
                n_frames += sequences_.lengths[last++];
            }
            frames_.template pack_strip<kWidth>(sequences_, first, last, begin);
            visits_.resize(centroids_.n_timesteps * (last - first + 1));
            for (std::int64_t c = first_centroid; c < last_centroid; ++c) {
                list_visits<kWidth>(c, first, last);
                for (std::int64_t i = 0; i < centroids_.n_timesteps; ++i) {
                    add_row<kWidth>(begin, c, i, visits_.data() + i * (last - first + 1),
                                    first == 0);
                }
            }
        } while (last < sequences_.n_sequences);
    }

 private:
    /// Lists, for each time step of centroid `c`, the visits of all sequences and one empty entry.
    template <int kWidth>
    void list_visits(std::int64_t c, std::int64_t first, std::int64_t last) {
        const std::int64_t n_timesteps = centroids_.n_timesteps;
        n_cells_.fill(0, n_timesteps, 0);
        std::int64_t n_visits = 0;
        for (std::int64_t s = first; s < last; ++s) {
            const std::int64_t pair = s * centroids_.n_centroids + c;
            const Real grad = static_cast<Real>(grad_distances_[pair]);
            if (grad == Real(0)) continue;
            const Run* runs = runs_ + pair * n_timesteps;
            for (std::int64_t i = 0; i < n_timesteps; ++i) {
                visits_[i * (last - first + 1) + n_visits] =
                    frames_.template visit<kWidth>(s, runs[i], grad);
                n_cells_[i] += runs[i].last - runs[i].first + 1;
            }
            ++n_visits;
        }
        for (std::int64_t i = 0; i < n_timesteps; ++i) {
            visits_[i * (last - first + 1) + n_visits] = {};
        }
    }

    template <int kWidth>
    void add_row(std::int64_t begin, std::int64_t c, std::int64_t i, const Visit<Real>* visits,
                 bool is_first) {
        const std::int64_t n_cells = n_cells_[i];
        worker_.checkpoint(static_cast<double>(n_cells * kWidth * kLanes<Real>));
        const std::int64_t n =
            std::min<std::int64_t>(kWidth * kLanes<Real>, centroids_.n_features - begin);
        const std::int64_t offset = centroids_.offset(c, i) + begin;
        Lanes<Real> centroid[kWidth], weights[kWidth];
        read_row<kWidth>(centroids_.values + offset, n, centroid);
        read_row<kWidth>(centroids_.weights + offset, n, weights);
        StripGradients<kWidth, Real> gradients;
        gradients.sum(centroid, Walk<kWidth, Real>(visits), n_cells);
        for (int v = 0; v < kWidth; ++v) gradients.slopes[v] *= weights[v];
        add_to_row<kWidth>(gradients.slopes, n, is_first, grad_centroids_ + offset);
        add_to_row<kWidth>(gradients.deviations, n, is_first, grad_weights_ + offset);
    }

    template <int kWidth>
    static void read_row(const Real* source, std::int64_t n, Lanes<Real>* row) {
        if (n == kWidth * kLanes<Real>) {
            for (int v = 0; v < kWidth; ++v) row[v] = load(source + v * kLanes<Real>);
        } else {
            for (int v = 0; v < kWidth; ++v) row[v] = Lanes<Real>{};
            pack(source, n, row, 1, source);
        }
    }

    template <int kWidth>
    static void add_to_row(Lanes<Real>* terms, std::int64_t n, bool is_first, Real* target) {
        if (!is_first) {
            Lanes<Real> before[kWidth];
            read_row<kWidth>(target, n, before);
            for (int v = 0; v < kWidth; ++v) terms[v] += before[v];
        }
        if (n == kWidth * kLanes<Real>) {
            std::memcpy(target, terms, kWidth * sizeof *terms);
        } else {
            std::memcpy(target, terms, static_cast<std::size_t>(n) * sizeof(Real));
        }
    }

    Worker& worker_;
    const SequenceView<Real>& sequences_;
    const CentroidView<Real>& centroids_;
    const Run* const runs_;
    const double* const grad_distances_;  // (n_sequences, n_centroids)
    Real* const grad_centroids_;
    Real* const grad_weights_;

    PackedFrames<Real> frames_;
    Scratch<Visit<Real>> visits_;    // (n_timesteps, n_sequences + 1)
    Scratch<std::int64_t> n_cells_;  // (n_timesteps,)
};

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
