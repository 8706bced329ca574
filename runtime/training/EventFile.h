// Event files, as TensorBoard reads them: the numbers of each step as scalars.
//
// A file is a list of records, each a length, its checksum, a message and its checksum (TFRecord,
// tensorflow/core/lib/io/record_writer.h); a message is an Event of
// tensorflow/core/util/event.proto as protocol buffers encode it. Of a run that goes on from an
// earlier one TensorBoard drops, of the earlier one's files in the same folder, the steps that are
// done again.
#pragma once

#include "runtime/core/Status.h"
#include "runtime/training/Metrics.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

/// CRC-32C (Castagnoli) of `bytes`.
uint32_t crc32c(std::string_view bytes);

/// `message` with its length and checksums.
std::string eventRecord(std::string_view message);

/// An Event at `wallTime`, in seconds since 1970, of each of numbersOf(metrics) as "train/NAME".
std::string scalarsEvent(const StepMetrics &metrics, double wallTime);

class EventFile {
public:
  /// A file of its own in `folder`; both are made when the first step comes.
  explicit EventFile(std::string folder) : folder_(std::move(folder)) {}
  EventFile(EventFile &&) = delete;
  ~EventFile();

  /// Adds a step; what is written is whole records. Failed: the system's reason.
  Status append(const StepMetrics &metrics);

private:
  Status open(int64_t firstStep, double wallTime);
  Status write(std::string_view bytes);

  std::string folder_;
  std::string path_;
  int descriptor_ = -1;
};

} // namespace switchyard
