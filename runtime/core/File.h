// Files: reading by mapping, and writing that leaves either the whole new file or what was there
// before.
//
// Messages name the path, what the system says and what to do. A file that cannot be read is
// InvalidInput (it came from the user), one that cannot be written is Failed.
#pragma once

#include "runtime/core/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// A regular file, mapped to be read. Nothing is read before it is touched. The file must not be
/// truncated meanwhile.
class MappedFile {
public:
  static Result<MappedFile> open(const std::string &path);
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  const std::string &path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char *>(data_), size_}; }

private:
  MappedFile() = default;

  std::string path_;
  const std::byte *data_ = nullptr;
  size_t size_ = 0;
};

/// A regular file, read piece by piece.
class FileReader {
public:
  static Result<FileReader> open(const std::string &path);
  FileReader(FileReader &&other) noexcept;
  FileReader &operator=(FileReader &&other) noexcept;
  ~FileReader();

  const std::string &path() const { return path_; }
  /// In bytes, when it was opened.
  uint64_t size() const { return size_; }
  /// `count` bytes from `offset` on; refused if the file has not that many.
  Result<std::string> read(uint64_t offset, uint64_t count) const;
  /// The same, as many as `out` has. Safe to use from several threads at once.
  Status read(uint64_t offset, std::span<std::byte> out) const;

private:
  FileReader() = default;
  Status checkRange(uint64_t offset, uint64_t count) const;

  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// The content of the file at `path`; refused if it has more than `maxBytes`.
Result<std::string> readFile(const std::string &path, uint64_t maxBytes);

/// Whether something is at `path`.
bool fileExists(const std::string &path);

/// Where a file is written: by itself, or as a part of an AtomicFolder that is under construction.
/// A part has its name from the start, and is on the disk when the folder is committed, or earlier
/// by sync().
enum class FilePlace : uint8_t { Alone, InAtomicFolder };

/// A file under construction: a temporary name in the same folder until commit(). Whatever happens
/// before, the target stays as it was; without commit() the destructor removes the temporary file.
class AtomicFile {
public:
  static Result<AtomicFile> create(const std::string &path, FilePlace place = FilePlace::Alone);
  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&other) noexcept;
  ~AtomicFile();

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text);
  uint64_t bytesWritten() const { return bytesWritten_; }

  /// What is written so far is on the disk.
  Status sync();
  /// Everything is on the disk, then the file has its name, then the name is on the disk.
  Status commit();

private:
  AtomicFile() = default;
  void discard();

  FilePlace place_ = FilePlace::Alone;
  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  uint64_t bytesWritten_ = 0;
};

/// Writes `text` to `path` through an AtomicFile.
Status writeFileAtomically(const std::string &path, std::string_view text,
                           FilePlace place = FilePlace::Alone);

/// A folder under construction, in the same way: files are written into path() and folders in it,
/// commit() brings all of them to the disk and renames the folder to the target. A target that
/// exists and is not an empty folder is refused, at creation and again at commit().
class AtomicFolder {
public:
  static Result<AtomicFolder> create(const std::string &target);
  AtomicFolder(AtomicFolder &&other) noexcept;
  AtomicFolder &operator=(AtomicFolder &&other) noexcept;
  ~AtomicFolder();

  /// Where to write the files of the folder until commit().
  const std::string &path() const { return temporary_; }
  Status commit();

private:
  AtomicFolder() = default;
  void discard();

  std::string target_;
  std::string temporary_;
};

/// Makes `path` a symbolic link to `target`, in place of what was there if that is a link too.
Status linkAtomically(const std::string &target, const std::string &path);

/// Removes the folder `path`: it is gone as a whole, or there as a whole, under its name.
Status removeAtomically(const std::string &path);

/// Removes from `folder` what a process that ended early left there of files and folders whose
/// names begin with `prefix`. Not while another one writes there.
Status removeTemporaries(const std::string &folder, const std::string &prefix);

/// Copies the file `from` to `to` through an AtomicFile.
Status copyFile(const std::string &from, const std::string &to, FilePlace place = FilePlace::Alone);

/// `folder` and `name` joined by one slash.
std::string joinPath(const std::string &folder, const std::string &name);

/// The text of `error` (an errno) with what to do: "No space left on device; free some space and
/// run again".
std::string errnoText(int error);

} // namespace switchyard
