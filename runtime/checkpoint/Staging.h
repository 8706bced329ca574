// Host memory through which a rank's states go from training to the thread that writes them.
#pragma once

#include "runtime/core/Status.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>

namespace switchyard::checkpoint {

/// A ring of bytes, allocated once. One thread puts pieces into it, another takes them out in the
/// same order. The reader is left asleep until all is there, or nothing more fits: it would only
/// disturb who copies.
class Staging {
public:
  Staging() = default;
  Staging(const Staging &) = delete;
  ~Staging();

  /// Once: `bytes` of memory that is really there. DoesNotFit: it is not.
  Status allocate(uint64_t bytes);
  uint64_t bytes() const { return bytes_; }

  /// Room for `size` bytes, at most bytes(), when there is some.
  std::span<std::byte> take(size_t size);
  /// What was taken last is filled.
  void push();
  /// The next piece; nothing at the end.
  std::optional<std::span<const std::byte>> pop();
  /// The piece that was popped last is done with.
  void giveBack();
  /// After the last push.
  void close();
  /// The reader fails and will pop nothing more: nobody waits for it.
  void abandon();
  /// Makes it ready for another round.
  void reset();

private:
  struct Piece {
    size_t begin = 0, end = 0;
    bool isFilled = false;
  };

  std::optional<size_t> placeFor(size_t size) const;

  std::byte *memory_ = nullptr;
  uint64_t bytes_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> pieces_; // taken and not given back, the oldest first
  bool isPopped_ = false;    // the first of them
  bool isFull_ = false;      // a piece had to wait for room
  bool isClosed_ = false, isAbandoned_ = false;
};

} // namespace switchyard::checkpoint
