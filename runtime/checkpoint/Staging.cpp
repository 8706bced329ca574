#include "runtime/checkpoint/Staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <sys/mman.h>

namespace switchyard::checkpoint {

Staging::~Staging() {
  if (memory_)
    ::munmap(memory_, bytes_);
}

Status Staging::allocate(uint64_t bytes) {
  bytes = std::max<uint64_t>(bytes, 1); // an empty mapping is an error
  void *memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return Status::doesNotFit(fmt::format(
        "cannot allocate {} bytes of host memory for checkpoints on their way to the disk", bytes));
  memory_ = static_cast<std::byte *>(memory);
  bytes_ = bytes;
  (void)::madvise(memory, bytes, MADV_HUGEPAGE); // where the system has large pages
  std::memset(memory, 0, bytes);                 // now, not in the middle of the first save
  return {};
}

/// Behind the newest piece, or at the start again; nothing where that would be over the oldest.
std::optional<size_t> Staging::placeFor(size_t size) const {
  if (pieces_.empty())
    return 0;
  const size_t oldest = pieces_.front().begin, newest = pieces_.back().end;
  const bool isAround = pieces_.back().begin < oldest;
  const size_t end = isAround ? oldest : bytes_;
  if (end - newest >= size)
    return newest;
  return !isAround && oldest >= size ? std::optional<size_t>(0) : std::nullopt;
}

std::span<std::byte> Staging::take(size_t size) {
  assert(size <= bytes_);
  std::unique_lock lock(mutex_);
  std::optional<size_t> place;
  changed_.wait(lock, [&] {
    if (isAbandoned_)
      pieces_.clear();
    place = placeFor(size);
    if (!place && !isFull_) {
      isFull_ = true;
      changed_.notify_all();
    }
    return place.has_value();
  });
  pieces_.push_back({*place, *place + size});
  return {memory_ + *place, size};
}

void Staging::push() {
  std::lock_guard lock(mutex_);
  pieces_.back().isFilled = true;
  if (isFull_)
    changed_.notify_all();
}

std::optional<std::span<const std::byte>> Staging::pop() {
  std::unique_lock lock(mutex_);
  const auto isReady = [&] { return !pieces_.empty() && pieces_.front().isFilled; };
  changed_.wait(lock, [&] { return isClosed_ || (isFull_ && isReady()); });
  if (!isReady())
    return std::nullopt;
  isPopped_ = true;
  const Piece &piece = pieces_.front();
  return std::span<const std::byte>(memory_ + piece.begin, piece.end - piece.begin);
}

void Staging::giveBack() {
  std::lock_guard lock(mutex_);
  assert(isPopped_);
  isPopped_ = false;
  pieces_.pop_front();
  if (isFull_)
    changed_.notify_all();
}

void Staging::close() {
  std::lock_guard lock(mutex_);
  isClosed_ = true;
  changed_.notify_all();
}

void Staging::abandon() {
  std::lock_guard lock(mutex_);
  isAbandoned_ = true;
  changed_.notify_all();
}

void Staging::reset() {
  std::lock_guard lock(mutex_);
  pieces_.clear();
  isPopped_ = isFull_ = isClosed_ = isAbandoned_ = false;
}

} // namespace switchyard::checkpoint
