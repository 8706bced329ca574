#include "runtime/safetensors/Checkpoint.h"

#include "runtime/core/Json.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {

namespace {

/// A file in the folder itself: the index comes from outside and must not reach elsewhere.
bool isPlainFileName(const std::string &name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

struct Listed {
  std::string tensor;
  std::string file;
};

struct Index {
  std::vector<Listed> tensors;    // ordered by tensor
  std::vector<std::string> files; // ordered, distinct
  std::optional<uint64_t> totalBytes;
};

Result<Index> readIndex(const std::string &path) {
  SY_ASSIGN_OR_RETURN(Json json, readJson(path, {.maxDepth = 8}));
  if (!json.isObject())
    return Status::invalidInput(
        fmt::format("{}: is {}, expected an object", path, json.describe()));
  Result<const Json *> map = getObject(json, "weight_map");
  if (!map.ok())
    return map.status().within(path);
  Index index;
  for (const Json::Member &member : (*map)->members()) {
    if (!member.value.isString() || !isPlainFileName(member.value.string()))
      return Status::invalidInput(
          fmt::format("{}: tensor {} is said to be in {}, expected the name of a file in the "
                      "same folder",
                      path, quoteJson(member.key), member.value.describe()));
    index.tensors.push_back({member.key, member.value.string()});
    index.files.push_back(member.value.string());
  }
  std::ranges::sort(index.tensors, {}, &Listed::tensor);
  std::ranges::sort(index.files);
  index.files.erase(std::ranges::unique(index.files).begin(), index.files.end());
  const Json *metadata = json.find("metadata");
  if (metadata && metadata->isObject() && metadata->find("total_size")) {
    Result<int64_t> total = getInteger(*metadata, "total_size", 0, INT64_MAX);
    if (!total.ok())
      return total.status().within(path);
    index.totalBytes = static_cast<uint64_t>(*total);
  }
  return index;
}

} // namespace

bool Checkpoint::existsIn(const std::string &folder) {
  return fileExists(joinPath(folder, kSingleFileName)) ||
         fileExists(joinPath(folder, kIndexFileName));
}

Result<Checkpoint> Checkpoint::open(const std::string &folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  if (fileExists(joinPath(folder, kSingleFileName)))
    SY_RETURN_IF_ERROR(checkpoint.addFile(kSingleFileName));
  else if (fileExists(joinPath(folder, kIndexFileName)))
    SY_RETURN_IF_ERROR(checkpoint.openIndexed());
  else
    return Status::invalidInput(
        fmt::format("{}: has neither {} nor {}; name the folder of a model with weights in "
                    "the safetensors format",
                    folder, kSingleFileName, kIndexFileName));
  return checkpoint;
}

Status Checkpoint::addFile(const std::string &name) {
  SY_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(joinPath(folder_, name)));
  auto shard = static_cast<uint32_t>(files_.size());
  for (TensorEntry entry : file.tensors()) {
    entry.shard = shard;
    tensors_.push_back(std::move(entry));
  }
  files_.push_back(std::move(file));
  std::ranges::sort(tensors_, {}, &TensorEntry::name);
  return {};
}

Status Checkpoint::openIndexed() {
  std::string path = joinPath(folder_, kIndexFileName);
  SY_ASSIGN_OR_RETURN(Index index, readIndex(path));
  for (const std::string &file : index.files) {
    if (!fileExists(joinPath(folder_, file)))
      return Status::invalidInput(fmt::format("{}: is missing, though {} lists it; fetch it again",
                                              joinPath(folder_, file), kIndexFileName));
    SY_RETURN_IF_ERROR(addFile(file));
  }
  // Both are ordered by name: the first difference is the fault.
  uint64_t total = 0;
  for (size_t i = 0; i < std::max(tensors_.size(), index.tensors.size()); ++i) {
    const TensorEntry *found = i < tensors_.size() ? &tensors_[i] : nullptr;
    const Listed *listed = i < index.tensors.size() ? &index.tensors[i] : nullptr;
    if (i > 0 && found && found->name == tensors_[i - 1].name)
      return Status::invalidInput(fmt::format("{}: tensor {} is also in {}; keep one of them",
                                              pathOf(*found), quoteJson(found->name),
                                              pathOf(tensors_[i - 1])));
    if (!found || (listed && listed->tensor < found->name))
      return Status::invalidInput(fmt::format("{}: lacks the tensor {}, though {} lists it there",
                                              joinPath(folder_, listed->file),
                                              quoteJson(listed->tensor), kIndexFileName));
    if (!listed || found->name < listed->tensor)
      return Status::invalidInput(fmt::format("{}: has the tensor {}, which {} does not list",
                                              pathOf(*found), quoteJson(found->name),
                                              kIndexFileName));
    if (pathOf(*found) != joinPath(folder_, listed->file))
      return Status::invalidInput(fmt::format("{}: tensor {} is said to be in {}, but is in {}",
                                              path, quoteJson(found->name), quoteJson(listed->file),
                                              pathOf(*found)));
    total += found->byteCount();
  }
  if (index.totalBytes && *index.totalBytes != total)
    return Status::invalidInput(
        fmt::format("{}: \"total_size\" is {}, expected {}, the sum of the tensors' bytes", path,
                    *index.totalBytes, total));
  return {};
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const TensorEntry &entry : tensors_)
    names.push_back(entry.name);
  return names;
}

const TensorEntry *Checkpoint::find(std::string_view name) const {
  auto nameOf = [](const TensorEntry &entry) -> std::string_view { return entry.name; };
  auto found = std::ranges::lower_bound(tensors_, name, {}, nameOf);
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

uint64_t Checkpoint::bytesRead() const {
  uint64_t sum = 0;
  for (const SafetensorsFile &file : files_)
    sum += file.bytesRead();
  return sum;
}

} // namespace switchyard
