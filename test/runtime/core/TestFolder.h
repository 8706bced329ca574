// A folder of its own for one test, removed at the end.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace switchyard {

class TestFolder {
public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "switchyard-test-XXXXXX").string();
    if (!::mkdtemp(name.data()))
      std::abort();
    path_ = name;
  }
  TestFolder(const TestFolder &) = delete;
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }

  std::string write(const std::string &name, std::string_view content) const {
    std::ofstream(file(name), std::ios::binary) << content;
    return file(name);
  }
  static std::string read(const std::string &path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  /// The number of entries, hidden ones included.
  size_t count() const { return std::distance(std::filesystem::directory_iterator(path_), {}); }

private:
  std::string path_;
};

} // namespace switchyard
