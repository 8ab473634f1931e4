// Value and gradient along given paths: the part of the work that grows with the length of paths.
//
// Features are cut into strips of a few registers. A strip of all centroids and of the sequences at
// hand stays in the L2 cache while every run of every pair is visited; without strips, centroids
// would be read from memory anew for every sequence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../align.hpp"
#include "lanes.hpp"
#include "scratch.hpp"

namespace skdejavid {
namespace SKDEJAVID_ISA {

// Registers in a strip: as many as leave room for all sums, so that runs are visited seldom.
constexpr int kStrip = kRegisters == 32 ? 8 : 2;

/// `kWidth` registers of consecutive features.
template <int kWidth, typename Real>
struct Strip {
    Lanes<Real> lanes[kWidth];

    /// The last strip may hold fewer features than registers have lanes: `rest` > 0 says how many.
    SKDEJAVID_INLINE void read(const Real* source, int rest) {
        if (kWidth == 1 && rest > 0) {
            lanes[0] = load_first(source, rest);
            return;
        }
#pragma GCC unroll 8
        for (int v = 0; v < kWidth; ++v) lanes[v] = load(source + v * kLanes<Real>);
    }
};

template <int kWidth>
struct Width {
    static constexpr int value = kWidth;
};

/// Strips of kStrip registers, and of one each at the end.
template <typename Real>
std::int64_t count_strips(std::int64_t n_features) {
    const std::int64_t n_registers = (n_features + kLanes<Real> - 1) / kLanes<Real>;
    const std::int64_t n_whole = n_features / (kStrip * kLanes<Real>);
    return n_whole + n_registers - n_whole * kStrip;
}

/// Calls `visit(Width, begin, rest)` for one strip.
template <typename Real, typename Visit>
SKDEJAVID_INLINE void visit_strip(std::int64_t strip, std::int64_t n_features, const Visit& visit) {
    constexpr std::int64_t kWhole = kStrip * kLanes<Real>;
    const std::int64_t n_whole = n_features / kWhole;
    if (strip < n_whole) return visit(Width<kStrip>{}, strip * kWhole, 0);
    const std::int64_t begin = n_whole * kWhole + (strip - n_whole) * kLanes<Real>;
    const std::int64_t n_left = n_features - begin;
    visit(Width<1>{}, begin, n_left < kLanes<Real> ? static_cast<int>(n_left) : 0);
}

template <typename Real, typename Visit>
SKDEJAVID_INLINE void for_each_strip(std::int64_t n_features, const Visit& visit) {
    const std::int64_t n_strips = count_strips<Real>(n_features);
    for (std::int64_t strip = 0; strip < n_strips; ++strip) {
        visit_strip<Real>(strip, n_features, visit);
    }
}

// Sums of so many terms are kept in the data's own type; then they go on in double.
constexpr std::int64_t kTermsPerSum = 32;

/// What one strip adds to the distance along one path.
template <int kWidth, typename Real>
double strip_distance(const CentroidView<Real>& centroids, std::int64_t centroid,
                      const Real* frames, const Run* runs, std::int64_t begin, int rest) {
    double total = 0.0;
    Lanes<Real> sums[kWidth] = {};
    std::int64_t n_terms = 0;
    const auto flush = [&] {
        Lanes<Real> all = sums[0];
        for (int v = 1; v < kWidth; ++v) all += sums[v];
        total += sum(all);
        for (int v = 0; v < kWidth; ++v) sums[v] = Lanes<Real>{};
        n_terms = 0;
    };
    for (std::int64_t i = 0; i < centroids.n_timesteps; ++i) {
        const std::int64_t offset = centroids.offset(centroid, i) + begin;
        Strip<kWidth, Real> values, weights;
        values.read(centroids.values + offset, rest);
        weights.read(centroids.weights + offset, rest);
        for (std::int64_t j = runs[i].first; j <= runs[i].last; ++j) {
            Strip<kWidth, Real> frame;
            frame.read(frames + j * centroids.n_features + begin, rest);
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                sums[v] += weights.lanes[v] * magnitude<Real>(values.lanes[v] - frame.lanes[v]);
            }
            if (++n_terms == kTermsPerSum) flush();
        }
    }
    flush();
    return total;
}

/// Fills in `distances` (n_sequences, n_centroids) of a range of sequences and of centroids.
template <typename Real>
void fill_distances_along(const Problem<Real>& problem, const Run* runs,
                          std::int64_t first_sequence, std::int64_t last_sequence,
                          std::int64_t first_centroid, std::int64_t last_centroid,
                          double* distances) {
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_columns = last_centroid - first_centroid;
    // What rounding has taken from each distance: there are many strips to add up.
    Scratch<double> lost((last_sequence - first_sequence) * n_columns);
    lost.fill((last_sequence - first_sequence) * n_columns, 0.0);
    const auto for_each_pair = [&](const auto& visit) {
        double* correction = lost.data();
        for (std::int64_t s = first_sequence; s < last_sequence; ++s) {
            for (std::int64_t c = first_centroid; c < last_centroid; ++c) {
                visit(s, c, distances[s * centroids.n_centroids + c], *correction++);
            }
        }
    };
    for_each_pair([](std::int64_t, std::int64_t, double& total, double&) { total = 0.0; });
    for_each_strip<Real>(centroids.n_features, [&](auto width, std::int64_t begin, int rest) {
        for_each_pair([&](std::int64_t s, std::int64_t c, double& total, double& correction) {
            const Run* pair_runs = runs + (s * centroids.n_centroids + c) * centroids.n_timesteps;
            const double term = strip_distance<decltype(width)::value>(
                centroids, c, problem.sequences.frames(s), pair_runs, begin, rest);
            const double sum = total + term;
            const double added = sum - total;
            correction += (total - (sum - added)) + (term - added);
            total = sum;
        });
    });
    for_each_pair([](std::int64_t, std::int64_t, double& total, double& correction) {
        // After an overflow the correction is not a number.
        if (correction == correction) total += correction;
    });
}

/// Calls `visit(coefficient, frames, run)` for every sequence, in their order, whose coefficient
/// with the centroid is not 0. The fixed order makes sums over sequences reproducible.
template <typename Real, typename Visit>
void for_each_run(const Problem<Real>& problem, const Run* runs, const double* coefficients,
                  std::int64_t centroid, std::int64_t timestep, const Visit& visit) {
    for (std::int64_t s = 0; s < problem.sequences.n_sequences; ++s) {
        const std::int64_t pair = s * problem.centroids.n_centroids + centroid;
        if (coefficients[pair] == 0.0) continue;
        visit(coefficients[pair], problem.sequences.frames(s),
              runs[pair * problem.centroids.n_timesteps + timestep]);
    }
}

/// One strip of dL/dC and dL/dU of one centroid frame: sums over all sequences, in their order.
template <int kWidth, typename Real>
void strip_gradients(const Problem<Real>& problem, const Run* runs, const double* grad_distances,
                     std::int64_t centroid, std::int64_t timestep, std::int64_t begin, int rest,
                     Real* grad_centroid, Real* grad_weight) {
    using Bits = typename LanesOf<Real>::bits;
    constexpr int kSize = kWidth * kLanes<Real>;
    const CentroidView<Real>& centroids = problem.centroids;
    const std::int64_t n_features = centroids.n_features;
    const std::int64_t offset = centroids.offset(centroid, timestep) + begin;
    Strip<kWidth, Real> values;
    values.read(centroids.values + offset, rest);
    const Bits sign_bit = (Bits)(-Lanes<Real>{});
    double total_signs[kSize] = {};
    double total_differences[kSize] = {};
    Lanes<Real> signs[kWidth] = {};
    Lanes<Real> differences[kWidth] = {};
    std::int64_t n_terms = 0;
    const auto flush = [&] {
        Real numbers[2][kSize];
        std::memcpy(numbers[0], signs, sizeof signs);
        std::memcpy(numbers[1], differences, sizeof differences);
        for (int k = 0; k < kSize; ++k) total_signs[k] += numbers[0][k];
        for (int k = 0; k < kSize; ++k) total_differences[k] += numbers[1][k];
        for (int v = 0; v < kWidth; ++v) signs[v] = differences[v] = Lanes<Real>{};
        n_terms = 0;
    };
    const auto add_run = [&](double grad_distance, const Real* frames, Run run) {
        const Lanes<Real> grad = Lanes<Real>{} + static_cast<Real>(grad_distance);
        const Real* frame = frames + run.first * n_features + begin;
        for (std::int64_t j = run.first; j <= run.last; ++j, frame += n_features) {
            Strip<kWidth, Real> strip;
            strip.read(frame, rest);
#pragma GCC unroll 8
            for (int v = 0; v < kWidth; ++v) {
                const Lanes<Real> difference = values.lanes[v] - strip.lanes[v];
                const Lanes<Real> signed_grad =
                    (Lanes<Real>)(((Bits)difference & sign_bit) ^ (Bits)grad);
                differences[v] += grad * magnitude<Real>(difference);
                // The derivative of the magnitude is 0 at 0.
                signs[v] += (Lanes<Real>)((Bits)signed_grad & (Bits)(difference != Lanes<Real>{}));
            }
            if (++n_terms == kTermsPerSum) flush();
        }
    };
    for_each_run(problem, runs, grad_distances, centroid, timestep, add_run);
    flush();
    const int size = rest > 0 ? std::min(rest, kSize) : kSize;
    for (int k = 0; k < size; ++k) {
        grad_centroid[k] = static_cast<Real>(centroids.weights[offset + k] * total_signs[k]);
        grad_weight[k] = static_cast<Real>(total_differences[k]);
    }
}

}  // namespace SKDEJAVID_ISA
}  // namespace skdejavid
