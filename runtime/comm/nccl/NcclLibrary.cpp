#include "runtime/comm/nccl/NcclLibrary.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace switchyard::comm {
namespace {

constexpr const char *kName = "libnccl.so.2";
/// The first with a limit of thread blocks in ncclConfig_t.
constexpr int kOldest = NCCL_VERSION(2, 17, 1);

std::string versionText(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

template <typename Function>
bool find(void *library, const char *name, Function &function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

} // namespace

Result<std::shared_ptr<const NcclLibrary>> NcclLibrary::load() {
  void *handle = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *why = dlerror();
    return Status::usage(fmt::format(
        "ranks on GPUs talk by NCCL, which cannot be loaded: {}; install it (Debian and Ubuntu: "
        "libnccl2 of NVIDIA's repository; PyPI: nvidia-nccl-cu13) and name its folder in "
        "LD_LIBRARY_PATH",
        why ? why : kName));
  }
  auto library = std::make_shared<NcclLibrary>();
  bool hasAll = find(handle, "ncclGetVersion", library->getVersion) &&
                find(handle, "ncclGetErrorString", library->getErrorString) &&
                find(handle, "ncclGetLastError", library->getLastError) &&
                find(handle, "ncclGetUniqueId", library->getUniqueId) &&
                find(handle, "ncclCommInitRankConfig", library->commInitRankConfig) &&
                find(handle, "ncclCommDestroy", library->commDestroy) &&
                find(handle, "ncclGroupStart", library->groupStart) &&
                find(handle, "ncclGroupEnd", library->groupEnd) &&
                find(handle, "ncclAllGather", library->allGather) &&
                find(handle, "ncclReduceScatter", library->reduceScatter) &&
                find(handle, "ncclAllReduce", library->allReduce) &&
                find(handle, "ncclSend", library->send) && find(handle, "ncclRecv", library->recv);
  int version = 0;
  if (library->getVersion)
    SY_RETURN_IF_ERROR(library->check(library->getVersion(&version), "ncclGetVersion"));
  if (!hasAll || version < kOldest)
    return Status::usage(fmt::format("{} is NCCL {}; expected {} or newer", kName,
                                     versionText(version), versionText(kOldest)));
  return std::shared_ptr<const NcclLibrary>(std::move(library));
}

Status NcclLibrary::check(ncclResult_t result, const char *call) const {
  if (result == ncclSuccess)
    return {};
  const char *what = getErrorString ? getErrorString(result) : "";
  const char *more = getLastError ? getLastError(nullptr) : "";
  return Status::failed(fmt::format("{}: {}{}{}", call, what, *more ? ": " : "", more));
}

} // namespace switchyard::comm
