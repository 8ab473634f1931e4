#include "parallel.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace skdejavid {

namespace {

// A thread is only started for this many weighted differences or more. Computing them takes several
// times as long as starting it, and little is lost where the machine is too busy to run it at once.
constexpr double kMinimumWorkPerThread = 1e6;

}  // namespace

bool TaskQueue::next(std::int64_t& task) {
    task = next_.fetch_add(1);
    return task < n_tasks_;
}

void TaskQueue::close() { next_.store(n_tasks_); }

Job::~Job() = default;

int worthwhile_threads(int n_threads, double work) {
    const double worthwhile = std::max(1.0, work / kMinimumWorkPerThread);
    return static_cast<int>(std::min<double>(n_threads, worthwhile));
}

void run_in_threads(const Job& job, std::int64_t n_tasks, int n_threads) {
    TaskQueue tasks(n_tasks);
    std::exception_ptr failure;
    std::mutex failure_mutex;

    const auto work_until_done = [&] {
        try {
            job.run(tasks);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failure_mutex);
            if (!failure) failure = std::current_exception();
            tasks.close();
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
