#include "kernels/cpu/ThreadPool.h"

#include <atomic>
#include <cassert>
#include <omp.h>
#include <thread>
#include <vector>

namespace switchyard::kernels::cpu {
namespace {

/// Turns of a thread that waits before it blocks: some tens of microseconds, longer than the serial
/// work between two loops, far shorter than a wake-up is dear.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// A ticket is the number of a loop and the next index of it, in one word: a thread that claims an
/// index knows by it that the loop which it read is still the current one.
constexpr int kIndexBits = 40;
constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;

} // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  /// Counts loops; workers block on it.
  alignas(64) std::atomic<int32_t> epoch{0};
  std::atomic<bool> stop{false};
  std::atomic<Invoke> invoke{nullptr};
  std::atomic<const void *> body{nullptr};
  std::atomic<int64_t> count{0};
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> done{0};
  std::atomic<int32_t> started{0};

  /// Runs indices of the current loop until none is left. A worker that comes late, even after the
  /// loop's end, finds none.
  void work(int thread) {
    int64_t finished = 0;
    uint64_t current = ticket.load(std::memory_order_acquire);
    for (;;) {
      Invoke function = invoke.load(std::memory_order_relaxed);
      const void *state = body.load(std::memory_order_relaxed);
      int64_t bound = count.load(std::memory_order_relaxed);
      auto index = static_cast<int64_t>(current & kIndexMask);
      if (index >= bound)
        break;
      if (!ticket.compare_exchange_weak(current, current + 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
        continue;
      function(state, index, thread);
      ++finished;
      current = ticket.load(std::memory_order_acquire);
    }
    if (finished == 0)
      return;
    int64_t total = count.load(std::memory_order_relaxed);
    if (done.fetch_add(finished, std::memory_order_acq_rel) + finished == total)
      done.notify_one();
  }

  void workerLoop(int thread) {
    omp_set_num_threads(1); // allocates a thread's OpenMP settings, which a step must not
    started.fetch_add(1, std::memory_order_release);
    started.notify_one();
    int32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; ++spin)
        pause();
      epoch.wait(seen, std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed))
        return;
      seen = epoch.load(std::memory_order_acquire);
      work(thread);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  assert(threads >= 1);
  for (int thread = 1; thread < threads; ++thread)
    state_->workers.emplace_back([state = state_.get(), thread] { state->workerLoop(thread); });
  for (int32_t started; (started = state_->started.load(std::memory_order_acquire)) < threads - 1;)
    state_->started.wait(started, std::memory_order_acquire);
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_relaxed);
  state_->epoch.fetch_add(1, std::memory_order_release);
  state_->epoch.notify_all();
  for (std::thread &worker : state_->workers)
    worker.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::run(int64_t count, Invoke invoke, const void *state) {
  State &pool = *state_;
  if (pool.workers.empty() || count <= 1) {
    for (int64_t index = 0; index < count; ++index)
      invoke(state, index, 0);
    return;
  }
  assert(count <= static_cast<int64_t>(kIndexMask));
  // The exchange closes the ticket first: a late worker that reads the new count with the old
  // ticket must fail to claim.
  uint64_t loop = (pool.ticket.exchange(kIndexMask, std::memory_order_acq_rel) >> kIndexBits) + 1;
  pool.done.store(0, std::memory_order_relaxed);
  pool.invoke.store(invoke, std::memory_order_relaxed);
  pool.body.store(state, std::memory_order_relaxed);
  pool.count.store(count, std::memory_order_relaxed);
  pool.ticket.store(loop << kIndexBits, std::memory_order_release);
  pool.epoch.fetch_add(1, std::memory_order_release);
  pool.epoch.notify_all();

  pool.work(0);
  for (int spin = 0; spin < kSpins && pool.done.load(std::memory_order_acquire) != count; ++spin)
    pause();
  for (int64_t done; (done = pool.done.load(std::memory_order_acquire)) != count;)
    pool.done.wait(done, std::memory_order_acquire);
}

} // namespace switchyard::kernels::cpu
