// Threads for the CPU backend. Nothing here is compiled for a special instruction set.
#pragma once

#include <atomic>
#include <cstdint>

namespace skdejavid {

/// Numbers of tasks, each handed out once.
class TaskQueue {
 public:
    explicit TaskQueue(std::int64_t n_tasks) : n_tasks_(n_tasks) {}

    /// Whether there was another task; it is in `task` then.
    bool next(std::int64_t& task);

    /// Hand out no more.
    void close();

 private:
    const std::int64_t n_tasks_;
    std::atomic<std::int64_t> next_{0};
};

/// What a thread does until the queue is empty. Tasks must write to disjoint places, so that the
/// result does not depend on which thread runs which.
class Job {
 public:
    virtual ~Job();
    virtual void run(TaskQueue& tasks) const = 0;
};

/// How many threads `work` weighted differences are worth, at most `n_threads`.
int worthwhile_threads(int n_threads, double work);

/// Runs `job` in up to `n_threads` threads, of which the caller's is one, until all tasks are done.
/// The first exception of any of them is rethrown here.
void run_in_threads(const Job& job, std::int64_t n_tasks, int n_threads);

}  // namespace skdejavid
