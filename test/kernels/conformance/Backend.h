// What the conformance suite needs of a backend. The tests are written against this alone, so that
// every backend passes the same ones.
#pragma once

#include "kernels/signatures/Launch.h"

#include <memory>
#include <optional>
#include <string>

namespace switchyard::kernels::conformance {

/// One device with its worker threads (or stream) and prepared libraries.
class Backend {
public:
  virtual ~Backend() = default;

  /// What messages call it, such as "CPU".
  virtual std::string_view name() const = 0;

  /// What workspace bounds are asked for.
  virtual Target target() const = 0;

  /// Memory of the device, aligned to 256 bytes; null for no bytes is allowed.
  virtual void *allocate(int64_t bytes) = 0;
  virtual void release(void *memory) = 0;
  virtual void upload(void *device, const void *host, int64_t bytes) = 0;
  virtual void download(void *host, const void *device, int64_t bytes) = 0;

  /// Prepares the kernel called `kernel` for launches of these shapes; the data pointers are null.
  /// Returns why it can't.
  virtual std::optional<std::string> prepare(std::string_view kernel, const Launch &launch) = 0;
  /// Runs it to the end. Fills in the launch's context.
  virtual void run(std::string_view kernel, const Launch &launch) = 0;
  /// Allocations of the last run: of the host's heap on a CPU; on a GPU, of the device's memory and
  /// by operator new.
  virtual int64_t allocationsOfLastRun() const = 0;
};

/// The backend under test, with `threads` worker threads where it has such. Each backend links its
/// own definition.
std::unique_ptr<Backend> makeBackend(int threads);

} // namespace switchyard::kernels::conformance
