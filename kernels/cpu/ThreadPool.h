// The worker threads of one rank. No allocation and no locks held while work runs.
#pragma once

#include <cstdint>
#include <memory>

namespace switchyard::kernels::cpu {

/// Runs loops over a fixed set of threads. Which thread runs which index never changes a result:
/// callers give each index its own output and reduce over indices in order.
class ThreadPool {
public:
  /// `threads` >= 1 counts the calling thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const;

  /// Calls body(index, thread) for every index in [0, count), thread in [0, threads()), and returns
  /// when all are done. Indices are handed out in order. Not reentrant; `body` must not throw.
  template <typename Body>
  void parallelFor(int64_t count, const Body &body) {
    run(
        count,
        [](const void *state, int64_t index, int thread) {
          (*static_cast<const Body *>(state))(index, thread);
        },
        &body);
  }

private:
  using Invoke = void (*)(const void *state, int64_t index, int thread);
  void run(int64_t count, Invoke invoke, const void *state);

  struct State;
  std::unique_ptr<State> state_;
};

} // namespace switchyard::kernels::cpu
