// One safetensors file, read strictly: 8 bytes of header length N (little endian), N bytes of JSON,
// the tensors' bytes without gap or overlap up to the end of the file
// (https://github.com/huggingface/safetensors, README "Format").
//
// open() reads the header only. read() reads what it is asked for; bytes() maps the file on its
// first call, and the disk is read when what it gives is touched.
#pragma once

#include "runtime/core/File.h"
#include "runtime/safetensors/TensorDType.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

namespace switchyard {

/// A tensor as the header declares it: row-major, [begin, end) of the bytes behind the header.
struct TensorEntry {
  std::string name;
  TensorDType dtype = TensorDType::F32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
  uint32_t shard = 0; // of a Checkpoint: the index of its file

  uint64_t byteCount() const { return end - begin; }
  int64_t count() const { return static_cast<int64_t>(byteCount()) / byteSize(dtype); }
};

/// The format's own limit of the header's length.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// Safe to use from several threads at once.
class SafetensorsFile {
public:
  /// Fails with InvalidInput, naming the file and the tensor, what was found and what was expected:
  /// a header that is longer than its limit or the file, that is no object of the format's form, or
  /// that has a key twice; a dtype that is unknown; a shape that overflows or does not give the
  /// tensor's bytes; tensors that overlap, leave a hole, or do not end where the file does.
  static Result<SafetensorsFile> open(const std::string &path);

  const std::string &path() const { return path_; }
  /// In the order of their bytes.
  std::span<const TensorEntry> tensors() const { return tensors_; }
  const TensorEntry *find(std::string_view name) const;
  /// The strings under "__metadata__".
  const std::map<std::string, std::string> &metadata() const { return metadata_; }

  /// The bytes of elements [begin, end) of `entry`, one of tensors(). Valid as long as the file;
  /// not aligned.
  Result<std::span<const std::byte>> bytes(const TensorEntry &entry, int64_t begin,
                                           int64_t end) const;
  Result<std::span<const std::byte>> bytes(const TensorEntry &entry) const;
  /// The same to `out`, which has their size.
  Status read(const TensorEntry &entry, int64_t begin, int64_t end, std::span<std::byte> out) const;

  /// How many bytes were asked for so far, the header's included: a test counts with it what is
  /// really read.
  uint64_t bytesRead() const { return lazy_->bytesRead; }

private:
  struct Lazy {
    std::mutex mutex;
    std::optional<MappedFile> map;
    std::optional<FileReader> reader;
    std::atomic<uint64_t> bytesRead = 0;
  };

  SafetensorsFile() : lazy_(std::make_unique<Lazy>()) {}
  Status readHeader(std::string_view header);
  Status checkElements(const TensorEntry &entry, int64_t begin, int64_t end) const;
  Status checkSize(uint64_t bytes) const;
  /// Where its bytes are in the file.
  uint64_t placeOf(const TensorEntry &entry, int64_t begin) const {
    return dataBegin_ + entry.begin + static_cast<uint64_t>(begin * byteSize(entry.dtype));
  }

  std::string path_;
  uint64_t fileBytes_ = 0;
  uint64_t dataBegin_ = 0;
  std::vector<TensorEntry> tensors_;
  std::vector<uint32_t> byName_;
  std::map<std::string, std::string> metadata_;
  std::unique_ptr<Lazy> lazy_;
};

} // namespace switchyard
