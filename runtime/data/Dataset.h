// The tokenised records of a data file, and the segments that batches are made of.
//
// A label is the token that a position holds, or kIgnoredLabel where the loss must not see it;
// labels here are unshifted, as transformers takes them: the shift by one happens when a pass is
// filled (Batches.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr int32_t kIgnoredLabel = -100;

/// One piece of text that attends only to itself. Views memory of a Dataset or of TokenizedBatches.
struct SegmentView {
  std::span<const int32_t> ids;
  std::span<const int32_t> labels; // one per id; empty: the ids, with the first promptTokens masked
  int64_t promptTokens = 0;
  int64_t record = 0; // where it stands in its file, for messages

  int64_t numTokens() const { return static_cast<int64_t>(ids.size()); }

  /// The unshifted label of token `i`.
  int32_t label(int64_t i) const {
    if (!labels.empty())
      return labels[i];
    return i < promptTokens ? kIgnoredLabel : ids[i];
  }

  /// What token `i` is trained to predict: the label of the next token; a segment's last has none.
  int32_t target(int64_t i) const { return i + 1 < numTokens() ? label(i + 1) : kIgnoredLabel; }
};

/// A record that can't be used, and why. `index` counts the file's records from 0.
struct SkippedRecord {
  int64_t index = 0;
  std::string reason;
};

/// The usable records of one file, in file order.
class Dataset {
public:
  explicit Dataset(std::string source = "") : source_(std::move(source)) {}

  void append(std::span<const int32_t> ids, int64_t promptTokens, int64_t index);
  void skip(int64_t index, std::string reason) { skipped_.push_back({index, std::move(reason)}); }

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  int64_t numTokens() const { return static_cast<int64_t>(ids_.size()); }
  int64_t length(int64_t i) const { return entries_[i].end - begin(i); }
  SegmentView record(int64_t i) const;

  const std::string &source() const { return source_; }
  const std::vector<SkippedRecord> &skipped() const { return skipped_; }

  /// "alpaca.json: 3 of 999 records can't be used: record 4: its output is empty; ..." with at most
  /// `maxNamed` of them named; empty if every record is used.
  std::string describeSkipped(int64_t maxNamed = 10) const;

private:
  struct Entry {
    int64_t end; // in ids_
    int64_t promptTokens;
    int64_t index;
  };
  int64_t begin(int64_t i) const { return i == 0 ? 0 : entries_[i - 1].end; }

  std::string source_;
  std::vector<int32_t> ids_;
  std::vector<Entry> entries_;
  std::vector<SkippedRecord> skipped_;
};

} // namespace switchyard
