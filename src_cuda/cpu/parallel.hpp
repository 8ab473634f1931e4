// Threads of the CPU backend, compiled for the baseline instruction set only.
#pragma once

#include <cstdint>

namespace skdejavid {

struct Call;

/// The state of one thread during a call of `run_in_threads`.
class Worker {
 public:
    Worker(Call& call, bool is_caller) : call_(call), is_caller_(is_caller) {}

    /// Assigns the next task to `task`. Returns whether there is one for this thread.
    bool next(std::int64_t& task);

    /// Adds `work`, a number of terms of costs, to the work done since the last check for failures
    /// and interrupts, and checks for them from time to time. Long tasks must call it often.
    /// Throws if another thread of the call has failed, or if the call was interrupted.
    __attribute__((always_inline)) void checkpoint(double work) {
        work_ += work;
        if (work_ >= kWorkBetweenChecks) check();
    }

 private:
    static constexpr double kWorkBetweenChecks = 1e7;

    void check();

    Call& call_;
    const bool is_caller_;
    double work_ = 0.0;
};

/// The function that each thread of a call runs until no task is left. Tasks must write to disjoint
/// memory, so that the result does not depend on the thread that runs a task.
class Job {
 public:
    virtual ~Job();
    virtual void run(Worker& worker) const = 0;
};

/// Returns the number of threads, at most `n_threads`, that are useful for `work` terms of costs.
int worthwhile_threads(int n_threads, double work);

/// Runs `job` in up to `n_threads` threads, including the calling one, until all tasks are done.
/// Rethrows the first exception of any thread.
///
/// The other threads, called helpers, belong to one pool per process. A helper joins a call only
/// while fewer than `n_threads` threads of the pool are computing, so that concurrent calls share
/// the machine. After a fork the child process creates its own pool.
void run_in_threads(const Job& job, std::int64_t n_tasks, int n_threads);

}  // namespace skdejavid
