// How long ranks talked in a step, as a device's activities show it, and how much of that time
// nothing else ran beside.
#pragma once

#include "runtime/plan/Traffic.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace switchyard {

/// Something that ran on a device, in nanoseconds of its clock.
struct Work {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool isCollective = false;
  std::optional<CollectiveKind> kind; // of a collective, where it is known
};

/// The collectives of one kind.
struct CollectiveTime {
  int64_t calls = 0;
  int64_t bytes = 0;       // that this rank sent to others
  double milliseconds = 0; // of its kernels, one after the other: waiting for other ranks counts

  /// GB/s that go out of a rank, as nccl-tests' bus bandwidth: for n ranks (n - 1) / n of the bytes
  /// of the whole tensor over the time, of an all_reduce twice that. 0: no time.
  double busBandwidth() const {
    return milliseconds > 0 ? static_cast<double>(bytes) / milliseconds / 1e6 : 0;
  }
};

struct CommunicationTime {
  std::array<CollectiveTime, kNumCollectiveKinds> kinds = {}; // by CollectiveKind
  double milliseconds = 0;        // in which a collective ran, or several
  double exposedMilliseconds = 0; // of these: in which nothing else ran
};

/// The times alone, of one step's work in any order.
CommunicationTime communicationTime(std::span<const Work> work);

/// "all_gather: 36 calls, 3210.4 MB in 12.300 ms, 261.0 GB/s", a line for each kind that was
/// called.
std::string describe(const CommunicationTime &time);

} // namespace switchyard
