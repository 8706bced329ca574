// The weights of a Hugging Face folder: model.safetensors, or the files that
// model.safetensors.index.json lists.
//
// open() reads and checks the headers of all files, no weight: that is all the importer needs.
// bytes() maps a file when the first of its tensors is asked for.
#pragma once

#include "runtime/safetensors/SafetensorsFile.h"

namespace switchyard {

inline constexpr char kSingleFileName[] = "model.safetensors";
inline constexpr char kIndexFileName[] = "model.safetensors.index.json";

/// Safe to use from several threads at once.
class Checkpoint {
public:
  /// As transformers, takes the single file where both are there. Fails with InvalidInput as
  /// SafetensorsFile::open, and if the folder has neither; if the index is not of its form, names a
  /// file outside of the folder (absolute, `..`, in a subfolder), a file that is missing, a tensor
  /// that its file lacks, or not a tensor that its file has; if a tensor is in two files; if the
  /// index's total_size is not the sum of the tensors' bytes.
  static Result<Checkpoint> open(const std::string &folder);

  /// Whether the folder has weights at all (a config.json may stand alone).
  static bool existsIn(const std::string &folder);

  const std::string &folder() const { return folder_; }
  /// Ordered by name.
  std::span<const TensorEntry> tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  const TensorEntry *find(std::string_view name) const;
  /// The file that has `entry`.
  const std::string &pathOf(const TensorEntry &entry) const { return files_[entry.shard].path(); }

  /// The bytes of elements [begin, end) of `entry`, one of tensors(). Valid as long as the
  /// checkpoint; not aligned.
  Result<std::span<const std::byte>> bytes(const TensorEntry &entry, int64_t begin,
                                           int64_t end) const {
    return files_[entry.shard].bytes(entry, begin, end);
  }
  Result<std::span<const std::byte>> bytes(const TensorEntry &entry) const {
    return files_[entry.shard].bytes(entry);
  }
  /// The same to `out`, which has their size.
  Status read(const TensorEntry &entry, int64_t begin, int64_t end,
              std::span<std::byte> out) const {
    return files_[entry.shard].read(entry, begin, end, out);
  }

  /// The sum over the files of SafetensorsFile::bytesRead().
  uint64_t bytesRead() const;

private:
  Checkpoint() = default;
  Status addFile(const std::string &name);
  Status openIndexed();

  std::string folder_;
  std::vector<SafetensorsFile> files_;
  std::vector<TensorEntry> tensors_;
};

} // namespace switchyard
