#include "runtime/data/Dataset.h"

#include <algorithm>

namespace switchyard {

void Dataset::append(std::span<const int32_t> ids, int64_t promptTokens, int64_t index) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  entries_.push_back({static_cast<int64_t>(ids_.size()), promptTokens, index});
}

SegmentView Dataset::record(int64_t i) const {
  SegmentView view;
  view.ids = std::span(ids_).subspan(begin(i), length(i));
  view.promptTokens = entries_[i].promptTokens;
  view.record = entries_[i].index;
  return view;
}

std::string Dataset::describeSkipped(int64_t maxNamed) const {
  if (skipped_.empty())
    return "";
  int64_t count = static_cast<int64_t>(skipped_.size());
  std::string text = source_ + ": " + std::to_string(count) + " of " +
                     std::to_string(count + size()) + " records can't be used: ";
  for (int64_t i = 0; i < std::min(count, maxNamed); ++i)
    text += (i ? "; record " : "record ") + std::to_string(skipped_[i].index) + ": " +
            skipped_[i].reason;
  if (count > maxNamed)
    text += "; and " + std::to_string(count - maxNamed) + " more";
  return text;
}

} // namespace switchyard
