#include "runtime/training/EventFile.h"

#include "runtime/core/File.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace switchyard {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78; // Castagnoli's, bits reversed

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit)
      value = value >> 1 ^ (value % 2 == 1 ? kPolynomial : 0);
    table[byte] = value;
  }
  return table;
}

template <typename Integer>
void appendLittleEndian(std::string &text, Integer value) {
  for (size_t i = 0; i < sizeof value; ++i)
    text += static_cast<char>(value >> 8 * i & 0xff);
}

/// Records hold checksums rotated and shifted, so that one of data with checksums in it is none of
/// theirs.
uint32_t masked(uint32_t checksum) {
  return std::rotr(checksum, 15) + 0xa282ead8U;
}

// Protocol buffers: a field is its number and wire type, then its value.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

void appendVarint(std::string &text, uint64_t value) {
  for (; value >= 0x80; value >>= 7)
    text += static_cast<char>(value | 0x80);
  text += static_cast<char>(value);
}

void appendTag(std::string &text, uint32_t field, WireType type) {
  appendVarint(text, field << 3 | type);
}

void appendInteger(std::string &text, uint32_t field, int64_t value) {
  appendTag(text, field, kVarint);
  appendVarint(text, static_cast<uint64_t>(value));
}

void appendBytes(std::string &text, uint32_t field, std::string_view bytes) {
  appendTag(text, field, kLengthDelimited);
  appendVarint(text, bytes.size());
  text += bytes;
}

void appendFloat(std::string &text, uint32_t field, float value) {
  appendTag(text, field, kFixed32);
  appendLittleEndian(text, std::bit_cast<uint32_t>(value));
}

void appendDouble(std::string &text, uint32_t field, double value) {
  appendTag(text, field, kFixed64);
  appendLittleEndian(text, std::bit_cast<uint64_t>(value));
}

// The fields' numbers in event.proto and summary.proto.
enum EventField : uint32_t { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kLog = 7 };
enum SummaryField : uint32_t { kValue = 1 };
enum ValueField : uint32_t { kTag = 1, kSimpleValue = 2 };
enum LogField : uint32_t { kStatus = 1 };
constexpr int64_t kStart = 1; // SessionLog's status: steps from this one on are new

/// The start of an Event.
std::string eventAt(double wallTime, int64_t step) {
  std::string event;
  appendDouble(event, kWallTime, wallTime);
  appendInteger(event, kStep, step);
  return event;
}

} // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = makeTable();
  uint32_t value = 0xffffffff;
  for (char c : bytes)
    value = value >> 8 ^ kTable[(value ^ static_cast<unsigned char>(c)) & 0xff];
  return ~value;
}

std::string eventRecord(std::string_view message) {
  std::string record;
  appendLittleEndian(record, static_cast<uint64_t>(message.size()));
  appendLittleEndian(record, masked(crc32c(record)));
  record += message;
  appendLittleEndian(record, masked(crc32c(message)));
  return record;
}

std::string scalarsEvent(const StepMetrics &metrics, double wallTime) {
  std::string summary;
  for (const auto &[name, number] : numbersOf(metrics)) {
    std::string value;
    appendBytes(value, kTag, "train/" + std::string(name));
    appendFloat(value, kSimpleValue, static_cast<float>(number));
    appendBytes(summary, kValue, value);
  }
  std::string event = eventAt(wallTime, metrics.step);
  appendBytes(event, kSummary, summary);
  return event;
}

EventFile::~EventFile() {
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

Status EventFile::open(int64_t firstStep, double wallTime) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error)
    return Status::failed(folder_ + ": cannot be made: " + error.message());
  char host[256] = "localhost";
  (void)::gethostname(host, sizeof host - 1);
  path_ = joinPath(folder_, fmt::format("events.out.tfevents.{}.{}.{}",
                                        static_cast<int64_t>(wallTime), host, ::getpid()));
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    return Status::failed(path_ + ": can't be written: " + errnoText(errno));
  std::string version, start = eventAt(wallTime, firstStep), log;
  appendDouble(version, kWallTime, wallTime);
  appendBytes(version, kFileVersion, "brain.Event:2");
  appendInteger(log, kStatus, kStart);
  appendBytes(start, kLog, log);
  return write(eventRecord(version) + eventRecord(start));
}

Status EventFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return Status::failed(path_ + ": can't be written: " + errnoText(errno));
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

Status EventFile::append(const StepMetrics &metrics) {
  const double wallTime =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  if (descriptor_ < 0)
    SY_RETURN_IF_ERROR(open(metrics.step, wallTime));
  return write(eventRecord(scalarsEvent(metrics, wallTime)));
}

} // namespace switchyard
