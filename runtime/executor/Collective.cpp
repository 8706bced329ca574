#include "runtime/executor/Collective.h"

#include "runtime/comm/DeviceGroup.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/Traffic.h"

#include <limits>

namespace switchyard {
namespace {

using kernels::Tensor;

Status named(Status status, Where where, CollectiveKind kind) {
  return status.within(std::string(where.program) + ", instruction " +
                       std::to_string(where.instruction) + ": " + std::string(name(kind)));
}

std::span<std::byte> bytesOf(const Tensor &tensor) {
  return {tensor.as<std::byte>(), static_cast<size_t>(tensor.bytes())};
}

/// all_gather, reduce_scatter, all_reduce: pairs of buffers in one call.
class GroupedTransfers final : public PreparedCollective {
public:
  GroupedTransfers(const CollectiveInstruction &instruction, std::span<const Tensor> operands,
                   Group &group)
      : kind_(instruction.kind), reduction_(instruction.isMax ? Reduction::Max : Reduction::Sum),
        group_(group), stream_(instruction.stream) {
    for (size_t i = 0; i < operands.size(); i += 2) {
      const Tensor &in = operands[i], &out = operands[i + 1];
      const Tensor &part = kind_ == CollectiveKind::ReduceScatter ? out : in;
      transfers_.push_back({in.dtype, in.data, out.data, part.count()});
      sent_ += bytesSent(kind_, group.size(), static_cast<uint64_t>(part.bytes()));
      if (kind_ != CollectiveKind::ReduceScatter)
        continue;
      auto whole = static_cast<uint64_t>(part.bytes()) * static_cast<uint64_t>(group.size());
      auto own = static_cast<uint64_t>(in.bytes());
      if (whole > own)
        paddings_.push_back({in.as<std::byte>() + own, whole - own});
    }
  }

  Status run(Device &device, Where where, uint64_t &sent) override {
    for (const Padding &padding : paddings_)
      if (Status status = device.fillZero(padding.data, padding.bytes, stream_); !status.ok())
        return named(status, where, kind_);
    sent += sent_;
    if (DeviceGroup *onDevice = group_.onDevice())
      return named(enqueue(*onDevice, device.nativeStream(stream_)), where, kind_);
    if (Status status = device.synchronize(); !status.ok())
      return named(status, where, kind_);
    switch (kind_) {
    case CollectiveKind::AllGather:
      return group_.allGather(where, transfers_);
    case CollectiveKind::ReduceScatter:
      return group_.reduceScatter(where, reduction_, transfers_);
    default:
      return group_.allReduce(where, reduction_, transfers_);
    }
  }

  bool canRecord() const override { return group_.onDevice() != nullptr; }

private:
  Status enqueue(DeviceGroup &onDevice, void *stream) {
    switch (kind_) {
    case CollectiveKind::AllGather:
      return onDevice.allGather(transfers_, stream);
    case CollectiveKind::ReduceScatter:
      return onDevice.reduceScatter(reduction_, transfers_, stream);
    default:
      return onDevice.allReduce(reduction_, transfers_, stream);
    }
  }

  /// What is behind the last element of a tensor that is summed into flat shards: it arrives in
  /// the last ones.
  struct Padding {
    std::byte *data;
    uint64_t bytes;
  };

  CollectiveKind kind_;
  Reduction reduction_;
  Group &group_;
  uint32_t stream_;
  std::vector<Transfer> transfers_;
  std::vector<Padding> paddings_;
  uint64_t sent_ = 0;
};

/// token_exchange and token_return where the counts stay on the device.
class ExchangeOnDevice final : public PreparedCollective {
public:
  ExchangeOnDevice(const CollectiveInstruction &instruction, std::span<const Tensor> operands,
                   const Tensor *round, const ExchangeSize &size, RowExchanger &exchanger)
      : kind_(instruction.kind), operands_(operands.begin(), operands.end()),
        exchange_{.allCounts = operands[1].as<int32_t>(),
                  .round = round ? round->as<int32_t>() : nullptr,
                  .experts = size.experts,
                  .rows = size.rows,
                  .buffer = size.buffer,
                  .rowBytes = operands[0].dims[1] * kernels::byteSize(operands[0].dtype)},
        exchanger_(exchanger), adds_(instruction.adds), stream_(instruction.stream) {}

  /// What is sent, the exchanger counts.
  Status run(Device &device, Where where, uint64_t &sent) override {
    static_cast<void>(sent);
    SY_RETURN_IF_ERROR(device.flush());
    void *stream = device.nativeStream(stream_);
    if (kind_ == CollectiveKind::TokenExchange)
      return named(exchanger_.exchange(exchange_, operands_[0].data, operands_[2].data,
                                       operands_[3].as<int32_t>(), stream),
                   where, kind_);
    return named(exchanger_.giveBack(exchange_, operands_[0].data, operands_[2].data,
                                     adds_ ? std::optional(operands_[0].dtype) : std::nullopt,
                                     stream),
                 where, kind_);
  }

  bool canRecord() const override { return true; }

private:
  CollectiveKind kind_;
  std::vector<Tensor> operands_;
  RowExchange exchange_;
  RowExchanger &exchanger_;
  bool adds_;
  uint32_t stream_;
};

/// What token_exchange and token_return have in common elsewhere: the rows of the round, which the
/// host computes from the counts. So the device is waited for.
class Exchange : public PreparedCollective {
public:
  Exchange(const CollectiveInstruction &instruction, const Tensor &allCounts, const Tensor *round,
           const ExchangeSize &size, Group &group)
      : kind_(instruction.kind), group_(group), rows_(size, group.rank()), allCounts_(allCounts),
        round_(round ? round->data : nullptr), size_(size), stream_(instruction.stream),
        counts_(allCounts.count()) {
    group.reserveRows(size.experts / size.ranks);
  }

  Status run(Device &device, Where where, uint64_t &sent) final {
    Status status = computeRows(device);
    if (status.ok())
      status = beforeCall(device);
    if (status.ok())
      status = device.synchronize();
    if (!status.ok())
      return named(status, where, kind_);
    if (group_.onDevice())
      return named(enqueue(*group_.onDevice(), device.nativeStream(stream_), sent), where, kind_);
    return call(where, sent);
  }

  bool canRecord() const final { return false; }

protected:
  virtual Status beforeCall(Device &device) = 0;
  virtual Status call(Where where, uint64_t &sent) = 0;
  virtual Status enqueue(DeviceGroup &onDevice, void *stream, uint64_t &sent) = 0;

  static int64_t rowBytesOf(const Tensor &tensor) {
    return tensor.dims[1] * kernels::byteSize(tensor.dtype);
  }

  CollectiveKind kind_;
  Group &group_;
  ExchangeRows rows_;

private:
  Status computeRows(Device &device) {
    SY_RETURN_IF_ERROR(device.synchronize()); // the counts may be of another stream than 0
    SY_RETURN_IF_ERROR(
        device.copyOut(counts_.data(), allCounts_.data, counts_.size() * sizeof(int32_t)));
    SY_RETURN_IF_ERROR(checkCounts(size_, counts_));
    int32_t round = 0;
    if (round_)
      SY_RETURN_IF_ERROR(device.copyOut(&round, round_, sizeof round));
    if (int64_t last = overflowRounds(size_, counts_); round < 0 || round > last)
      return Status::failed("the round is " + std::to_string(round) + "; expected 0 to " +
                            std::to_string(last) + ", the last one of all_counts");
    rows_.compute(counts_, round);
    return {};
  }

  Tensor allCounts_;
  const void *round_;
  ExchangeSize size_;
  uint32_t stream_;
  std::vector<int32_t> counts_;
};

class TokenExchange final : public Exchange {
public:
  TokenExchange(const CollectiveInstruction &instruction, std::span<const Tensor> operands,
                const Tensor *round, const ExchangeSize &size, Group &group)
      : Exchange(instruction, operands[1], round, size, group), from_(operands[0]),
        received_(operands[2]), groupSizes_(operands[3]) {}

private:
  Status beforeCall(Device &device) override {
    auto filled = static_cast<uint64_t>(rows_.rowsReceived() * rowBytesOf(received_));
    SY_RETURN_IF_ERROR(device.fillZero(received_.as<std::byte>() + filled,
                                       static_cast<uint64_t>(received_.bytes()) - filled));
    return device.copyIn(groupSizes_.data, rows_.groupSizes().data(),
                         rows_.groupSizes().size_bytes());
  }

  Status call(Where where, uint64_t &sent) override {
    sent += static_cast<uint64_t>(rows_.rowsSentAway() * rowBytesOf(from_));
    return group_.allToAllV(where, rowBytesOf(from_), bytesOf(from_), rows_.sent(),
                            bytesOf(received_), rows_.received());
  }

  Status enqueue(DeviceGroup &onDevice, void *stream, uint64_t &sent) override {
    sent += static_cast<uint64_t>(rows_.rowsSentAway() * rowBytesOf(from_));
    return onDevice.allToAllV(rowBytesOf(from_), bytesOf(from_), rows_.sent(), bytesOf(received_),
                              rows_.received(), std::nullopt, stream);
  }

  Tensor from_, received_, groupSizes_;
};

class TokenReturn final : public Exchange {
public:
  TokenReturn(const CollectiveInstruction &instruction, std::span<const Tensor> operands,
              const Tensor *round, const ExchangeSize &size, Group &group)
      : Exchange(instruction, operands[1], round, size, group), from_(operands[0]),
        returned_(operands[2]), adds_(instruction.adds) {}

private:
  Status beforeCall(Device &device) override {
    return adds_ ? Status()
                 : device.fillZero(returned_.data, static_cast<uint64_t>(returned_.bytes()));
  }

  Status call(Where where, uint64_t &sent) override {
    sent += static_cast<uint64_t>(rows_.rowsReceivedFromAway() * rowBytesOf(from_));
    return group_.allToAllV(where, rowBytesOf(from_), bytesOf(from_), rows_.received(),
                            bytesOf(returned_), rows_.sent(),
                            adds_ ? std::optional(from_.dtype) : std::nullopt);
  }

  Status enqueue(DeviceGroup &onDevice, void *stream, uint64_t &sent) override {
    sent += static_cast<uint64_t>(rows_.rowsReceivedFromAway() * rowBytesOf(from_));
    return onDevice.allToAllV(rowBytesOf(from_), bytesOf(from_), rows_.received(),
                              bytesOf(returned_), rows_.sent(),
                              adds_ ? std::optional(from_.dtype) : std::nullopt, stream);
  }

  Tensor from_, returned_;
  bool adds_;
};

} // namespace

std::unique_ptr<PreparedCollective> prepareCollective(const CollectiveInstruction &instruction,
                                                      std::span<const Tensor> operands,
                                                      int64_t bufferRows, Group &group,
                                                      RowExchanger *exchanger) {
  const bool isExchange = instruction.kind == CollectiveKind::TokenExchange;
  if (!isExchange && instruction.kind != CollectiveKind::TokenReturn)
    return std::make_unique<GroupedTransfers>(instruction, operands, group);
  const Tensor &own = operands[isExchange ? 0 : 2], &received = operands[isExchange ? 2 : 0];
  const size_t roundAt = isExchange ? 4 : 3;
  const Tensor *round = operands.size() > roundAt ? &operands[roundAt] : nullptr;
  const ExchangeSize size{group.size(), operands[1].dims[1], own.dims[0], bufferRows};
  if (exchanger && exchanger->takes(size.experts, bytesOf(received)))
    return std::make_unique<ExchangeOnDevice>(instruction, operands, round, size, *exchanger);
  if (isExchange)
    return std::make_unique<TokenExchange>(instruction, operands, round, size, group);
  return std::make_unique<TokenReturn>(instruction, operands, round, size, group);
}

PreparedRepeat::PreparedRepeat(const Tensor &allCounts, int32_t *round, int64_t ranks,
                               int64_t bufferRows, RowExchanger *exchanger)
    : allCounts_(allCounts), round_(round),
      size_{ranks, allCounts.dims[1], std::numeric_limits<int64_t>::max(), bufferRows},
      exchanger_(exchanger), counts_(allCounts.count()) {}

Result<int64_t> PreparedRepeat::rounds(Device &device) {
  SY_RETURN_IF_ERROR(device.synchronize()); // the counts may be of another stream than 0
  SY_RETURN_IF_ERROR(
      device.copyOut(counts_.data(), allCounts_.data, counts_.size() * sizeof(int32_t)));
  SY_RETURN_IF_ERROR(checkCounts(size_, counts_));
  return overflowRounds(size_, counts_);
}

Status PreparedRepeat::setRound(Device &device, int64_t round) const {
  auto value = static_cast<int32_t>(round);
  SY_RETURN_IF_ERROR(device.copyIn(round_, &value, sizeof value));
  return device.synchronize(); // the body may be on other streams than 0
}

Status PreparedRepeat::record(Device &device, const std::function<Status()> &body) const {
  RowExchange exchange{
      .allCounts = allCounts_.as<int32_t>(), .experts = size_.experts, .buffer = size_.buffer};
  SY_RETURN_IF_ERROR(exchanger_->countRounds(exchange, device.nativeStream(0)));
  return device.recordLoop(exchanger_->rounds(), round_, body);
}

} // namespace switchyard
