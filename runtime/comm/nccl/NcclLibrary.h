// NCCL's functions, found in the library when the program runs.
#pragma once

#include "runtime/core/Status.h"

#include <memory>
#include <nccl.h>

namespace switchyard::comm {

/// Functions are called as nccl.h says: `library.allGather(...)` is ncclAllGather.
struct NcclLibrary {
  decltype(&ncclGetVersion) getVersion = nullptr;
  decltype(&ncclGetErrorString) getErrorString = nullptr;
  decltype(&ncclGetLastError) getLastError = nullptr;
  decltype(&ncclGetUniqueId) getUniqueId = nullptr;
  decltype(&ncclCommInitRankConfig) commInitRankConfig = nullptr;
  decltype(&ncclCommDestroy) commDestroy = nullptr;
  decltype(&ncclGroupStart) groupStart = nullptr;
  decltype(&ncclGroupEnd) groupEnd = nullptr;
  decltype(&ncclAllGather) allGather = nullptr;
  decltype(&ncclReduceScatter) reduceScatter = nullptr;
  decltype(&ncclAllReduce) allReduce = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;

  /// Loads libnccl.so.2 as the dynamic linker finds it; it stays loaded. Usage, with what to do: it
  /// is not there, or too old.
  static Result<std::shared_ptr<const NcclLibrary>> load();

  /// Success, or the failure of `call`, in NCCL's words.
  Status check(ncclResult_t result, const char *call) const;
};

} // namespace switchyard::comm
