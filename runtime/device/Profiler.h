// What a device did, and when: what a trace of a step is made of.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// A kernel, a copy or a fill of a device.
struct DeviceActivity {
  enum class Kind : uint8_t { Kernel, Copy, Fill };

  Kind kind = Kind::Kernel;
  std::string name;    // a kernel's own; of others what they are
  uint32_t stream = 0; // as the backend numbers its streams
  uint64_t begin = 0;  // nanoseconds of the device's clock
  uint64_t end = 0;
  uint64_t label = 0; // the mark under which the host asked for it; 0: none
  bool isReplayed = false;
};

/// One at a time for a process, used from the thread that uses the device.
class Profiler {
public:
  virtual ~Profiler() = default;

  /// Begins to note activities.
  virtual Status begin() = 0;
  /// What the host asks for from now on belongs to `label`, which is above 0. Of a graph this is
  /// when the graph is run.
  virtual Status mark(uint64_t label) = 0;
  /// Waits for the device. The activities since begin(), in the order in which they began.
  virtual Result<std::vector<DeviceActivity>> end() = 0;
};

} // namespace switchyard
