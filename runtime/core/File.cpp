#include "runtime/core/File.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace switchyard {

std::string errnoText(int error) {
  std::string text = std::generic_category().message(error);
  switch (error) {
  case ENOENT:
    return text + "; check the path";
  case ENOTDIR:
    return text + "; a part of the path is a file";
  case EACCES:
  case EPERM:
    return text + "; check the permissions";
  case EROFS:
    return text + "; choose a place that can be written";
  case ENOSPC:
  case EDQUOT:
    return text + "; free some space and run again";
  case EMFILE:
  case ENFILE:
    return text + "; raise the limit of open files (ulimit -n)";
  case ENOTEMPTY:
  case EEXIST:
    return text + "; choose another place or remove it";
  default:
    return text;
  }
}

std::string joinPath(const std::string &folder, const std::string &name) {
  if (folder.empty())
    return name;
  return folder.back() == '/' ? folder + name : folder + '/' + name;
}

bool fileExists(const std::string &path) {
  return ::access(path.c_str(), F_OK) == 0;
}

namespace {

Status unreadable(const std::string &path, const std::string &why) {
  return Status::invalidInput(path + ": cannot be read: " + why);
}

Status unwritable(const std::string &path, int error) {
  return Status::failed(path + ": cannot be written: " + errnoText(error));
}

/// Closes a descriptor at the end of a scope.
struct Descriptor {
  explicit Descriptor(int value) : value(value) {}
  Descriptor(const Descriptor &) = delete;
  ~Descriptor() {
    if (value >= 0)
      ::close(value);
  }
  int value;
};

/// Opens a regular file and gives its size. Anything else would block or have no size.
Status openRegular(const std::string &path, Descriptor &descriptor, uint64_t &size) {
  descriptor.value = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor.value < 0)
    return unreadable(path, errnoText(errno));
  struct stat status;
  if (::fstat(descriptor.value, &status) != 0)
    return unreadable(path, errnoText(errno));
  if (!S_ISREG(status.st_mode))
    return unreadable(path, S_ISDIR(status.st_mode) ? "it is a folder; name a file"
                                                    : "it is not a regular file; name one");
  size = static_cast<uint64_t>(status.st_size);
  return {};
}

std::string folderOf(const std::string &path) {
  size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string nameOf(const std::string &path) {
  return path.substr(path.find_last_of('/') + 1);
}

/// A hidden name beside `path` for attempt `attempt`. The process id keeps processes apart, the
/// attempt what runs in one.
std::string temporaryName(const std::string &path, int attempt) {
  return joinPath(folderOf(path), "." + nameOf(path) + "." + std::to_string(::getpid()) + "-" +
                                      std::to_string(attempt) + ".tmp");
}

constexpr int kAttempts = 10000;

/// A signal may come while the disk is waited for.
int syncDescriptor(int descriptor) {
  while (::fsync(descriptor) != 0)
    if (errno != EINTR)
      return errno;
  return 0;
}

int openFile(const char *path, int flags, mode_t mode = 0) {
  int descriptor;
  do
    descriptor = ::open(path, flags, mode);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

/// Makes the entries of `folder` durable. Some file systems cannot, and say EINVAL.
int syncFolder(const std::string &folder) {
  Descriptor descriptor(openFile(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.value < 0)
    return errno;
  int error = syncDescriptor(descriptor.value);
  return error == EINVAL ? 0 : error;
}

int syncFile(const std::string &path) {
  Descriptor descriptor(openFile(path.c_str(), O_RDONLY | O_CLOEXEC));
  return descriptor.value < 0 ? errno : syncDescriptor(descriptor.value);
}

/// Makes `folder` durable with all that is in it: one wait for the disk may serve many files.
int syncTree(const std::string &folder) {
  std::error_code error;
  std::vector<std::string> folders = {folder};
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    if (entry->is_directory())
      folders.push_back(entry->path());
    else if (int failure = syncFile(entry->path()))
      return failure;
  }
  int failure = error.value();
  for (size_t i = folders.size(); i-- > 0 && !failure;)
    failure = syncFolder(folders[i]);
  return failure;
}

/// Nothing, or an empty folder.
bool canBecomeFolder(const std::string &path) {
  std::error_code error;
  auto status = std::filesystem::symlink_status(path, error);
  if (status.type() == std::filesystem::file_type::not_found)
    return true;
  return std::filesystem::is_directory(status) && std::filesystem::is_empty(path, error) && !error;
}

Status occupied(const std::string &target) {
  return Status::invalidInput(target +
                              ": exists already and is not an empty folder; choose another "
                              "folder or remove it");
}

} // namespace

Result<MappedFile> MappedFile::open(const std::string &path) {
  Descriptor descriptor(-1);
  uint64_t size = 0;
  SY_RETURN_IF_ERROR(openRegular(path, descriptor, size));
  MappedFile file;
  file.path_ = path;
  if (size > 0) { // an empty mapping is an error
    void *data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
    if (data == MAP_FAILED)
      return unreadable(path, errnoText(errno));
    file.data_ = static_cast<const std::byte *>(data);
    file.size_ = size;
  }
  return file;
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_)
    ::munmap(const_cast<std::byte *>(data_), size_);
}

Result<FileReader> FileReader::open(const std::string &path) {
  Descriptor descriptor(-1);
  FileReader reader;
  reader.path_ = path;
  SY_RETURN_IF_ERROR(openRegular(path, descriptor, reader.size_));
  reader.descriptor_ = std::exchange(descriptor.value, -1);
  return reader;
}

FileReader::FileReader(FileReader &&other) noexcept {
  *this = std::move(other);
}

FileReader &FileReader::operator=(FileReader &&other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

FileReader::~FileReader() {
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

Status FileReader::checkRange(uint64_t offset, uint64_t count) const {
  return offset <= size_ && count <= size_ - offset
             ? Status()
             : unreadable(path_, "it has " + std::to_string(size_) + " bytes, expected " +
                                     std::to_string(count) + " from " + std::to_string(offset) +
                                     " on");
}

Result<std::string> FileReader::read(uint64_t offset, uint64_t count) const {
  SY_RETURN_IF_ERROR(checkRange(offset, count)); // before the memory for it is taken
  std::string content(count, '\0');
  SY_RETURN_IF_ERROR(read(offset, std::as_writable_bytes(std::span(content))));
  return content;
}

Status FileReader::read(uint64_t offset, std::span<std::byte> out) const {
  SY_RETURN_IF_ERROR(checkRange(offset, out.size()));
  for (size_t filled = 0; filled < out.size();) {
    ssize_t got = ::pread(descriptor_, out.data() + filled, out.size() - filled,
                          static_cast<off_t>(offset + filled));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return unreadable(path_, errnoText(errno));
    if (got == 0)
      return unreadable(path_, "it became shorter meanwhile; run again when nothing writes it");
    filled += static_cast<size_t>(got);
  }
  return {};
}

Result<std::string> readFile(const std::string &path, uint64_t maxBytes) {
  SY_ASSIGN_OR_RETURN(FileReader reader, FileReader::open(path));
  if (reader.size() > maxBytes)
    return unreadable(path, "it has " + std::to_string(reader.size()) +
                                " bytes, expected at most " + std::to_string(maxBytes));
  return reader.read(0, reader.size());
}

Result<AtomicFile> AtomicFile::create(const std::string &path, FilePlace place) {
  if (nameOf(path).empty())
    return Status::failed("\"" + path + "\": cannot be written: it names no file");
  AtomicFile file;
  file.path_ = path;
  file.place_ = place;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string name = place == FilePlace::Alone ? temporaryName(path, attempt) : path;
    file.descriptor_ = openFile(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file.descriptor_ >= 0) {
      file.temporary_ = std::move(name);
      return file;
    }
    if (errno != EEXIST || place != FilePlace::Alone)
      return unwritable(path, errno);
  }
  return unwritable(path, EEXIST);
}

AtomicFile::AtomicFile(AtomicFile &&other) noexcept {
  *this = std::move(other);
}

AtomicFile &AtomicFile::operator=(AtomicFile &&other) noexcept {
  std::swap(place_, other.place_);
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytesWritten_, other.bytesWritten_);
  return *this;
}

AtomicFile::~AtomicFile() {
  discard();
}

void AtomicFile::discard() {
  if (descriptor_ >= 0)
    ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty())
    ::unlink(std::exchange(temporary_, {}).c_str());
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return unwritable(path_, errno);
    bytes = bytes.subspan(static_cast<size_t>(count));
    bytesWritten_ += static_cast<uint64_t>(count);
  }
  return {};
}

Status AtomicFile::write(std::string_view text) {
  return write(std::as_bytes(std::span(text)));
}

Status AtomicFile::sync() {
  int error = syncDescriptor(descriptor_);
  return error ? unwritable(path_, error) : Status();
}

Status AtomicFile::commit() {
  const bool isAlone = place_ == FilePlace::Alone;
  int error = isAlone ? syncDescriptor(descriptor_) : 0;
  if (!error && (::close(std::exchange(descriptor_, -1)) != 0 ||
                 (isAlone && ::rename(temporary_.c_str(), path_.c_str()) != 0)))
    error = errno;
  if (error) {
    discard();
    return unwritable(path_, error);
  }
  temporary_.clear();
  error = isAlone ? syncFolder(folderOf(path_)) : 0;
  return error ? unwritable(path_, error) : Status();
}

Status writeFileAtomically(const std::string &path, std::string_view text, FilePlace place) {
  SY_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, place));
  SY_RETURN_IF_ERROR(file.write(text));
  return file.commit();
}

Status copyFile(const std::string &from, const std::string &to, FilePlace place) {
  SY_ASSIGN_OR_RETURN(MappedFile source, MappedFile::open(from));
  SY_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(to, place));
  SY_RETURN_IF_ERROR(file.write(source.bytes()));
  return file.commit();
}

Result<AtomicFolder> AtomicFolder::create(const std::string &target) {
  AtomicFolder folder;
  folder.target_ = target;
  while (folder.target_.size() > 1 && folder.target_.back() == '/')
    folder.target_.pop_back();
  if (nameOf(folder.target_).empty() || nameOf(folder.target_) == "." ||
      nameOf(folder.target_) == "..")
    return Status::invalidInput("\"" + target +
                                "\": names no folder that can be made; name a new one");
  if (!canBecomeFolder(folder.target_))
    return occupied(folder.target_);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string name = temporaryName(folder.target_, attempt);
    if (::mkdir(name.c_str(), 0777) == 0) {
      folder.temporary_ = std::move(name);
      return folder;
    }
    if (errno != EEXIST)
      return unwritable(folder.target_, errno);
  }
  return unwritable(folder.target_, EEXIST);
}

AtomicFolder::AtomicFolder(AtomicFolder &&other) noexcept {
  *this = std::move(other);
}

AtomicFolder &AtomicFolder::operator=(AtomicFolder &&other) noexcept {
  std::swap(target_, other.target_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

AtomicFolder::~AtomicFolder() {
  discard();
}

void AtomicFolder::discard() {
  std::error_code ignored;
  if (!temporary_.empty())
    std::filesystem::remove_all(std::exchange(temporary_, {}), ignored);
}

Status AtomicFolder::commit() {
  int error = syncTree(temporary_);
  if (!error && !canBecomeFolder(target_)) {
    discard();
    return occupied(target_);
  }
  if (!error && ::rename(temporary_.c_str(), target_.c_str()) != 0)
    error = errno;
  if (error) {
    discard();
    return unwritable(target_, error);
  }
  temporary_.clear();
  error = syncFolder(folderOf(target_));
  return error ? unwritable(target_, error) : Status();
}

Status linkAtomically(const std::string &target, const std::string &path) {
  std::error_code error;
  auto there = std::filesystem::symlink_status(path, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_symlink(there))
    return Status::failed(path + ": is there already and is no symbolic link; remove it");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = temporaryName(path, attempt);
    if (::symlink(target.c_str(), name.c_str()) == 0) {
      int failure = ::rename(name.c_str(), path.c_str()) == 0 ? syncFolder(folderOf(path)) : errno;
      if (failure)
        ::unlink(name.c_str());
      return failure ? unwritable(path, failure) : Status();
    }
    if (errno != EEXIST)
      return unwritable(path, errno);
  }
  return unwritable(path, EEXIST);
}

Status removeAtomically(const std::string &path) {
  const auto unremovable = [&](const std::string &why) {
    return Status::failed(path + ": cannot be removed: " + why);
  };
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = temporaryName(path, attempt);
    if (fileExists(name))
      continue;
    if (::rename(path.c_str(), name.c_str()) != 0)
      return unremovable(errnoText(errno));
    std::error_code error;
    std::filesystem::remove_all(name, error);
    return error ? unremovable(error.message()) : Status();
  }
  return unremovable(errnoText(EEXIST));
}

Status removeTemporaries(const std::string &folder, const std::string &prefix) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (const auto &entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("." + prefix) && name.ends_with(".tmp"))
      found.push_back(entry.path());
  }
  for (const std::filesystem::path &path : found)
    if (!error)
      std::filesystem::remove_all(path, error);
  return error ? Status::failed(folder +
                                ": what an earlier run left cannot be removed: " + error.message())
               : Status();
}

} // namespace switchyard
