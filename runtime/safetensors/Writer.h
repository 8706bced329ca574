// Writes safetensors files and Hugging Face folders of them, streaming: the tensors are declared
// first, then their bytes follow in the same order, in chunks of any size. What is written is a
// part of an AtomicFolder under construction.
#pragma once

#include "runtime/core/File.h"
#include "runtime/safetensors/TensorDType.h"

#include <optional>

namespace switchyard {

struct TensorSpec {
  std::string name;
  TensorDType dtype = TensorDType::F32;
  std::vector<int64_t> shape;
};

/// Checks `specs` and gives the bytes of each: shapes that do not overflow, names that are there,
/// valid and distinct.
Result<std::vector<uint64_t>> byteCounts(std::span<const TensorSpec> specs);

/// The order in which the safetensors library writes tensors: larger dtypes first, so that all are
/// aligned, then by name.
void sortAsSafetensors(std::vector<TensorSpec> &specs);

/// One file, with the metadata that transformers asks for ({"format": "pt"}).
class SafetensorsWriter {
public:
  static Result<SafetensorsWriter> create(const std::string &path,
                                          std::span<const TensorSpec> specs);

  /// The next bytes. Refused past the end of the last tensor.
  Status append(std::span<const std::byte> bytes);
  /// The file is on the disk, whoever commits the folder. Refused if bytes are missing.
  Status finish();

  uint64_t bytesMissing() const { return missing_; }

private:
  SafetensorsWriter(AtomicFile file, std::string path, uint64_t missing)
      : file_(std::move(file)), path_(std::move(path)), missing_(missing) {}

  AtomicFile file_;
  std::string path_;
  uint64_t missing_ = 0;
};

/// As transformers' save_pretrained before version 5.
inline constexpr uint64_t kDefaultMaxShardBytes = 5'000'000'000;

/// The weights of a Hugging Face folder: model.safetensors, or, if that would have more than
/// `maxShardBytes` of tensors, model-00001-of-0000N.safetensors and the index. A tensor larger than
/// that has a file of its own.
class CheckpointWriter {
public:
  static Result<CheckpointWriter> create(const std::string &folder, std::vector<TensorSpec> specs,
                                         uint64_t maxShardBytes = kDefaultMaxShardBytes);

  Status append(std::span<const std::byte> bytes);
  Status finish();

private:
  struct Shard {
    std::string name;
    size_t begin = 0; // of specs_
    size_t end = 0;
  };

  CheckpointWriter() = default;
  void split(std::span<const uint64_t> bytes, uint64_t maxShardBytes);
  Status openNextShard();
  Status writeIndex() const;

  std::string folder_;
  std::vector<TensorSpec> specs_;
  std::vector<Shard> shards_;
  uint64_t totalBytes_ = 0;
  size_t nextShard_ = 0;
  std::optional<SafetensorsWriter> writer_;
};

} // namespace switchyard
