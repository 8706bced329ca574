#include "runtime/comm/Agreement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace switchyard {

std::string ranksText(std::span<const int> ranks, int numRanks) {
  if (numRanks == 1 || ranks.empty())
    return "";
  if (std::ssize(ranks) == numRanks)
    return fmt::format(" on all {} ranks", numRanks);
  return fmt::format(" on rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

/// What failure records say of a rank that waits here.
static constexpr Where kWhere{"between programs", -1};

Agreement::Agreement(Communicator *communicator) : communicator_(communicator) {}

Result<std::span<const int64_t>> Agreement::gather(std::span<const int64_t> mine) {
  all_.resize(mine.size() * size());
  if (!communicator_) {
    std::ranges::copy(mine, all_.begin());
    return std::span<const int64_t>(all_);
  }
  auto words = static_cast<int64_t>(mine.size_bytes() / sizeof(int32_t));
  SY_RETURN_IF_ERROR(communicator_->world().allGather(
      kWhere, Transfer{kernels::DType::I32, mine.data(), all_.data(), words}));
  return std::span<const int64_t>(all_);
}

Result<std::string> Agreement::share(std::string text, int from) {
  const int64_t mine[] = {static_cast<int64_t>(text.size())};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> sizes, gather(mine));
  text.resize(sizes[from]);
  if (communicator_ && !text.empty())
    SY_RETURN_IF_ERROR(
        communicator_->world().broadcast(kWhere, std::as_writable_bytes(std::span(text)), from));
  return text;
}

Status Agreement::agree(const Status &mine) {
  const int64_t values[] = {static_cast<int64_t>(mine.code()),
                            static_cast<int64_t>(mine.message().size())};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, gather(values));
  for (int rank = 0; rank < size(); ++rank) {
    auto code = static_cast<StatusCode>(all[2 * rank]);
    if (code == StatusCode::Ok)
      continue;
    std::string message(all[2 * rank + 1], ' ');
    if (rank == this->rank())
      message = mine.message();
    if (communicator_ && !message.empty())
      SY_RETURN_IF_ERROR(communicator_->world().broadcast(
          kWhere, std::as_writable_bytes(std::span(message)), rank));
    hasFailed_ = true;
    return rank == 0 ? Status(code, message)
                     : Status(code, "rank " + std::to_string(rank) + ": " + message);
  }
  return {};
}

} // namespace switchyard
