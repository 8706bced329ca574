// Pinned memory through which values go between the host and a GPU.
//
//   Staging      large copies in pieces, on one stream
//   Uploads      a program's inputs, on a stream of their own while the GPU still computes
//   CudaReadback a program's outputs
#pragma once

#include "runtime/device/Device.h"

#include <cuda_runtime_api.h>

#include <array>
#include <vector>

namespace switchyard {

/// Nothing, or Failed with the failing call and what CUDA says of it.
Status statusOf(cudaError_t error, const char *call);

/// Pinned memory in two halves: one is filled or emptied while the other is on its way.
class Staging {
public:
  static constexpr uint64_t kHalf = 8 << 20;

  ~Staging();
  Status create();

  /// Returns once `from` was read.
  Status copyIn(void *to, const void *from, uint64_t bytes, cudaStream_t stream);
  /// Returns once `to` was written.
  Status copyOut(void *to, const void *from, uint64_t bytes, cudaStream_t stream);

private:
  struct Half {
    void *data = nullptr;
    cudaEvent_t event = nullptr;
  };

  Half &takeHalf() { return halves_[next_++ % 2]; }

  Half halves_[2];
  unsigned next_ = 0;
};

/// Small copies to the device, collected until flush(). They go to a block of device memory on a
/// stream of their own, at once, and from there to their places on the computing stream, in turn:
/// a place may still be read by what was put on that stream before. The host waits only when all
/// blocks are on their way.
class Uploads {
public:
  static constexpr uint64_t kBlockBytes = 1 << 20;
  static constexpr size_t kBlocks = 8;
  /// Of GPU memory.
  static constexpr uint64_t kDeviceBytes = kBlocks * kBlockBytes;

  ~Uploads();
  Status create();

  /// Takes `bytes` (at most kBlockBytes) for `to`; returns once `from` was read. `begins`: `to` is
  /// where an allocation begins, and no copy may reach into it from the one before.
  Status add(void *to, const void *from, uint64_t bytes, bool begins, cudaStream_t stream);
  /// Puts the copies that were added on `stream`.
  Status flush(cudaStream_t stream);
  bool isEmpty() const { return runs_.empty(); }

private:
  /// One copy to its place; what follows right behind it joins it.
  struct Run {
    std::byte *to = nullptr;
    uint64_t at = 0; // in the block
    uint64_t bytes = 0;
  };
  struct Block {
    std::byte *host = nullptr;
    std::byte *device = nullptr;
    cudaEvent_t arrived = nullptr; // on the device
    cudaEvent_t copied = nullptr;  // to its places
  };

  cudaStream_t stream_ = nullptr;
  std::array<Block, kBlocks> blocks_ = {};
  size_t current_ = 0;
  uint64_t used_ = 0; // of the current block
  std::vector<Run> runs_;
};

class CudaReadback final : public Readback {
public:
  explicit CudaReadback(cudaStream_t stream) : stream_(stream) {}
  ~CudaReadback() override;
  Status create(uint64_t bytes);

  Status begin(std::span<const Piece> pieces) override;
  Status wait() override;
  std::span<const std::byte> bytes() const override { return {data_, bytes_}; }

private:
  cudaStream_t stream_;
  std::byte *data_ = nullptr;
  uint64_t bytes_ = 0;
  cudaEvent_t event_ = nullptr;
};

} // namespace switchyard
