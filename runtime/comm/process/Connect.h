// TCP connections between every two ranks of a job, or of a group.
#pragma once

#include "runtime/core/Status.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
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

/// Gathers the same number of bytes from every rank of the world, in rank order. Collective.
using GatherBytes =
    std::function<Status(std::span<const std::byte> mine, std::span<std::byte> all)>;

/// Connects every two ranks of `members` (ascending, `rank` among them); the members' order is that
/// of the result, empty for the rank itself. Collective over the world, of whose ranks each gives
/// the set that it is in; `gather` carries the addresses. Ranks of one host (and network namespace)
/// meet on the loopback interface, others on any IPv4 address of the other host that answers. A
/// connection breaks within about 4 s when the other's host is gone. Strangers are turned away:
/// either side shows a random number that only ranks of this job have.
Result<std::vector<Socket>> connectRanks(int rank, int worldSize, std::span<const int> members,
                                         const GatherBytes &gather);

using Deadline = std::chrono::steady_clock::time_point;

/// Reads or writes all of `bytes` before the deadline; false if the connection breaks or is late.
bool transferAll(int socket, std::span<std::byte> bytes, bool isWrite, Deadline deadline);

/// A socket that listens on TCP port `port` (0: one that is free, and is set).
Result<Socket> listenOn(bool loopbackOnly, int backlog, uint16_t &port);

} // namespace switchyard::comm
