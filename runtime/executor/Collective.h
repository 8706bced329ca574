// The instructions of a plan in which ranks meet, prepared for given extents. To run one allocates
// nothing.
#pragma once

#include "runtime/comm/RowExchanger.h"
#include "runtime/device/Device.h"
#include "runtime/executor/Exchange.h"
#include "runtime/plan/Plan.h"

#include <memory>
#include <vector>

namespace switchyard {

class PreparedCollective {
public:
  virtual ~PreparedCollective() = default;

  /// Calls the group, or puts its call on the instruction's stream where the group works on the
  /// device. `sent` is raised by the bytes that go to other ranks. Failures name `where`.
  virtual Status run(Device &device, Where where, uint64_t &sent) = 0;

  /// Whether run() only puts work on the stream, the same each time: a graph can record it.
  virtual bool canRecord() const = 0;
};

/// `operands` are the instruction's, at the extents of a pass in which B rows are received at once.
/// With `exchanger`, which may be null, tokens are exchanged by counts that stay on the device.
std::unique_ptr<PreparedCollective> prepareCollective(const CollectiveInstruction &instruction,
                                                      std::span<const kernels::Tensor> operands,
                                                      int64_t bufferRows, Group &group,
                                                      RowExchanger *exchanger);

/// A repeat: how often its body runs, and in which round it is.
class PreparedRepeat {
public:
  /// `exchanger` may be null; then it cannot be recorded.
  PreparedRepeat(const kernels::Tensor &allCounts, int32_t *round, int64_t ranks,
                 int64_t bufferRows, RowExchanger *exchanger);

  /// The number of overflow rounds, from the counts as they are now.
  Result<int64_t> rounds(Device &device);
  /// Tells the body that it is in `round`.
  Status setRound(Device &device, int64_t round) const;

  bool canRecord() const { return exchanger_ != nullptr; }
  /// While the device records: the device will count the rounds, and do `body` as often.
  Status record(Device &device, const std::function<Status()> &body) const;

private:
  kernels::Tensor allCounts_;
  int32_t *round_;
  ExchangeSize size_;
  RowExchanger *exchanger_;
  std::vector<int32_t> counts_;
};

} // namespace switchyard
