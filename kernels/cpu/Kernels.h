// The CPU backend's kernels: a function per signature, found by name.
#pragma once

#include "kernels/cpu/ThreadPool.h"
#include "kernels/signatures/Launch.h"

#include <optional>
#include <string>

namespace switchyard::kernels::cpu {

class GemmCache;

/// What kernels share: a rank's threads and its prepared GEMMs.
struct Context {
  ThreadPool *pool = nullptr;
  GemmCache *gemms = nullptr;
};

inline Context &contextOf(const Launch &launch) {
  return *static_cast<Context *>(launch.context);
}

struct Kernel {
  std::string_view name;
  /// Does all work that may allocate (creating oneDNN primitives) for launches of these shapes; the
  /// data pointers may be null. Returns a message if the launch cannot run (a library wants more
  /// scratch than the signature's bound). Null: nothing to prepare.
  std::optional<std::string> (*prepare)(const Launch &launch) = nullptr;
  /// Computes. Allocates nothing.
  void (*run)(const Launch &launch) = nullptr;
};

/// The kernel of the signature called `name`, or null.
const Kernel *findKernel(std::string_view name);

} // namespace switchyard::kernels::cpu
