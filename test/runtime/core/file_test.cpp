#include "runtime/core/File.h"

#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <sys/resource.h>
#include <sys/stat.h>

using namespace switchyard;
using testing::HasSubstr;

TEST(File, MapsAFile) {
  TestFolder folder;
  Result<MappedFile> file = MappedFile::open(folder.write("a", "hello"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->text(), "hello");
  MappedFile moved = std::move(*file);
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_EQ(moved.path(), folder.file("a"));
}

TEST(File, MapsAnEmptyFile) {
  TestFolder folder;
  Result<MappedFile> file = MappedFile::open(folder.write("a", ""));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
}

TEST(File, SaysWhyItCannotRead) {
  TestFolder folder;
  Status missing = MappedFile::open(folder.file("a")).status();
  EXPECT_EQ(missing.message(),
            folder.file("a") + ": cannot be read: No such file or directory; check the path");
  EXPECT_EQ(missing.code(), StatusCode::InvalidInput);
  EXPECT_EQ(MappedFile::open(folder.path()).status().message(),
            folder.path() + ": cannot be read: it is a folder; name a file");
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_EQ(readFile(folder.file("pipe"), 10).status().message(),
            folder.file("pipe") + ": cannot be read: it is not a regular file; name one");
  folder.write("big", "12345");
  EXPECT_EQ(readFile(folder.file("big"), 4).status().message(),
            folder.file("big") + ": cannot be read: it has 5 bytes, expected at most 4");
  EXPECT_EQ(*readFile(folder.file("big"), 5), "12345");
  EXPECT_EQ(readFile(folder.file("big/x"), 5).status().message(),
            folder.file("big/x") +
                ": cannot be read: Not a directory; a part of the path is a file");
}

TEST(File, AtomicFileAppearsWholeOrNotAtAll) {
  TestFolder folder;
  folder.write("a", "old");
  {
    Result<AtomicFile> file = AtomicFile::create(folder.file("a"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write(std::string_view("new")).ok());
    EXPECT_EQ(file->bytesWritten(), 3u);
    EXPECT_EQ(TestFolder::read(folder.file("a")), "old");
    EXPECT_EQ(folder.count(), 2u);
  }
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(TestFolder::read(folder.file("a")), "old");
  ASSERT_TRUE(writeFileAtomically(folder.file("a"), "new").ok());
  EXPECT_EQ(TestFolder::read(folder.file("a")), "new");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(File, TwoWritersOfOneFileDoNotMeet) {
  TestFolder folder;
  Result<AtomicFile> first = AtomicFile::create(folder.file("a"));
  Result<AtomicFile> second = AtomicFile::create(folder.file("a"));
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(first->write(std::string_view("first")).ok());
  ASSERT_TRUE(second->write(std::string_view("second")).ok());
  ASSERT_TRUE(first->commit().ok() && second->commit().ok());
  EXPECT_EQ(TestFolder::read(folder.file("a")), "second");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(File, SaysWhyItCannotWrite) {
  TestFolder folder;
  Status status = writeFileAtomically(folder.file("none/a"), "x");
  EXPECT_EQ(status.message(), folder.file("none/a") +
                                  ": cannot be written: No such file or directory; check the path");
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_EQ(writeFileAtomically(folder.path() + "/", "x").message(),
            "\"" + folder.path() + "/\": cannot be written: it names no file");
  std::filesystem::create_directory(folder.file("folder"));
  EXPECT_EQ(writeFileAtomically(folder.file("folder"), "x").message(),
            folder.file("folder") + ": cannot be written: Is a directory");
  EXPECT_EQ(folder.count(), 1u) << "the temporary file stayed";
}

TEST(File, AFullDiskLeavesNothing) {
  TestFolder folder;
  struct rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = {1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status = writeFileAtomically(folder.file("a"), std::string(2000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.message(), folder.file("a") + ": cannot be written: File too large");
  EXPECT_EQ(folder.count(), 0u);
}

TEST(File, AtomicFolderAppearsWholeOrNotAtAll) {
  TestFolder folder;
  {
    Result<AtomicFolder> out = AtomicFolder::create(folder.file("out"));
    ASSERT_TRUE(out.ok());
    ASSERT_TRUE(writeFileAtomically(joinPath(out->path(), "a"), "x").ok());
    EXPECT_FALSE(fileExists(folder.file("out")));
  }
  EXPECT_EQ(folder.count(), 0u);
  std::filesystem::create_directory(folder.file("out")); // empty: taken over
  Result<AtomicFolder> out = AtomicFolder::create(folder.file("out/"));
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE(writeFileAtomically(joinPath(out->path(), "a"), "x").ok());
  ASSERT_TRUE(out->commit().ok());
  EXPECT_EQ(TestFolder::read(folder.file("out/a")), "x");
  EXPECT_EQ(folder.count(), 1u);
}

// A part of a folder has its name before the folder has its own.
TEST(File, PartsOfAnAtomicFolderGoWithIt) {
  TestFolder folder;
  Result<AtomicFolder> out = AtomicFolder::create(folder.file("out"));
  ASSERT_TRUE(out.ok());
  std::filesystem::create_directory(joinPath(out->path(), "model"));
  const std::string part = joinPath(out->path(), "model/part");
  {
    Result<AtomicFile> file = AtomicFile::create(part, FilePlace::InAtomicFolder);
    ASSERT_TRUE(file.ok());
    EXPECT_TRUE(fileExists(part));
  }
  EXPECT_FALSE(fileExists(part)) << "without commit() it stayed";
  ASSERT_TRUE(writeFileAtomically(part, "x", FilePlace::InAtomicFolder).ok());
  EXPECT_EQ(writeFileAtomically(part, "y", FilePlace::InAtomicFolder).message(),
            part + ": cannot be written: File exists; choose another place or remove it");
  Result<AtomicFile> large =
      AtomicFile::create(joinPath(out->path(), "large"), FilePlace::InAtomicFolder);
  ASSERT_TRUE(large.ok());
  EXPECT_TRUE(large->write(std::string_view("12")).ok() && large->sync().ok() &&
              large->write(std::string_view("3")).ok() && large->commit().ok());
  ASSERT_TRUE(out->commit().ok());
  EXPECT_EQ(TestFolder::read(folder.file("out/model/part")), "x");
  EXPECT_EQ(TestFolder::read(folder.file("out/large")), "123");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(File, AtomicFolderRefusesAnOccupiedTarget) {
  TestFolder folder;
  std::string expected =
      ": exists already and is not an empty folder; choose another folder or remove it";
  folder.write("file", "x");
  EXPECT_EQ(AtomicFolder::create(folder.file("file")).status().message(),
            folder.file("file") + expected);
  Result<AtomicFolder> out = AtomicFolder::create(folder.file("out"));
  ASSERT_TRUE(out.ok());
  std::filesystem::create_directory(folder.file("out"));
  folder.write("out/theirs", "x");
  EXPECT_EQ(out->commit().message(), folder.file("out") + expected);
  EXPECT_EQ(AtomicFolder::create(folder.file("out")).status().code(), StatusCode::InvalidInput);
  EXPECT_EQ(folder.count(), 2u) << "the temporary folder stayed";
  EXPECT_EQ(TestFolder::read(folder.file("out/theirs")), "x");
  EXPECT_THAT(AtomicFolder::create("..").status().message(),
              HasSubstr("names no folder that can be made"));
  EXPECT_THAT(AtomicFolder::create(folder.file("none/out")).status().message(),
              HasSubstr("cannot be written: No such"));
}

TEST(File, CopiesAFile) {
  TestFolder folder;
  ASSERT_TRUE(copyFile(folder.write("a", std::string("x\0y", 3)), folder.file("b")).ok());
  EXPECT_EQ(TestFolder::read(folder.file("b")), std::string("x\0y", 3));
  EXPECT_THAT(copyFile(folder.file("none"), folder.file("c")).message(),
              HasSubstr("none: cannot be read"));
}

TEST(File, LinksInPlaceOfALink) {
  TestFolder folder;
  ASSERT_TRUE(linkAtomically("a", folder.file("latest")).ok());
  ASSERT_TRUE(linkAtomically("b", folder.file("latest")).ok());
  EXPECT_EQ(std::filesystem::read_symlink(folder.file("latest")), "b");
  EXPECT_EQ(linkAtomically("c", folder.write("file", "x")).message(),
            folder.file("file") + ": is there already and is no symbolic link; remove it");
  EXPECT_THAT(linkAtomically("c", folder.file("none/latest")).message(),
              HasSubstr("none/latest: cannot be written: No such file"));
  EXPECT_EQ(folder.count(), 2u);
}

TEST(File, RemovesAFolderAsAWhole) {
  TestFolder folder;
  std::filesystem::create_directories(folder.file("a/b"));
  folder.write("a/b/file", "x");
  EXPECT_TRUE(removeAtomically(folder.file("a")).ok());
  EXPECT_EQ(folder.count(), 0u);
  EXPECT_EQ(removeAtomically(folder.file("a")).message(),
            folder.file("a") + ": cannot be removed: No such file or directory; check the path");
}

TEST(File, RemovesWhatWasLeft) {
  TestFolder folder;
  std::filesystem::create_directories(folder.file(".checkpoint-3.17-0.tmp/model"));
  folder.write(".latest.17-0.tmp", "");
  folder.write(".checkpoint-3", "theirs");
  folder.write("checkpoint-3.tmp", "theirs");
  EXPECT_TRUE(removeTemporaries(folder.path(), "checkpoint-").ok());
  EXPECT_EQ(folder.count(), 3u);
  EXPECT_TRUE(removeTemporaries(folder.path(), "latest").ok());
  EXPECT_EQ(folder.count(), 2u);
  EXPECT_THAT(removeTemporaries(folder.file("none"), "latest").message(),
              HasSubstr("none: what an earlier run left cannot be removed: No such file"));
}

TEST(File, ErrorsSayWhatToDo) {
  EXPECT_EQ(errnoText(ENOSPC), "No space left on device; free some space and run again");
  EXPECT_EQ(errnoText(EACCES), "Permission denied; check the permissions");
  EXPECT_EQ(errnoText(EMFILE), "Too many open files; raise the limit of open files (ulimit -n)");
}
