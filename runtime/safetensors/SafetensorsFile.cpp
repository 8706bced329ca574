#include "runtime/safetensors/SafetensorsFile.h"

#include "runtime/core/Json.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace switchyard {

namespace {

/// What the messages about one tensor of a file begin with.
Status tensorFault(const std::string &path, const std::string &name, const std::string &message) {
  return Status::invalidInput(fmt::format("{}: tensor {}: {}", path, quoteJson(name), message));
}

/// A non-negative integer of the array `field`.
Result<uint64_t> sizeOf(const Json &value, const char *field) {
  if (!value.isInteger() || value.integer() < 0)
    return Status::invalidInput(
        fmt::format("\"{}\" has {}, expected integers from 0 on", field, value.describe()));
  return static_cast<uint64_t>(value.integer());
}

Status readShape(const Json &fields, TensorEntry &entry) {
  SY_ASSIGN_OR_RETURN(const Json *shape, getArray(fields, "shape"));
  int64_t bytes = byteSize(entry.dtype);
  bool overflow = false;
  for (const Json &extent : shape->items()) {
    SY_ASSIGN_OR_RETURN(uint64_t size, sizeOf(extent, "shape"));
    entry.shape.push_back(static_cast<int64_t>(size));
    overflow = overflow || __builtin_mul_overflow(bytes, entry.shape.back(), &bytes);
  }
  if (overflow)
    return Status::invalidInput(fmt::format("the shape {} overflows 64 bits", shape->dump()));
  if (static_cast<uint64_t>(bytes) != entry.byteCount())
    return Status::invalidInput(fmt::format(
        "data_offsets [{}, {}] are {} bytes, expected {} for {} of shape {}", entry.begin,
        entry.end, entry.byteCount(), bytes, name(entry.dtype), shape->dump()));
  return {};
}

Status readOffsets(const Json &fields, uint64_t dataBytes, TensorEntry &entry) {
  SY_ASSIGN_OR_RETURN(const Json *offsets, getArray(fields, "data_offsets"));
  if (offsets->items().size() != 2)
    return Status::invalidInput(
        fmt::format("\"data_offsets\" is {}, expected [begin, end]", offsets->describe()));
  SY_ASSIGN_OR_RETURN(entry.begin, sizeOf(offsets->items()[0], "data_offsets"));
  SY_ASSIGN_OR_RETURN(entry.end, sizeOf(offsets->items()[1], "data_offsets"));
  if (entry.begin > entry.end || entry.end > dataBytes)
    return Status::invalidInput(fmt::format("data_offsets are [{}, {}], expected begin <= end <= "
                                            "{}, the bytes behind the header; the file "
                                            "is cut off or damaged, fetch it again",
                                            entry.begin, entry.end, dataBytes));
  return {};
}

Status readEntry(const Json &fields, uint64_t dataBytes, TensorEntry &entry) {
  if (!fields.isObject())
    return Status::invalidInput(fmt::format(
        "is {}, expected an object with dtype, shape and data_offsets", fields.describe()));
  for (const Json::Member &field : fields.members())
    if (field.key != "dtype" && field.key != "shape" && field.key != "data_offsets")
      return Status::invalidInput(fmt::format(
          "has the field {}, expected only dtype, shape and data_offsets", quoteJson(field.key)));
  SY_ASSIGN_OR_RETURN(std::string dtype, getString(fields, "dtype"));
  std::optional<TensorDType> known = tensorDTypeFromName(dtype);
  if (!known)
    return Status::invalidInput(fmt::format(
        "the dtype {} is unknown, expected one such as \"F32\", \"BF16\", \"F16\" or \"I64\"",
        (*fields.find("dtype")).describe()));
  entry.dtype = *known;
  SY_RETURN_IF_ERROR(readOffsets(fields, dataBytes, entry));
  return readShape(fields, entry);
}

Status readMetadata(const std::string &path, const Json &object,
                    std::map<std::string, std::string> &metadata) {
  if (!object.isObject())
    return Status::invalidInput(fmt::format(
        "{}: \"__metadata__\" is {}, expected an object of strings", path, object.describe()));
  for (const Json::Member &member : object.members()) {
    if (!member.value.isString())
      return Status::invalidInput(fmt::format("{}: {} of \"__metadata__\" is {}, expected a string",
                                              path, quoteJson(member.key),
                                              member.value.describe()));
    metadata[member.key] = member.value.string();
  }
  return {};
}

/// `tensors`, ordered by their bytes, cover [0, dataBytes) without gap or overlap.
Status checkCover(const std::string &path, std::span<const TensorEntry> tensors,
                  uint64_t dataBytes) {
  uint64_t place = 0;
  const TensorEntry *previous = nullptr;
  for (const TensorEntry &entry : tensors) {
    std::string before = previous ? "tensor " + quoteJson(previous->name) : "the header";
    if (entry.begin < place)
      return tensorFault(path, entry.name,
                         fmt::format("its bytes [{}, {}) overlap those of {}, which end at {}",
                                     entry.begin, entry.end, before, place));
    if (entry.begin > place)
      return tensorFault(
          path, entry.name,
          fmt::format(
              "begins at {}, expected {}, where {} ends: the bytes between belong to no tensor",
              entry.begin, place, before));
    place = entry.end;
    previous = &entry;
  }
  if (place != dataBytes)
    return Status::invalidInput(
        fmt::format("{}: the tensors end at {} but {} bytes follow the header: the last {} "
                    "belong to no tensor",
                    path, place, dataBytes, dataBytes - place));
  return {};
}

/// The order of the tensors' bytes; of empty ones at the same place, the order of their names.
bool liesBefore(const TensorEntry &a, const TensorEntry &b) {
  return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
}

} // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  SafetensorsFile file;
  file.path_ = path;
  SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path));
  file.fileBytes_ = reader.size();
  SY_ASSIGN_OR_RETURN(std::string length, reader.read(0, 8));
  uint64_t headerBytes = 0;
  for (size_t i = 8; i-- > 0;)
    headerBytes = headerBytes << 8 | static_cast<unsigned char>(length[i]);
  if (headerBytes > kMaxSafetensorsHeaderBytes)
    return Status::invalidInput(
        fmt::format("{}: the header's length is {}, expected at most {}; is it a safetensors file?",
                    path, headerBytes, kMaxSafetensorsHeaderBytes));
  if (headerBytes > file.fileBytes_ - 8)
    return Status::invalidInput(
        fmt::format("{}: the header's length is {}, expected at most {}, what the file still has; "
                    "it is cut off, fetch it again",
                    path, headerBytes, file.fileBytes_ - 8));
  file.dataBegin_ = 8 + headerBytes;
  SY_ASSIGN_OR_RETURN(std::string header, reader.read(8, headerBytes));
  file.lazy_->bytesRead += file.dataBegin_;
  SY_RETURN_IF_ERROR(file.readHeader(header));
  return file;
}

Status SafetensorsFile::readHeader(std::string_view header) {
  if (!header.starts_with('{'))
    return Status::invalidInput(path_ +
                                ": the header is not a JSON object; is it a safetensors file?");
  constexpr JsonLimits kLimits = {.maxBytes = kMaxSafetensorsHeaderBytes, .maxDepth = 3};
  SY_ASSIGN_OR_RETURN(Json json, parseJson(header, path_ + ": header", kLimits));
  uint64_t dataBytes = fileBytes_ - dataBegin_;
  for (const Json::Member &member : json.members()) {
    if (member.key == "__metadata__") {
      SY_RETURN_IF_ERROR(readMetadata(path_, member.value, metadata_));
      continue;
    }
    TensorEntry entry;
    entry.name = member.key;
    if (Status status = readEntry(member.value, dataBytes, entry); !status.ok())
      return tensorFault(path_, entry.name, status.message());
    tensors_.push_back(std::move(entry));
  }
  std::ranges::sort(tensors_, liesBefore);
  byName_.resize(tensors_.size());
  for (uint32_t i = 0; i < byName_.size(); ++i)
    byName_[i] = i;
  std::ranges::sort(byName_, {},
                    [&](uint32_t i) -> const std::string & { return tensors_[i].name; });
  return checkCover(path_, tensors_, dataBytes);
}

const TensorEntry *SafetensorsFile::find(std::string_view name) const {
  auto nameAt = [&](uint32_t i) -> std::string_view { return tensors_[i].name; };
  auto found = std::ranges::lower_bound(byName_, name, {}, nameAt);
  return found == byName_.end() || nameAt(*found) != name ? nullptr : &tensors_[*found];
}

Status SafetensorsFile::checkElements(const TensorEntry &entry, int64_t begin, int64_t end) const {
  return begin >= 0 && begin <= end && end <= entry.count()
             ? Status()
             : tensorFault(path_, entry.name,
                           fmt::format("elements [{}, {}) are asked for, it has {}", begin, end,
                                       entry.count()));
}

/// What it has when it is opened again.
Status SafetensorsFile::checkSize(uint64_t bytes) const {
  return bytes == fileBytes_ ? Status()
                             : Status::invalidInput(fmt::format(
                                   "{}: has {} bytes, but had {} when its header was read; do not "
                                   "change it meanwhile",
                                   path_, bytes, fileBytes_));
}

Result<std::span<const std::byte>> SafetensorsFile::bytes(const TensorEntry &entry, int64_t begin,
                                                          int64_t end) const {
  SY_RETURN_IF_ERROR(checkElements(entry, begin, end));
  std::lock_guard lock(lazy_->mutex);
  if (!lazy_->map) {
    SY_ASSIGN_OR_RETURN(MappedFile map, MappedFile::open(path_));
    SY_RETURN_IF_ERROR(checkSize(map.bytes().size()));
    lazy_->map = std::move(map);
  }
  const auto count = static_cast<uint64_t>((end - begin) * byteSize(entry.dtype));
  lazy_->bytesRead += count;
  return lazy_->map->bytes().subspan(placeOf(entry, begin), count);
}

Status SafetensorsFile::read(const TensorEntry &entry, int64_t begin, int64_t end,
                             std::span<std::byte> out) const {
  SY_RETURN_IF_ERROR(checkElements(entry, begin, end));
  {
    std::lock_guard lock(lazy_->mutex);
    if (!lazy_->reader) {
      SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path_));
      SY_RETURN_IF_ERROR(checkSize(reader.size()));
      lazy_->reader = std::move(reader);
    }
  }
  lazy_->bytesRead += out.size();
  return lazy_->reader->read(placeOf(entry, begin), out);
}

Result<std::span<const std::byte>> SafetensorsFile::bytes(const TensorEntry &entry) const {
  return bytes(entry, 0, entry.count());
}

} // namespace switchyard
