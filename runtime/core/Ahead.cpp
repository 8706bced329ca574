#include "runtime/core/Ahead.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace switchyard {

namespace {

/// The pieces that are made and not used yet: piece i is in slot i modulo their number.
class Window {
public:
  using Make = std::function<Status(size_t piece, std::vector<std::byte> &buffer)>;

  Window(size_t count, size_t slots, const Make &make)
      : make_(make), count_(count), slots_(slots) {}

  /// What each thread does.
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return isEnded_ || next_ < used_ + slots_.size(); });
      if (isEnded_ || next_ == count_)
        return;
      const size_t piece = next_++;
      Slot &slot = slots_[piece % slots_.size()];
      lock.unlock();
      Status status = make_(piece, slot.buffer);
      lock.lock();
      slot.status = std::move(status);
      slot.isMade = true;
      changed_.notify_all();
    }
  }

  /// The bytes of `piece`, which is the next to be used.
  Result<std::span<const std::byte>> wait(size_t piece) {
    Slot &slot = slots_[piece % slots_.size()];
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return slot.isMade; });
    SY_RETURN_IF_ERROR(slot.status);
    return std::span<const std::byte>(slot.buffer);
  }

  void giveBack(size_t piece) {
    std::lock_guard lock(mutex_);
    slots_[piece % slots_.size()].isMade = false;
    ++used_;
    changed_.notify_all();
  }

  void end() {
    std::lock_guard lock(mutex_);
    isEnded_ = true;
    changed_.notify_all();
  }

private:
  struct Slot {
    std::vector<std::byte> buffer;
    Status status;
    bool isMade = false;
  };

  const Make &make_;
  size_t count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  size_t next_ = 0; // to be made
  size_t used_ = 0;
  bool isEnded_ = false;
};

} // namespace

Status makeAhead(size_t count, int threads,
                 const std::function<Status(size_t piece, std::vector<std::byte> &buffer)> &make,
                 const std::function<Status(size_t piece, std::span<const std::byte> bytes)> &use) {
  const size_t workers = std::min(count, static_cast<size_t>(std::max(threads, 1)));
  Window window(count, 2 * workers, make);
  std::vector<std::thread> running;
  for (size_t i = 0; i < workers; ++i)
    running.emplace_back([&window] { window.work(); });
  Status status;
  for (size_t piece = 0; piece < count && status.ok(); ++piece) {
    Result<std::span<const std::byte>> bytes = window.wait(piece);
    status = bytes.ok() ? use(piece, *bytes) : bytes.status();
    if (status.ok())
      window.giveBack(piece);
  }
  window.end();
  for (std::thread &thread : running)
    thread.join();
  return status;
}

} // namespace switchyard
