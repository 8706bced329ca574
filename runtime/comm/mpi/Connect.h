// TCP connections between every two ranks of a job.
#pragma once

#include "runtime/core/Status.h"

#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace switchyard::comm {

/// A file descriptor, closed when it goes.
class Socket {
public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket &&other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket &operator=(Socket &&other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket();

  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

private:
  int descriptor_ = -1;
};

/// Gathers the same number of bytes from every rank, in rank order. Collective.
using GatherBytes =
    std::function<Status(std::span<const std::byte> mine, std::span<std::byte> all)>;

/// Connects every rank with every other: the result is by rank, empty for the rank itself.
/// Collective; `gather` carries the addresses. Ranks of one host (and network namespace) meet on
/// the loopback interface, others on any IPv4 address of the other host that answers. A connection
/// breaks within about 4 s when the other's host is gone. Strangers are turned away: either side
/// shows a random number that only ranks of this job have.
Result<std::vector<Socket>> connectRanks(int rank, int size, const GatherBytes &gather);

} // namespace switchyard::comm
