// For LD_PRELOAD: makes one write-side system call on files of one folder fail.
//
//   SWITCHYARD_FAULT_FOLDER  the folder, absolute
//   SWITCHYARD_FAULT_AT      which of the calls, from 1
//   SWITCHYARD_FAULT_KIND    ENOSPC, EIO, EINTR, or SHORT: a write takes half of its bytes
//   SWITCHYARD_FAULT_RECORD  a file that gets the failed call's name
//
// Counted are open with O_CREAT, write, fsync, rename, mkdir, symlink and ftruncate.
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

namespace {

std::atomic<long> calls = 0;

bool isInFolder(const char *path) {
  const char *folder = std::getenv("SWITCHYARD_FAULT_FOLDER");
  return folder && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

bool isInFolder(int descriptor) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof(path) - 1);
  if (length < 0)
    return false;
  path[length] = '\0';
  return isInFolder(path);
}

template <typename F>
F original(const char *name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

/// 0, the errno to fail with, or -1 for a short write.
int faultOf(const char *name) {
  const char *at = std::getenv("SWITCHYARD_FAULT_AT"), *kind = std::getenv("SWITCHYARD_FAULT_KIND");
  const bool isShort = kind && std::strcmp(kind, "SHORT") == 0;
  if (!at || !kind || (isShort && std::strcmp(name, "write") != 0) || ++calls != std::atol(at))
    return 0;
  if (const char *record = std::getenv("SWITCHYARD_FAULT_RECORD")) {
    int file = original<int (*)(const char *, int, ...)>("open")(record, O_WRONLY | O_CREAT, 0666);
    (void)!original<decltype(&::write)>("write")(file, name, std::strlen(name));
    close(file);
  }
  return isShort                            ? -1
         : std::strcmp(kind, "ENOSPC") == 0 ? ENOSPC
         : std::strcmp(kind, "EIO") == 0    ? EIO
                                            : EINTR;
}

int openFile(const char *name, const char *path, int flags, mode_t mode) {
  if ((flags & O_CREAT) && isInFolder(path))
    if (int fault = faultOf("open")) {
      errno = fault;
      return -1;
    }
  return original<int (*)(const char *, int, ...)>(name)(path, flags, mode);
}

template <typename... Arguments>
int callOn(const char *name, bool isOurs, Arguments... arguments) {
  if (isOurs)
    if (int fault = faultOf(name)) {
      errno = fault;
      return -1;
    }
  return original<int (*)(Arguments...)>(name)(arguments...);
}

} // namespace

extern "C" {

int open(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
  va_end(list);
  return openFile("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
  va_end(list);
  return openFile("open64", path, flags, mode);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
  if (isInFolder(descriptor))
    if (int fault = faultOf("write")) {
      if (fault < 0)
        return original<decltype(&::write)>("write")(descriptor, bytes, (count + 1) / 2);
      errno = fault;
      return -1;
    }
  return original<decltype(&::write)>("write")(descriptor, bytes, count);
}

int fsync(int descriptor) {
  return callOn("fsync", isInFolder(descriptor), descriptor);
}

int ftruncate(int descriptor, off_t size) noexcept {
  return callOn("ftruncate", isInFolder(descriptor), descriptor, size);
}

int rename(const char *from, const char *to) noexcept {
  return callOn("rename", isInFolder(to), from, to);
}

int mkdir(const char *path, mode_t mode) noexcept {
  return callOn("mkdir", isInFolder(path), path, mode);
}

int symlink(const char *target, const char *path) noexcept {
  return callOn("symlink", isInFolder(path), target, path);
}
}
