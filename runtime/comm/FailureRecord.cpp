#include "runtime/comm/FailureRecord.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

namespace switchyard::comm {
namespace {

std::string utcTime() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string hostName() {
  char text[256] = {};
  gethostname(text, sizeof(text) - 1);
  return text;
}

std::string whereOf(int rank, const RankTable &table) {
  RankState state = table.state(rank);
  std::string text = fmt::format("{{\"rank\": {}, \"program\": {}, \"instruction\": {}", rank,
                                 quoteJson(state.program), state.instruction);
  if (int group = state.waitingGroup(); group >= 0) {
    const CallState &call = state.calls[group];
    text += fmt::format(", \"doing\": \"{}\", \"group\": [{}], \"seconds\": {:.2f}", name(call.op),
                        fmt::join(table.members(rank, group), ", "),
                        static_cast<double>(nowMs() - call.since) / 1000);
  }
  return text + "}";
}

/// Empty, or why the line could not be written.
std::string append(const std::string &path, const std::string &line) {
  int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0)
    return errnoText(errno);
  std::string problem;
  if (ssize_t written = write(file, line.data(), line.size());
      written != static_cast<ssize_t>(line.size()))
    problem = written < 0 ? errnoText(errno) : "only a part was written";
  close(file);
  return problem;
}

} // namespace

std::string_view name(Loss::Reason reason) {
  switch (reason) {
  case Loss::Reason::Died:
    return "died";
  case Loss::Reason::Stalled:
    return "stalled";
  case Loss::Reason::Failed:
    return "failed";
  }
  return "is lost";
}

std::string failureRecord(const Loss &loss, int rank, std::string_view backend,
                          const RankTable &table) {
  std::string ranks;
  for (int r = 0; r < table.size(); ++r)
    ranks += (r ? ", " : "") + whereOf(r, table);
  return fmt::format("{{\"event\": \"rank_lost\", \"time\": \"{}\", \"host\": {}, \"backend\": "
                     "\"{}\", \"rank\": {}, \"lost_rank\": {}, \"reason\": \"{}\", \"detail\": {}, "
                     "\"ranks\": [{}]}}",
                     utcTime(), quoteJson(hostName()), backend, rank, loss.rank, name(loss.reason),
                     quoteJson(loss.detail), ranks);
}

void reportLoss(const Loss &loss, int rank, std::string_view backend, const RankTable &table,
                const std::string &folder) {
  std::string place;
  if (!folder.empty()) {
    std::string path = joinPath(folder, fmt::format("failure-rank-{}.jsonl", rank));
    std::string problem = append(path, failureRecord(loss, rank, backend, table) + "\n");
    place = problem.empty() ? "; record in " + path
                            : fmt::format("; no record, {} cannot be written: {}", path, problem);
  }
  RankState state = table.state(rank);
  std::string who = loss.rank < 0 ? "a collective" : fmt::format("rank {}", loss.rank);
  std::string line = fmt::format(
      "error: {} {} ({}); rank {} ends, at {}, instruction {}{}\n", who, name(loss.reason),
      loss.detail, rank, state.program[0] ? state.program : "the start", state.instruction, place);
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

void endProcess() {
  _exit(static_cast<int>(StatusCode::RankFailed));
}

} // namespace switchyard::comm
