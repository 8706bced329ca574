#include "runtime/data/tokenizer/TextPieces.h"

#include <fmt/format.h>

namespace switchyard {

Status TextStore::checkRoom(size_t bytes) const {
  constexpr size_t kFactor = 64;
  constexpr size_t kFree = size_t{1} << 20;
  if ((bytes_ + bytes) / kFactor <= sourceBytes_ + kFree)
    return {};
  return Status::failed(fmt::format(
      "of a text of {} bytes its normalizer and pre-tokenizer make {} bytes; at most 64 "
      "times as many and 64 MiB are allowed",
      sourceBytes_, bytes_ + bytes));
}

Result<std::string_view> TextStore::keep(std::string text) {
  SY_RETURN_IF_ERROR(checkRoom(text.size()));
  bytes_ += text.size();
  return std::string_view(texts_.emplace_back(std::move(text)));
}

Result<std::string_view> TextStore::keepReplaced(std::string_view text,
                                                 std::span<const TextRange> ranges,
                                                 std::string_view with) {
  SY_RETURN_IF_ERROR(checkRoom(text.size() + ranges.size() * with.size()));
  std::string replaced;
  size_t at = 0;
  for (TextRange range : ranges) {
    replaced += text.substr(at, range.begin - at);
    replaced += with;
    at = range.end;
  }
  replaced += text.substr(at);
  return keep(std::move(replaced));
}

} // namespace switchyard
