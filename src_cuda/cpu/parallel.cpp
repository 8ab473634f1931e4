// The pool of threads, and interrupts of native calls.
#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "../align.hpp"

namespace skdejavid {

namespace {

using Clock = std::chrono::steady_clock;

// Minimum number of terms of costs per thread. Computing them takes several times as long as waking
// up a helper, and little time is lost if a busy machine does not run the helper at once.
constexpr double kMinimumWorkPerThread = 1e6;

constexpr std::chrono::milliseconds kBetweenInterruptChecks{50};

std::atomic<void (*)()> interrupt_check{nullptr};

void check_for_interrupt() {
    const auto check = interrupt_check.load(std::memory_order_relaxed);
    if (check != nullptr) check();
}

/// Exception that ends the tasks of a thread after another thread of the call has failed.
struct Canceled {};

}  // namespace

struct Call {
    Call(const Job& job, std::int64_t n_tasks, int n_threads)
        : job(job), n_tasks(n_tasks), n_threads(n_threads) {}

    bool has_tasks() const { return next_task.load() < n_tasks; }

    const Job& job;
    const std::int64_t n_tasks;
    const int n_threads;
    std::atomic<std::int64_t> next_task{0};
    std::atomic<bool> is_canceled{false};
    Clock::time_point last_interrupt_check = Clock::now();  // used by the calling thread only

    // Guarded by the mutex of the pool.
    int n_helpers = 0;
    std::exception_ptr failure;
    std::condition_variable helpers_left;
};

namespace {

class Pool {
 public:
    void run(Call& call) {
        enter(call);
        work_on(call, true);
        leave(call);
        if (call.failure) std::rethrow_exception(call.failure);
    }

    bool is_crowded(const Call& call) const { return n_busy_.load() > call.n_threads; }

 private:
    void enter(Call& call) {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++n_busy_;
        const std::int64_t n_wanted = std::min<std::int64_t>(call.n_threads, call.n_tasks) - 1;
        if (n_wanted <= 0) return;
        calls_.push_back(&call);
        while (n_helpers_ < n_wanted && start_helper()) ++n_helpers_;
        idle_.notify_all();
    }

    void leave(Call& call) {
        // A signal handler forked during the call: the child process has no helpers.
        if (this != current()) return;
        std::unique_lock<std::mutex> lock(mutex_);
        calls_.remove(&call);
        while (!call.helpers_left.wait_for(lock, kBetweenInterruptChecks,
                                           [&] { return call.n_helpers == 0; })) {
            lock.unlock();
            try {
                check_for_interrupt();
            } catch (...) {
                fail(call);
            }
            lock.lock();
        }
        --n_busy_;
        if (!calls_.empty()) idle_.notify_all();  // a helper may join another call now
    }

    /// Starts a thread. Returns false if the system has no thread or memory left for it; the
    /// running threads then do all the tasks.
    bool start_helper() {
        try {
            std::thread([this] { help(); }).detach();
            return true;
        } catch (...) {
            return false;
        }
    }

    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Call* call = nullptr;
            idle_.wait(lock, [&] { return (call = call_with_room()) != nullptr; });
            ++n_busy_;
            ++call->n_helpers;
            lock.unlock();
            work_on(*call, false);
            lock.lock();
            --n_busy_;
            if (--call->n_helpers == 0) call->helpers_left.notify_all();
        }
    }

    Call* call_with_room() const {
        for (Call* call : calls_) {
            if (call->has_tasks() && n_busy_.load() < call->n_threads) return call;
        }
        return nullptr;
    }

    void work_on(Call& call, bool is_caller) {
        Worker worker(call, is_caller);
        try {
            call.job.run(worker);
        } catch (const Canceled&) {
        } catch (...) {
            fail(call);
        }
    }

    /// Cancels the call and stores the current exception if it is the first one.
    void fail(Call& call) {
        call.is_canceled.store(true);
        call.next_task.store(call.n_tasks);
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!call.failure) call.failure = std::current_exception();
    }

    static Pool* current();

    std::mutex mutex_;
    std::condition_variable idle_;  // idle helpers wait for it
    std::list<Call*> calls_;        // calls that helpers may join
    std::atomic<int> n_busy_{0};    // number of threads that are computing
    int n_helpers_ = 0;
};

// Never destroyed: idle helpers wait in it until the process ends.
Pool* the_pool = nullptr;

void create_pool() { the_pool = new Pool; }

Pool* Pool::current() { return the_pool; }

/// Returns the pool of this process. A fork copies no threads and possibly a locked mutex, so a
/// child process creates a new pool.
Pool& pool() {
    static const bool is_created = [] {
        create_pool();
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, create_pool);
#endif
        return true;
    }();
    static_cast<void>(is_created);
    return *the_pool;
}

}  // namespace

bool Worker::next(std::int64_t& task) {
    check();
    if (!is_caller_ && pool().is_crowded(call_)) return false;
    task = call_.next_task.fetch_add(1);
    return task < call_.n_tasks;
}

void Worker::check() {
    work_ = 0.0;
    if (call_.is_canceled.load(std::memory_order_relaxed)) throw Canceled{};
    if (!is_caller_) return;
    if (Clock::now() - call_.last_interrupt_check < kBetweenInterruptChecks) return;
    check_for_interrupt();
    call_.last_interrupt_check = Clock::now();
}

Job::~Job() = default;

int worthwhile_threads(int n_threads, double work) {
    const double worthwhile = std::max(1.0, work / kMinimumWorkPerThread);
    return static_cast<int>(std::min<double>(n_threads, worthwhile));
}

void run_in_threads(const Job& job, std::int64_t n_tasks, int n_threads) {
    Call call(job, n_tasks, n_threads);
    pool().run(call);
}

void set_interrupt_check(void (*check)()) { interrupt_check.store(check); }

}  // namespace skdejavid
