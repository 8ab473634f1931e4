// Threads for the CPU backend.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace skdejavid {

/// A thread is only started for this many weighted differences or more. Computing them takes
/// several times as long as starting it, and little is lost where the machine is too busy to run it
/// at once.
constexpr double kMinimumWorkPerThread = 1e6;

/// How many threads `work` weighted differences are worth, at most `n_threads`.
inline int worthwhile_threads(int n_threads, double work) {
    const double worthwhile = std::max(1.0, work / kMinimumWorkPerThread);
    return static_cast<int>(std::min<double>(n_threads, worthwhile));
}

/// Call `make_worker()` once per thread and the worker it returns with every task number below
/// `n_tasks`, each exactly once. Tasks must write to disjoint places, so that the result does not
/// depend on which thread runs which. The first exception of any worker is rethrown here.
template <typename MakeWorker>
void parallel_for(std::int64_t n_tasks, int n_threads, const MakeWorker& make_worker) {
    std::atomic<std::int64_t> next_task{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;

    const auto work_until_done = [&] {
        try {
            auto worker = make_worker();
            for (std::int64_t task; (task = next_task.fetch_add(1)) < n_tasks;) worker(task);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failure_mutex);
            if (!failure) failure = std::current_exception();
            next_task.store(n_tasks);
        }
    };

    std::vector<std::thread> helpers;
    const std::int64_t n_helpers = std::min<std::int64_t>(n_threads, n_tasks) - 1;
    helpers.reserve(static_cast<std::size_t>(std::max<std::int64_t>(n_helpers, 0)));
    for (std::int64_t i = 0; i < n_helpers; ++i) {
        try {
            helpers.emplace_back(work_until_done);
        } catch (...) {
            break;  // no thread or memory left for it: those that run do all the tasks
        }
    }
    work_until_done();
    for (std::thread& helper : helpers) helper.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace skdejavid
