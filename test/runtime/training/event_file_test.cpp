#include "runtime/training/EventFile.h"

#include "test/runtime/core/TestFolder.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>

namespace switchyard {
namespace {

using testing::HasSubstr;

template <typename T>
T take(std::string_view &bytes) {
  T value{};
  if (bytes.size() < sizeof value) {
    ADD_FAILURE() << "the end comes early";
    bytes = {};
    return value;
  }
  std::ranges::copy(bytes.substr(0, sizeof value), reinterpret_cast<char *>(&value));
  bytes.remove_prefix(sizeof value);
  return value;
}

uint64_t takeVarint(std::string_view &bytes) {
  uint64_t value = 0;
  for (int shift = 0; !bytes.empty(); shift += 7) {
    auto byte = take<uint8_t>(bytes);
    value |= uint64_t{byte & 0x7fU} << shift;
    if (byte < 0x80)
      break;
  }
  return value;
}

std::string_view takeBytes(std::string_view &bytes, uint64_t count) {
  std::string_view result = bytes.substr(0, count);
  EXPECT_EQ(result.size(), count);
  bytes.remove_prefix(result.size());
  return result;
}

/// The messages of a file, their lengths and checksums checked.
std::vector<std::string_view> messagesOf(std::string_view file) {
  auto check = [](uint32_t stored, std::string_view bytes) {
    uint32_t rotated = stored - 0xa282ead8U;
    EXPECT_EQ(rotated >> 17 | rotated << 15, crc32c(bytes));
  };
  std::vector<std::string_view> messages;
  while (!file.empty()) {
    std::string_view length = file.substr(0, 8);
    auto size = take<uint64_t>(file);
    check(take<uint32_t>(file), length);
    messages.push_back(takeBytes(file, size));
    check(take<uint32_t>(file), messages.back());
  }
  return messages;
}

/// The fields of a message by number, in order; numbers as their bytes.
std::multimap<uint64_t, std::string> fieldsOf(std::string_view message) {
  std::multimap<uint64_t, std::string> fields;
  while (!message.empty()) {
    uint64_t tag = takeVarint(message);
    std::string_view before = message;
    switch (tag & 7) {
    case 0:
      fields.emplace(tag >> 3, std::to_string(takeVarint(message)));
      break;
    case 1:
      fields.emplace(tag >> 3, takeBytes(message, 8));
      break;
    case 2:
      fields.emplace(tag >> 3, takeBytes(message, takeVarint(message)));
      break;
    case 5:
      fields.emplace(tag >> 3, takeBytes(message, 4));
      break;
    default:
      ADD_FAILURE() << "wire type " << (tag & 7) << " with " << before.size() << " bytes left";
      return fields;
    }
  }
  return fields;
}

template <typename T>
T numberOf(const std::string &bytes) {
  std::string_view view = bytes;
  return take<T>(view);
}

StepMetrics someMetrics(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 2.25;
  metrics.gradNorm = std::numeric_limits<double>::infinity();
  metrics.peakMemoryBytes = uint64_t{5} << 30;
  return metrics;
}

std::map<std::string, float> scalarsOf(std::string_view event) {
  std::map<std::string, float> scalars;
  auto fields = fieldsOf(event);
  if (!fields.contains(5))
    return scalars;
  for (const auto &[number, value] : fieldsOf(fields.find(5)->second)) {
    EXPECT_EQ(number, 1u);
    auto parts = fieldsOf(value);
    scalars[parts.find(1)->second] = numberOf<float>(parts.find(2)->second);
  }
  return scalars;
}

// RFC 3720, B.4.
TEST(EventFile, ChecksumsAreCastagnolis) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(EventFile, AnEventHasAStepItsTimeAndScalars) {
  const StepMetrics metrics = someMetrics(300);
  std::string event = scalarsEvent(metrics, 1e9 + 0.5);
  auto fields = fieldsOf(event);
  EXPECT_EQ(numberOf<double>(fields.find(1)->second), 1e9 + 0.5);
  EXPECT_EQ(fields.find(2)->second, "300");
  std::map<std::string, float> scalars = scalarsOf(event);
  EXPECT_EQ(scalars.size(), numbersOf(metrics).size());
  EXPECT_EQ(scalars["train/loss"], 2.25f);
  EXPECT_EQ(scalars["train/grad_norm"], std::numeric_limits<float>::infinity());
  EXPECT_EQ(scalars["train/peak_memory_bytes"], 5368709120.f);
  EXPECT_FALSE(scalars.contains("train/mfu"));
}

TEST(EventFile, IsMadeWithTheFirstStepAndSaysWhichItIs) {
  TestFolder folder;
  const std::string runs = folder.file("runs");
  {
    EventFile file(runs);
    EXPECT_FALSE(std::filesystem::exists(runs));
    ASSERT_TRUE(file.append(someMetrics(7)).ok());
    ASSERT_TRUE(file.append(someMetrics(8)).ok());
  }
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(runs))
    names.push_back(entry.path());
  ASSERT_EQ(names.size(), 1u);
  EXPECT_THAT(names[0], HasSubstr("/events.out.tfevents."));
  std::string text = TestFolder::read(names[0]);
  std::vector<std::string_view> messages = messagesOf(text);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(fieldsOf(messages[0]).find(3)->second, "brain.Event:2");
  EXPECT_EQ(fieldsOf(messages[1]).find(2)->second, "7");
  EXPECT_EQ(fieldsOf(fieldsOf(messages[1]).find(7)->second).find(1)->second, "1");
  EXPECT_EQ(fieldsOf(messages[3]).find(2)->second, "8");
  EXPECT_EQ(scalarsOf(messages[3])["train/loss"], 2.25f);
}

TEST(EventFile, SaysWhyItCannotWrite) {
  TestFolder folder;
  EventFile file(folder.write("file", "") + "/runs");
  Status status = file.append(someMetrics(1));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::Failed);
  EXPECT_THAT(status.message(), HasSubstr("file/runs: cannot be made: Not a directory"));
}

} // namespace
} // namespace switchyard
