#include "runtime/device/cuda/Staging.h"

#include "kernels/cuda/Kernels.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace switchyard {

namespace {

/// Buffers start at multiples of this. Values that are read back from nearer places are copied at
/// once, with the padding between them.
constexpr uint64_t kPadding = 256;

Status createEvent(cudaEvent_t &event) {
  return statusOf(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                  "cudaEventCreateWithFlags");
}

Status waitFor(cudaEvent_t event) {
  return statusOf(cudaEventSynchronize(event), "cudaEventSynchronize");
}

Status copyAsync(void *to, const void *from, uint64_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  const char *call = kind == cudaMemcpyHostToDevice   ? "cudaMemcpyAsync to the device"
                     : kind == cudaMemcpyDeviceToHost ? "cudaMemcpyAsync from the device"
                                                      : "cudaMemcpyAsync on the device";
  return statusOf(cudaMemcpyAsync(to, from, bytes, kind, stream), call);
}

} // namespace

Status statusOf(cudaError_t error, const char *call) {
  if (auto fault = kernels::cuda::faultOf(error, call))
    return Status::failed(*fault);
  return {};
}

Staging::~Staging() {
  for (Half &half : halves_) {
    if (half.event)
      cudaEventDestroy(half.event);
    if (half.data)
      cudaFreeHost(half.data);
  }
}

Status Staging::create() {
  for (Half &half : halves_) {
    SY_RETURN_IF_ERROR(statusOf(cudaMallocHost(&half.data, kHalf), "cudaMallocHost"));
    SY_RETURN_IF_ERROR(createEvent(half.event));
  }
  return {};
}

Status Staging::copyIn(void *to, const void *from, uint64_t bytes, cudaStream_t stream) {
  for (uint64_t done = 0; done < bytes; done += kHalf) {
    Half &half = takeHalf();
    uint64_t piece = std::min(kHalf, bytes - done);
    SY_RETURN_IF_ERROR(waitFor(half.event)); // for the copy that used it last
    std::memcpy(half.data, static_cast<const std::byte *>(from) + done, piece);
    SY_RETURN_IF_ERROR(copyAsync(static_cast<std::byte *>(to) + done, half.data, piece,
                                 cudaMemcpyHostToDevice, stream));
    SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(half.event, stream), "cudaEventRecord"));
  }
  return {};
}

Status Staging::copyOut(void *to, const void *from, uint64_t bytes, cudaStream_t stream) {
  auto empty = [&](const Half &half, uint64_t at, uint64_t count) -> Status {
    SY_RETURN_IF_ERROR(waitFor(half.event));
    std::memcpy(static_cast<std::byte *>(to) + at, half.data, count);
    return {};
  };
  const Half *last = nullptr; // the piece before, still on its way
  for (uint64_t done = 0; done < bytes; done += kHalf) {
    Half &half = takeHalf();
    uint64_t piece = std::min(kHalf, bytes - done);
    SY_RETURN_IF_ERROR(waitFor(half.event));
    SY_RETURN_IF_ERROR(copyAsync(half.data, static_cast<const std::byte *>(from) + done, piece,
                                 cudaMemcpyDeviceToHost, stream));
    SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(half.event, stream), "cudaEventRecord"));
    if (last)
      SY_RETURN_IF_ERROR(empty(*last, done - kHalf, kHalf));
    last = &half;
    if (done + piece == bytes)
      return empty(half, done, piece);
  }
  return {};
}

Uploads::~Uploads() {
  for (Block &block : blocks_) {
    for (cudaEvent_t event : {block.arrived, block.copied})
      if (event)
        cudaEventDestroy(event);
    if (block.host)
      cudaFreeHost(block.host);
  }
  if (blocks_[0].device)
    (void)cudaFree(blocks_[0].device);
  if (stream_)
    cudaStreamDestroy(stream_);
}

Status Uploads::create() {
  SY_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                              "cudaStreamCreateWithFlags"));
  void *memory = nullptr;
  SY_RETURN_IF_ERROR(statusOf(cudaMalloc(&memory, kDeviceBytes), "cudaMalloc"));
  for (size_t i = 0; i < kBlocks; ++i) {
    Block &block = blocks_[i];
    block.device = static_cast<std::byte *>(memory) + i * kBlockBytes;
    SY_RETURN_IF_ERROR(statusOf(cudaMallocHost(reinterpret_cast<void **>(&block.host), kBlockBytes),
                                "cudaMallocHost"));
    SY_RETURN_IF_ERROR(createEvent(block.arrived));
    SY_RETURN_IF_ERROR(createEvent(block.copied));
  }
  runs_.reserve(64);
  return {};
}

Status Uploads::add(void *to, const void *from, uint64_t bytes, bool begins, cudaStream_t stream) {
  if (bytes == 0)
    return {};
  auto *target = static_cast<std::byte *>(to);
  bool joins = !begins && !runs_.empty() && target == runs_.back().to + runs_.back().bytes;
  uint64_t at = joins ? used_ : (used_ + kPadding - 1) / kPadding * kPadding;
  if (at + bytes > kBlockBytes) {
    SY_RETURN_IF_ERROR(flush(stream));
    joins = false;
    at = 0;
  }
  Block &block = blocks_[current_];
  if (runs_.empty())
    SY_RETURN_IF_ERROR(waitFor(block.copied)); // for what it held last
  std::memcpy(block.host + at, from, bytes);
  if (joins)
    runs_.back().bytes += bytes;
  else
    runs_.push_back({target, at, bytes});
  used_ = at + bytes;
  return {};
}

Status Uploads::flush(cudaStream_t stream) {
  if (runs_.empty())
    return {};
  Block &block = blocks_[current_];
  SY_RETURN_IF_ERROR(copyAsync(block.device, block.host, used_, cudaMemcpyHostToDevice, stream_));
  SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(block.arrived, stream_), "cudaEventRecord"));
  SY_RETURN_IF_ERROR(statusOf(cudaStreamWaitEvent(stream, block.arrived), "cudaStreamWaitEvent"));
  for (const Run &run : runs_)
    SY_RETURN_IF_ERROR(
        copyAsync(run.to, block.device + run.at, run.bytes, cudaMemcpyDeviceToDevice, stream));
  SY_RETURN_IF_ERROR(statusOf(cudaEventRecord(block.copied, stream), "cudaEventRecord"));
  current_ = (current_ + 1) % kBlocks;
  used_ = 0;
  runs_.clear();
  return {};
}

CudaReadback::~CudaReadback() {
  if (event_) {
    (void)cudaEventSynchronize(event_); // nothing is copied to memory that has gone
    cudaEventDestroy(event_);
  }
  if (data_)
    cudaFreeHost(data_);
}

Status CudaReadback::create(uint64_t bytes) {
  void *memory = nullptr;
  if (bytes > 0)
    SY_RETURN_IF_ERROR(statusOf(cudaMallocHost(&memory, bytes), "cudaMallocHost"));
  data_ = static_cast<std::byte *>(memory);
  bytes_ = bytes;
  return createEvent(event_);
}

Status CudaReadback::begin(std::span<const Piece> pieces) {
  for (size_t i = 0; i < pieces.size();) {
    const Piece &first = pieces[i];
    auto from = reinterpret_cast<uintptr_t>(first.from);
    uint64_t bytes = first.bytes;
    // Pieces that are as far apart here as there go together.
    for (++i; i < pieces.size(); ++i) {
      auto next = reinterpret_cast<uintptr_t>(pieces[i].from);
      bool joins = next >= from + bytes && next - from - bytes < kPadding &&
                   pieces[i].at >= first.at && pieces[i].at - first.at == next - from;
      if (!joins)
        break;
      bytes = next - from + pieces[i].bytes;
    }
    if (bytes > 0)
      SY_RETURN_IF_ERROR(
          copyAsync(data_ + first.at, first.from, bytes, cudaMemcpyDeviceToHost, stream_));
  }
  return statusOf(cudaEventRecord(event_, stream_), "cudaEventRecord");
}

Status CudaReadback::wait() {
  return waitFor(event_);
}

} // namespace switchyard
