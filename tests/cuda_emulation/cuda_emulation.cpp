// The scheduler of emulated blocks.
#include "cuda_emulation.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

cuda_emulation::Index threadIdx, blockIdx, gridDim;

namespace cuda_emulation {
namespace {

constexpr int kWarp = 32;
constexpr std::size_t kStackBytes = 128 * 1024;

struct Copy {
    void* target;
    const void* source;
    std::size_t n_bytes;
};

/// A thread of a block.
struct Thread {
    std::vector<unsigned char> stack;
    ucontext_t context;
    jmp_buf here;
    bool has_begun = false;
    bool is_done = true;
    Meeting meeting = Meeting::none;
    std::uint64_t values[2];  // shared in the last two meetings of the warp
    unsigned n_meetings = 0;
    std::vector<Copy> copies;
};

std::vector<std::unique_ptr<Thread>> threads;
int n_threads_of_block;
int current;
jmp_buf scheduler;
ucontext_t scheduler_context;
const std::function<void()>* kernel;
std::string fault;
unsigned order;
std::vector<unsigned char> memory;

void leave() {
    if (_setjmp(threads[current]->here) == 0) _longjmp(scheduler, 1);
}

/// The main function of a coroutine, which runs one kernel after another.
void thread_main() {
    for (;;) {
        try {
            (*kernel)();
        } catch (const std::exception& error) {
            fault = error.what();
        }
        threads[current]->is_done = true;
        leave();
    }
}

/// Runs a thread until it waits or is done.
void resume(int index) {
    current = index;
    threadIdx = {static_cast<unsigned>(index), 0};
    Thread& thread = *threads[index];
    if (_setjmp(scheduler) != 0) return;
    if (thread.has_begun) _longjmp(thread.here, 1);
    thread.has_begun = true;
    getcontext(&thread.context);
    thread.stack.resize(kStackBytes);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = &scheduler_context;
    makecontext(&thread.context, thread_main, 0);
    setcontext(&thread.context);
}

std::vector<std::int64_t> ordered(std::int64_t n, std::uint64_t seed) {
    std::vector<std::int64_t> numbers(n);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (order == 1) std::reverse(numbers.begin(), numbers.end());
    if (order > 1) std::shuffle(numbers.begin(), numbers.end(), std::mt19937_64(order + seed));
    return numbers;
}

bool is_warp_meeting(Meeting meeting) {
    return meeting != Meeting::none && meeting != Meeting::block;
}

/// Resumes the threads of every complete meeting. Returns whether there were any.
bool end_meetings() {
    bool has_ended = false;
    for (int first = 0; first < n_threads_of_block; first += kWarp) {
        const Meeting meeting = threads[first]->meeting;
        if (!is_warp_meeting(meeting)) continue;
        const bool is_complete = std::all_of(
            &threads[first], &threads[first] + kWarp,
            [&](const auto& thread) { return !thread->is_done && thread->meeting == meeting; });
        if (!is_complete) continue;
        for (int k = first; k < first + kWarp; ++k) {
            threads[k]->meeting = Meeting::none;
            ++threads[k]->n_meetings;
        }
        has_ended = true;
    }
    if (has_ended) return true;
    bool is_complete = true;
    bool any_thread_waits = false;
    for (int k = 0; k < n_threads_of_block; ++k) {
        if (threads[k]->is_done) continue;
        any_thread_waits = true;
        is_complete = is_complete && threads[k]->meeting == Meeting::block;
    }
    if (!any_thread_waits || !is_complete) return false;
    for (int k = 0; k < n_threads_of_block; ++k) threads[k]->meeting = Meeting::none;
    return true;
}

void run_block(std::uint64_t seed) {
    std::fill(memory.begin(), memory.end(), 0xff);
    for (int k = 0; k < n_threads_of_block; ++k) {
        threads[k]->is_done = false;
        threads[k]->meeting = Meeting::none;
        threads[k]->n_meetings = 0;
        threads[k]->copies.clear();
    }
    const std::vector<std::int64_t> sequence = ordered(n_threads_of_block, seed);
    do {
        for (const std::int64_t k : sequence) {
            if (threads[k]->is_done || threads[k]->meeting != Meeting::none) continue;
            resume(static_cast<int>(k));
            if (!fault.empty()) return;
        }
    } while (end_meetings());
    for (int k = 0; k < n_threads_of_block; ++k) {
        if (!threads[k]->is_done) fault = "threads wait for each other forever";
        if (!threads[k]->copies.empty()) fault = "a thread ended without waiting for its copies";
    }
}

}  // namespace

void meet(Meeting meeting, unsigned mask) { meet_with(meeting, mask, 0); }

void meet_with(Meeting meeting, unsigned mask, std::uint64_t value) {
    if (mask != ~0u) throw std::logic_error("the mask does not include all lanes");
    Thread& thread = *threads[current];
    thread.meeting = meeting;
    // Two slots in turn: a lane may share the next value before all lanes have read this one.
    if (meeting != Meeting::block) thread.values[thread.n_meetings & 1] = value;
    leave();
}

std::uint64_t value_of(int lane) {
    const Thread& thread = *threads[current / kWarp * kWarp + lane];
    return thread.values[(threads[current]->n_meetings + 1) & 1];
}

int lane() { return current % kWarp; }

void check_aligned(const void* address, std::size_t n_bytes) {
    if (reinterpret_cast<std::uintptr_t>(address) % n_bytes != 0) {
        throw std::logic_error("an access is misaligned");
    }
}

void copy_later(void* target, const void* source, std::size_t n_bytes) {
    check_aligned(target, n_bytes);
    check_aligned(source, n_bytes);
    const auto* first = static_cast<unsigned char*>(target);
    if (first < memory.data() || first + n_bytes > memory.data() + memory.size()) {
        throw std::logic_error("a copy goes beyond shared memory");
    }
    threads[current]->copies.push_back({target, source, n_bytes});
}

void make_copies() {
    for (const Copy& copy : threads[current]->copies) {
        if (copy.source == nullptr) {
            std::memset(copy.target, 0, copy.n_bytes);
        } else {
            std::memcpy(copy.target, copy.source, copy.n_bytes);
        }
    }
    threads[current]->copies.clear();
}

unsigned char* shared_memory() { return memory.data(); }

void set_order(unsigned wanted) { order = wanted; }

void run(const std::function<void()>& body, std::int64_t x, std::int64_t y, int n_threads,
         std::size_t n_bytes) {
    if (n_threads % kWarp != 0 || n_threads > 1024)
        throw std::logic_error("the block size is not a multiple of 32, at most 1024");
    while (static_cast<int>(threads.size()) < n_threads) {
        threads.push_back(std::make_unique<Thread>());
    }
    kernel = &body;
    n_threads_of_block = n_threads;
    std::vector<unsigned char>(n_bytes).swap(memory);
    gridDim = {static_cast<unsigned>(x), static_cast<unsigned>(y)};
    fault.clear();
    for (const std::int64_t block : ordered(x * y, 0)) {
        blockIdx = {static_cast<unsigned>(block % x), static_cast<unsigned>(block / x)};
        run_block(static_cast<std::uint64_t>(block));
        if (!fault.empty()) {
            // Waiting coroutines cannot be reused.
            threads.clear();
            throw std::runtime_error("in an emulated kernel: " + fault);
        }
    }
}

}  // namespace cuda_emulation
