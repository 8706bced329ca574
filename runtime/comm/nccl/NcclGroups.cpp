#include "runtime/comm/nccl/NcclGroups.h"

#include "kernels/cuda/Kernels.h"
#include "runtime/comm/Agreement.h"
#include "runtime/comm/nccl/NcclLibrary.h"
#include "runtime/comm/peer/PeerExchanger.h"
#include "runtime/comm/process/MessageGroup.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

namespace switchyard {
namespace comm {
namespace {

using kernels::DType;

/// Bytes that each group keeps for rows that are added to others.
constexpr int64_t kScratchBytes = int64_t{4} << 20;

Status statusOf(cudaError_t error, const char *call) {
  if (auto fault = kernels::cuda::faultOf(error, call))
    return Status::failed(*fault);
  return {};
}

ncclDataType_t typeOf(DType dtype) {
  switch (dtype) {
  case DType::F32:
    return ncclFloat32;
  case DType::BF16:
    return ncclBfloat16;
  default:
    return ncclInt32;
  }
}

ncclRedOp_t operationOf(Reduction reduction) {
  return reduction == Reduction::Sum ? ncclSum : ncclMax;
}

/// `to` += `from`, element by element, by the kernel that adds tensors.
Status addElements(DType dtype, void *to, const void *from, int64_t bytes, cudaStream_t stream) {
  if (bytes == 0)
    return {};
  kernels::Tensor sum{to, dtype, 1, {bytes / kernels::byteSize(dtype)}};
  kernels::Tensor more = sum;
  more.data = const_cast<void *>(from);
  const kernels::Tensor operands[] = {sum, more, sum};
  kernels::cuda::Context context{.stream = stream};
  if (auto fault = kernels::cuda::findKernel("add")->run({operands, {}, {}, &context}))
    return Status::failed(*fault);
  return {};
}

/// Does `work` and adds what the driver took for it to `bytes`.
template <typename Work>
auto counting(uint64_t &bytes, const Work &work) -> decltype(work()) {
  size_t before = 0, after = 0, total = 0;
  SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&before, &total), "cudaMemGetInfo"));
  auto result = work();
  SY_RETURN_IF_ERROR(statusOf(cudaMemGetInfo(&after, &total), "cudaMemGetInfo"));
  bytes += before > after ? before - after : 0;
  return result;
}

class NcclGroup final : public DeviceGroup {
public:
  /// `memoryBytes` counts what the group takes later.
  NcclGroup(std::shared_ptr<const NcclLibrary> library, ncclComm_t comm, Communicator &communicator,
            Group &group, uint64_t &memoryBytes)
      : library_(std::move(library)), comm_(comm), communicator_(communicator), group_(group),
        memoryBytes_(memoryBytes), rank_(group.rank()), size_(group.size()),
        chunks_(2 * group.size()) {}
  ~NcclGroup() override {
    if (scratch_)
      (void)cudaFree(scratch_);
  }

  Status allGather(std::span<const Transfer> transfers, void *stream) override {
    return grouped([&]() -> Status {
      for (const Transfer &t : transfers)
        SY_RETURN_IF_ERROR(check(library_->allGather(t.send, t.receive, countOf(t), typeOf(t.dtype),
                                                     comm_, static_cast<cudaStream_t>(stream)),
                                 "ncclAllGather"));
      return {};
    });
  }

  Status reduceScatter(Reduction reduction, std::span<const Transfer> transfers,
                       void *stream) override {
    return grouped([&]() -> Status {
      for (const Transfer &t : transfers)
        SY_RETURN_IF_ERROR(check(library_->reduceScatter(t.send, t.receive, countOf(t),
                                                         typeOf(t.dtype), operationOf(reduction),
                                                         comm_, static_cast<cudaStream_t>(stream)),
                                 "ncclReduceScatter"));
      return {};
    });
  }

  Status allReduce(Reduction reduction, std::span<const Transfer> transfers,
                   void *stream) override {
    return grouped([&]() -> Status {
      for (const Transfer &t : transfers)
        SY_RETURN_IF_ERROR(check(library_->allReduce(t.send, t.receive, countOf(t), typeOf(t.dtype),
                                                     operationOf(reduction), comm_,
                                                     static_cast<cudaStream_t>(stream)),
                                 "ncclAllReduce"));
      return {};
    });
  }

  Status allToAllV(int64_t rowBytes, std::span<const std::byte> send, Rows sendRows,
                   std::span<std::byte> receive, Rows receiveRows, std::optional<DType> added,
                   void *stream) override {
    Exchange exchange{rowBytes,
                      send.data(),
                      sendRows,
                      receive.data(),
                      receiveRows,
                      static_cast<int64_t>(sendRows.counts.size()) / size_,
                      static_cast<cudaStream_t>(stream)};
    return added ? addRows(exchange, *added) : moveRows(exchange);
  }

  Result<std::unique_ptr<RowExchanger>> shareMemory(std::span<std::byte> memory) override {
    return counting(memoryBytes_,
                    [&] { return createPeerExchanger(communicator_, group_, memory); });
  }

  Status allocate() {
    if (size_ == 1)
      return {};
    void *data = nullptr;
    SY_RETURN_IF_ERROR(statusOf(cudaMalloc(&data, kScratchBytes), "cudaMalloc"));
    scratch_ = static_cast<std::byte *>(data);
    return {};
  }

  /// Uses what NCCL sets up late: the ways to the other ranks for each kind of call.
  Status warm() {
    void *data = nullptr;
    SY_RETURN_IF_ERROR(statusOf(cudaMalloc(&data, 2 * kWarmBytes * size_), "cudaMalloc"));
    auto *send = static_cast<std::byte *>(data);
    std::byte *receive = send + kWarmBytes * size_;
    cudaStream_t stream = nullptr;
    SY_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                                "cudaStreamCreateWithFlags"));
    Status status =
        statusOf(cudaMemsetAsync(data, 0, 2 * kWarmBytes * size_, stream), "cudaMemsetAsync");
    Transfer transfer{DType::F32, send, receive, kWarmBytes / 4};
    std::vector<int64_t> counts(size_, 1);
    auto bytes = static_cast<size_t>(kWarmBytes * size_);
    if (status.ok())
      status = allGather({&transfer, 1}, stream);
    if (status.ok())
      status = reduceScatter(Reduction::Sum, {&transfer, 1}, stream);
    if (status.ok())
      status = allReduce(Reduction::Sum, {&transfer, 1}, stream);
    if (status.ok())
      status = allToAllV(kWarmBytes, {send, bytes}, {counts}, {receive, bytes}, {counts},
                         std::nullopt, stream);
    if (status.ok())
      status = statusOf(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    (void)cudaStreamDestroy(stream);
    (void)cudaFree(data);
    return status;
  }

  Status finish() { return check(library_->commDestroy(comm_), "ncclCommDestroy"); }

private:
  static constexpr int64_t kWarmBytes = 4096;

  struct Exchange {
    int64_t rowBytes;
    const std::byte *send;
    Rows sendRows;
    std::byte *receive;
    Rows receiveRows;
    int64_t pieces; // per rank
    cudaStream_t stream;

    const std::byte *sent(int r, int64_t j) const {
      return at(send, offsetOf(sendRows, r * pieces + j) * rowBytes);
    }
    std::byte *received(int r, int64_t j) const {
      return at(receive, offsetOf(receiveRows, r * pieces + j) * rowBytes);
    }
    int64_t bytesSent(int r, int64_t j) const { return sendRows.counts[r * pieces + j] * rowBytes; }
    int64_t bytesReceived(int r, int64_t j) const {
      return receiveRows.counts[r * pieces + j] * rowBytes;
    }
  };

  static size_t countOf(const Transfer &transfer) { return static_cast<size_t>(transfer.count); }

  /// The others' ranks are lost where NCCL fails: the watch knows which one.
  Status check(ncclResult_t result, const char *call) const {
    return afterTheWatch(library_->check(result, call));
  }

  template <typename Calls>
  Status grouped(const Calls &calls) {
    SY_RETURN_IF_ERROR(check(library_->groupStart(), "ncclGroupStart"));
    Status status = calls();
    Status ended = check(library_->groupEnd(), "ncclGroupEnd");
    return status.ok() ? ended : status;
  }

  Status sendBytes(const Exchange &exchange, int r, const void *data, int64_t bytes) {
    return bytes == 0 ? Status()
                      : check(library_->send(data, static_cast<size_t>(bytes), ncclInt8, r, comm_,
                                             exchange.stream),
                              "ncclSend");
  }
  Status receiveBytes(const Exchange &exchange, int r, void *data, int64_t bytes) {
    return bytes == 0 ? Status()
                      : check(library_->recv(data, static_cast<size_t>(bytes), ncclInt8, r, comm_,
                                             exchange.stream),
                              "ncclRecv");
  }

  Status moveRows(const Exchange &exchange) {
    for (int64_t j = 0; j < exchange.pieces; ++j)
      if (int64_t bytes = exchange.bytesSent(rank_, j); bytes > 0)
        SY_RETURN_IF_ERROR(statusOf(
            cudaMemcpyAsync(exchange.received(rank_, j), exchange.sent(rank_, j),
                            static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, exchange.stream),
            "cudaMemcpyAsync on the device"));
    return grouped([&]() -> Status {
      for (int r = 0; r < size_; ++r)
        for (int64_t j = 0; j < exchange.pieces && r != rank_; ++j) {
          SY_RETURN_IF_ERROR(sendBytes(exchange, r, exchange.sent(r, j), exchange.bytesSent(r, j)));
          SY_RETURN_IF_ERROR(
              receiveBytes(exchange, r, exchange.received(r, j), exchange.bytesReceived(r, j)));
        }
      return {};
    });
  }

  /// What arrives goes through the scratch, in chunks that fit it, to be added.
  Status addRows(const Exchange &exchange, DType dtype) {
    for (int64_t j = 0; j < exchange.pieces; ++j)
      SY_RETURN_IF_ERROR(addElements(dtype, exchange.received(rank_, j), exchange.sent(rank_, j),
                                     exchange.bytesSent(rank_, j), exchange.stream));
    const int64_t slot = kScratchBytes / size_ / 256 * 256;
    std::ranges::fill(chunks_, Chunk());
    for (bool isDone = false; !isDone;) {
      isDone = true;
      SY_RETURN_IF_ERROR(grouped([&]() -> Status {
        for (int r = 0; r < size_; ++r) {
          if (r == rank_)
            continue;
          Chunk &in = chunks_[r], &out = chunks_[size_ + r];
          if (in.next(exchange.pieces, slot,
                      [&](int64_t j) { return exchange.bytesReceived(r, j); }))
            SY_RETURN_IF_ERROR(receiveBytes(exchange, r, scratch_ + r * slot, in.bytes));
          if (out.next(exchange.pieces, slot, [&](int64_t j) { return exchange.bytesSent(r, j); }))
            SY_RETURN_IF_ERROR(
                sendBytes(exchange, r, exchange.sent(r, out.piece) + out.begin, out.bytes));
          isDone &= in.bytes == 0 && out.bytes == 0;
        }
        return {};
      }));
      for (int r = 0; r < size_; ++r)
        if (const Chunk &in = chunks_[r]; in.bytes > 0)
          SY_RETURN_IF_ERROR(addElements(dtype, exchange.received(r, in.piece) + in.begin,
                                         scratch_ + r * slot, in.bytes, exchange.stream));
    }
    return {};
  }

  std::shared_ptr<const NcclLibrary> library_;
  ncclComm_t comm_;
  Communicator &communicator_;
  Group &group_;
  uint64_t &memoryBytes_;
  int rank_;
  int size_;
  std::vector<Chunk> chunks_; // of addRows by rank: those received, those sent
  std::byte *scratch_ = nullptr;
};

/// Every two ranks have different GPUs, unless NCCL was told to put up with it.
Status checkGpus(Communicator &communicator) {
  int device = 0;
  cudaDeviceProp properties{};
  SY_RETURN_IF_ERROR(statusOf(cudaGetDevice(&device), "cudaGetDevice"));
  SY_RETURN_IF_ERROR(
      statusOf(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties"));
  int64_t mine[2] = {};
  static_assert(sizeof(mine) == sizeof(properties.uuid.bytes));
  std::memcpy(mine, properties.uuid.bytes, sizeof(mine));
  Agreement agreement(&communicator);
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all, agreement.gather(mine));
  const char *allowed = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  if (allowed && std::string_view(allowed) == "1")
    return {};
  for (int a = 0; a < communicator.size(); ++a)
    for (int b = a + 1; b < communicator.size(); ++b)
      if (all[2 * a] == all[2 * b] && all[2 * a + 1] == all[2 * b + 1])
        return Status::usage(fmt::format(
            "ranks {} and {} have the same GPU; start at most as many ranks on a host as it has "
            "GPUs (for tests, NCCL 2.30 and newer put up with it if NCCL_MULTI_RANK_GPU_ENABLE=1)",
            a, b));
  return {};
}

class NcclGroups final : public DeviceGroups {
public:
  NcclGroups(std::shared_ptr<const NcclLibrary> library, const NcclOptions &options)
      : library_(std::move(library)), options_(options) {}

  Result<std::unique_ptr<DeviceGroup>> make(Communicator &communicator, Group &group) override {
    if (groups_.empty())
      SY_RETURN_IF_ERROR(checkGpus(communicator));
    return counting(memoryBytes_, [&] { return makeCounted(communicator, group); });
  }

  uint64_t memoryBytes() const override { return memoryBytes_; }

  Status finish() override {
    for (NcclGroup *group : groups_)
      SY_RETURN_IF_ERROR(group->finish());
    groups_.clear();
    return {};
  }

private:
  Result<std::unique_ptr<DeviceGroup>> makeCounted(Communicator &communicator, Group &group) {
    ncclUniqueId id{};
    Status hasId;
    if (group.rank() == 0)
      hasId = library_->check(library_->getUniqueId(&id), "ncclGetUniqueId");
    // One that failed makes all ranks fail here.
    Agreement agreement(&communicator);
    SY_RETURN_IF_ERROR(agreement.agree(hasId));
    SY_RETURN_IF_ERROR(group.broadcast({"start"}, std::as_writable_bytes(std::span(&id, 1)), 0));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    config.maxCTAs = options_.maxBlocks;
    ncclComm_t comm = nullptr;
    Status status = library_->check(
        library_->commInitRankConfig(&comm, group.size(), id, group.rank(), &config),
        "ncclCommInitRankConfig");
    SY_RETURN_IF_ERROR(agreement.agree(status));
    auto made = std::make_unique<NcclGroup>(library_, comm, communicator, group, memoryBytes_);
    Status isReady = made->allocate();
    SY_RETURN_IF_ERROR(agreement.agree(isReady.ok() ? made->warm() : isReady));
    groups_.push_back(made.get());
    return std::unique_ptr<DeviceGroup>(std::move(made));
  }

  std::shared_ptr<const NcclLibrary> library_;
  NcclOptions options_;
  std::vector<NcclGroup *> groups_; // those of the communicator's groups
  uint64_t memoryBytes_ = 0;
};

} // namespace
} // namespace comm

bool hasNccl() {
  return true;
}

Result<std::unique_ptr<DeviceGroups>> createNcclGroups(const NcclOptions &options) {
  SY_ASSIGN_OR_RETURN(std::shared_ptr<const comm::NcclLibrary> library, comm::NcclLibrary::load());
  return std::unique_ptr<DeviceGroups>(
      std::make_unique<comm::NcclGroups>(std::move(library), options));
}

} // namespace switchyard
