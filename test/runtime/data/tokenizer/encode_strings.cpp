// encode_strings TOKENIZER STRINGS: the ids of each string of a JSON array, a JSON array a line;
// and how fast that was, on standard error.
#include "runtime/core/Json.h"
#include "runtime/data/Tokenizer.h"

#include <fmt/ranges.h>

#include <chrono>
#include <cstdio>

using namespace switchyard;

namespace {

double secondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Status run(const std::string &tokenizerFile, const std::string &stringsFile) {
  auto begin = std::chrono::steady_clock::now();
  SY_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::load(tokenizerFile));
  double loading = secondsSince(begin);
  SY_ASSIGN_OR_RETURN(Json strings, readJson(stringsFile, {uint64_t{1} << 30, 32, 1 << 24}));
  size_t bytes = 0;
  std::vector<std::vector<int32_t>> ids(strings.items().size());
  begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!strings.items()[i].isString())
      return Status::invalidInput(stringsFile + ": expected an array of strings");
    SY_RETURN_IF_ERROR(tokenizer->encode(strings.items()[i].string(), ids[i]));
    bytes += strings.items()[i].string().size();
  }
  double encoding = secondsSince(begin);
  for (const std::vector<int32_t> &one : ids)
    fmt::print("[{}]\n", fmt::join(one, ","));
  fmt::print(stderr, "loaded in {:.0f} ms, {:.2f} MB/s\n", 1e3 * loading, bytes / encoding / 1e6);
  return {};
}

} // namespace

int main(int argc, char **argv) {
  Status status = argc == 3 ? run(argv[1], argv[2])
                            : Status::usage("usage: encode_strings TOKENIZER STRINGS.json");
  if (!status.ok())
    fmt::print(stderr, "encode_strings: {}\n", status.message());
  return static_cast<int>(status.code());
}
