// Threads for the CPU backend. Nothing here is compiled for a special instruction set.
#pragma once

#include <cstdint>

namespace skdejavid {

struct Call;

/// A thread's part in a call of `run_in_threads`.
class Worker {
 public:
    Worker(Call& call, bool is_caller) : call_(call), is_caller_(is_caller) {}

    /// Whether there is another task for this thread; it is in `task` then.
    bool next(std::int64_t& task);

    /// To be called within long tasks, with the number of weighted differences since the last time.
    /// Throws if the call has failed or was interrupted meanwhile.
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

/// What a thread does until there is no other task. Tasks must write to disjoint places, so that
/// the result does not depend on which thread runs which.
class Job {
 public:
    virtual ~Job();
    virtual void run(Worker& worker) const = 0;
};

/// How many threads `work` weighted differences are worth, at most `n_threads`.
int worthwhile_threads(int n_threads, double work);

/// Runs `job` in up to `n_threads` threads, of which the caller's is one, until all tasks are done.
/// The first exception of any of them is rethrown here.
///
/// Helpers come from one pool for the whole process, and only as long as no more than `n_threads`
/// threads compute in it: calls from several threads at once share the machine. After a fork the
/// child has a pool of its own.
void run_in_threads(const Job& job, std::int64_t n_tasks, int n_threads);

}  // namespace skdejavid
