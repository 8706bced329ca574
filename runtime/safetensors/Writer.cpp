#include "runtime/safetensors/Writer.h"

#include "runtime/core/Json.h"
#include "runtime/safetensors/Checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <unordered_set>

namespace switchyard {

Result<std::vector<uint64_t>> byteCounts(std::span<const TensorSpec> specs) {
  std::vector<uint64_t> counts;
  std::unordered_set<std::string_view> seen;
  int64_t total = 0;
  for (const TensorSpec &spec : specs) {
    if (spec.name.empty() || spec.name == "__metadata__" || !seen.insert(spec.name).second)
      return Status::failed(fmt::format("a tensor called {} cannot be written: the name is {}",
                                        quoteJson(spec.name),
                                        seen.contains(spec.name) ? "there twice" : "not allowed"));
    int64_t bytes = byteSize(spec.dtype);
    bool bad = false;
    for (int64_t extent : spec.shape)
      bad = bad || extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes);
    if (bad || __builtin_add_overflow(total, bytes, &total))
      return Status::failed(
          fmt::format("tensor {}: the shape [{}] is negative or overflows 64 bits",
                      quoteJson(spec.name), fmt::join(spec.shape, ", ")));
    counts.push_back(static_cast<uint64_t>(bytes));
  }
  return counts;
}

void sortAsSafetensors(std::vector<TensorSpec> &specs) {
  std::ranges::sort(specs, [](const TensorSpec &a, const TensorSpec &b) {
    return std::make_tuple(-byteSize(a.dtype), a.dtype, std::string_view(a.name)) <
           std::make_tuple(-byteSize(b.dtype), b.dtype, std::string_view(b.name));
  });
}

/// The header with its length in front, padded by spaces so that the tensors begin at a multiple
/// of 8.
static std::string headerText(std::span<const TensorSpec> specs, std::span<const uint64_t> bytes) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  uint64_t place = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    header += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          quoteJson(specs[i].name), name(specs[i].dtype),
                          fmt::join(specs[i].shape, ","), place, place + bytes[i]);
    place += bytes[i];
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i)
    length[i] = static_cast<char>(header.size() >> (8 * i));
  return length + header;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string &path,
                                                    std::span<const TensorSpec> specs) {
  SY_ASSIGN_OR_RETURN(std::vector<uint64_t> bytes, byteCounts(specs));
  std::string header = headerText(specs, bytes);
  if (header.size() - 8 > kMaxSafetensorsHeaderBytes)
    return Status::failed(
        fmt::format("{}: the header would have {} bytes, at most {} can be read; write more files",
                    path, header.size() - 8, kMaxSafetensorsHeaderBytes));
  SY_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, FilePlace::InAtomicFolder));
  SY_RETURN_IF_ERROR(file.write(header));
  return SafetensorsWriter(std::move(file), path,
                           std::accumulate(bytes.begin(), bytes.end(), uint64_t{0}));
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > missing_)
    return Status::failed(
        fmt::format("{}: {} bytes are more than the {} that the declared tensors lack", path_,
                    bytes.size(), missing_));
  SY_RETURN_IF_ERROR(file_.write(bytes));
  missing_ -= bytes.size();
  return {};
}

Status SafetensorsWriter::finish() {
  if (missing_ > 0)
    return Status::failed(
        fmt::format("{}: {} bytes of the declared tensors were not written", path_, missing_));
  SY_RETURN_IF_ERROR(file_.sync());
  return file_.commit();
}

Result<CheckpointWriter> CheckpointWriter::create(const std::string &folder,
                                                  std::vector<TensorSpec> specs,
                                                  uint64_t maxShardBytes) {
  CheckpointWriter writer;
  writer.folder_ = folder;
  writer.specs_ = std::move(specs);
  SY_ASSIGN_OR_RETURN(std::vector<uint64_t> bytes, byteCounts(writer.specs_));
  writer.split(bytes, maxShardBytes);
  SY_RETURN_IF_ERROR(writer.openNextShard());
  return writer;
}

void CheckpointWriter::split(std::span<const uint64_t> bytes, uint64_t maxShardBytes) {
  shards_.emplace_back();
  uint64_t filled = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (filled > 0 && bytes[i] > maxShardBytes - std::min(filled, maxShardBytes)) {
      shards_.emplace_back().begin = i;
      filled = 0;
    }
    filled += bytes[i];
    totalBytes_ += bytes[i];
    shards_.back().end = i + 1;
  }
  for (size_t i = 0; i < shards_.size(); ++i)
    shards_[i].name = shards_.size() == 1
                          ? kSingleFileName
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
}

Status CheckpointWriter::openNextShard() {
  const Shard &shard = shards_[nextShard_++];
  auto specs = std::span(specs_).subspan(shard.begin, shard.end - shard.begin);
  SY_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                      SafetensorsWriter::create(joinPath(folder_, shard.name), specs));
  writer_.emplace(std::move(writer));
  return {};
}

Status CheckpointWriter::append(std::span<const std::byte> bytes) {
  while (bytes.size() > writer_->bytesMissing() && nextShard_ < shards_.size()) {
    auto head = bytes.first(writer_->bytesMissing());
    SY_RETURN_IF_ERROR(writer_->append(head));
    bytes = bytes.subspan(head.size());
    SY_RETURN_IF_ERROR(writer_->finish());
    SY_RETURN_IF_ERROR(openNextShard());
  }
  return writer_->append(bytes);
}

Status CheckpointWriter::finish() {
  SY_RETURN_IF_ERROR(writer_->finish());
  while (nextShard_ < shards_.size()) { // only empty tensors are left, or bytes are missing
    SY_RETURN_IF_ERROR(openNextShard());
    SY_RETURN_IF_ERROR(writer_->finish());
  }
  return shards_.size() > 1 ? writeIndex() : Status();
}

Status CheckpointWriter::writeIndex() const {
  Json map = Json::object();
  for (const Shard &shard : shards_)
    for (size_t i = shard.begin; i < shard.end; ++i)
      map.set(specs_[i].name, shard.name);
  Json metadata = Json::object();
  metadata.set("total_size", static_cast<int64_t>(totalBytes_));
  Json index = Json::object();
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(map));
  return writeFileAtomically(joinPath(folder_, kIndexFileName), index.dump(2) + "\n",
                             FilePlace::InAtomicFolder);
}

} // namespace switchyard
