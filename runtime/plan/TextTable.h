// Text of numbers and tables, for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// "12,345,678".
std::string grouped(uint64_t number);

/// "14.2 M": three digits and a unit of thousands.
std::string humanCount(uint64_t count);

/// "1.50 GiB", "384 B": three digits and a binary unit.
std::string humanBytes(uint64_t bytes);

/// "1 layer", "2 layers".
std::string plural(int64_t count, const std::string &thing);

/// Rows of cells, printed in columns that are as wide as their widest cell.
class Table {
public:
  /// Which columns are numbers, set flush right.
  explicit Table(std::vector<bool> right) : right_(std::move(right)), widths_(right_.size()) {}

  void add(std::vector<std::string> cells);
  std::string text() const;

private:
  std::vector<bool> right_;
  std::vector<size_t> widths_;
  std::vector<std::vector<std::string>> rows_;
};

} // namespace switchyard
