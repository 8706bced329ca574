#include "runtime/plan/TextTable.h"

#include <algorithm>
#include <cstdio>
#include <span>
#include <string_view>

namespace switchyard {

/// `number` in the largest of `units`, each `base` times the one before, in which it is 1 or more
/// when rounded.
static std::string threeDigits(uint64_t number, double base,
                               std::span<const std::string_view> units) {
  auto value = static_cast<double>(number);
  size_t unit = 0;
  for (; value >= base - 0.5 && unit + 1 < units.size(); ++unit)
    value /= base;
  int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text + std::string(units[unit]);
}

std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string humanCount(uint64_t count) {
  constexpr std::string_view kUnits[] = {"", " K", " M", " B", " T", " Q"};
  return threeDigits(count, 1000, kUnits);
}

std::string humanBytes(uint64_t bytes) {
  constexpr std::string_view kUnits[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  return threeDigits(bytes, 1024, kUnits);
}

std::string plural(int64_t count, const std::string &thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

void Table::add(std::vector<std::string> cells) {
  for (size_t i = 0; i < cells.size(); ++i)
    widths_[i] = std::max(widths_[i], cells[i].size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::string result;
  for (const auto &cells : rows_) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      std::string padding(widths_[i] - cells[i].size(), ' ');
      line += "  " + (right_[i] ? padding + cells[i] : cells[i] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  }
  return result;
}

} // namespace switchyard
