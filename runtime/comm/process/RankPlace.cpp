#include "runtime/comm/process/RankPlace.h"

#include "runtime/core/Fingerprint.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>

namespace switchyard {
namespace {

/// How many ports behind the first one rank 0 may try, where nobody keeps one free for it.
constexpr int kPorts = 8;

/// Where ports begin that are derived from a job's number.
constexpr int kFirstPort = 20'000;
constexpr int kDerivedPorts = 10'000;

class Reader {
public:
  explicit Reader(const Environment &environment) : environment_(environment) {}

  std::string text(const char *variable) const {
    const char *value = environment_(variable);
    return value ? value : "";
  }
  bool has(const char *variable) const { return !text(variable).empty(); }

  std::optional<int64_t> integer(const char *variable) const {
    std::string value = text(variable);
    int64_t number = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (value.empty() || error != std::errc() || *end != 0)
      return std::nullopt;
    return number;
  }

  /// The place that three or four variables give, if they give one.
  std::optional<RankPlace> place(const char *launcher, const char *rank, const char *size,
                                 const char *rankOnHost, const char *sizeOfHost) const {
    std::optional<int64_t> mine = integer(rank), all = integer(size);
    if (!mine || !all || *mine < 0 || *mine >= *all || *all > INT32_MAX)
      return std::nullopt;
    RankPlace place;
    place.launcher = launcher;
    place.rank = static_cast<int>(*mine);
    place.size = static_cast<int>(*all);
    place.sizeOfHost =
        static_cast<int>(std::clamp<int64_t>(integer(sizeOfHost).value_or(*all), 1, *all));
    place.rankOnHost = static_cast<int>(
        std::clamp<int64_t>(integer(rankOnHost).value_or(*mine % place.sizeOfHost), 0, *all - 1));
    return place;
  }

private:
  const Environment &environment_;
};

std::vector<uint16_t> portsFrom(int64_t first, int count) {
  std::vector<uint16_t> ports;
  for (int64_t port = first; port < first + count && port <= UINT16_MAX; ++port)
    ports.push_back(static_cast<uint16_t>(port));
  return ports;
}

/// Ports that follow from what a job is called.
MeetingPlace derivedMeeting(const std::string &host, const std::string &job) {
  MeetingPlace meeting;
  meeting.host = host;
  meeting.job = fingerprint(job);
  meeting.ports = portsFrom(kFirstPort + static_cast<int64_t>(meeting.job % kDerivedPorts), kPorts);
  return meeting;
}

/// The meeting place that MASTER_ADDR and MASTER_PORT give, if they are set.
Result<std::optional<MeetingPlace>> namedMeeting(const Reader &reader, const std::string &job) {
  if (!reader.has("MASTER_ADDR") || !reader.has("MASTER_PORT"))
    return std::optional<MeetingPlace>();
  std::optional<int64_t> port = reader.integer("MASTER_PORT");
  if (!port || *port < 1 || *port > UINT16_MAX)
    return Status::usage(fmt::format("MASTER_PORT is \"{}\"; expected a TCP port, 1 to 65535",
                                     reader.text("MASTER_PORT")));
  MeetingPlace meeting;
  meeting.host = reader.text("MASTER_ADDR");
  meeting.job = fingerprint(job);
  // torchrun's own store listens at MASTER_PORT.
  bool isTaken = reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  meeting.ports = isTaken ? portsFrom(*port + 1, kPorts) : portsFrom(*port, 1);
  if (meeting.ports.empty())
    return Status::usage("MASTER_PORT is 65535, behind which no port is left for the ranks; give "
                         "torchrun a smaller one");
  if (std::optional<int64_t> listener = reader.integer("MOE_RENDEZVOUS_SOCKET");
      listener && reader.text("RANK") == "0")
    meeting.listener = static_cast<int>(*listener);
  return std::optional(meeting);
}

Result<std::optional<RankPlace>> torchrunPlace(const Reader &reader) {
  if (!reader.has("RANK") || !reader.has("WORLD_SIZE"))
    return std::optional<RankPlace>();
  const bool isOurs = reader.has("MOE_JOB");
  std::optional<RankPlace> place = reader.place(isOurs ? "moe-run" : "torchrun", "RANK",
                                                "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE");
  if (!place)
    return Status::usage(fmt::format("RANK is \"{}\" and WORLD_SIZE is \"{}\" in the environment; "
                                     "expected a rank below the number of ranks",
                                     reader.text("RANK"), reader.text("WORLD_SIZE")));
  std::string job = isOurs ? reader.text("MOE_JOB") : reader.text("TORCHELASTIC_RUN_ID");
  SY_ASSIGN_OR_RETURN(place->meeting, namedMeeting(reader, job));
  if (!place->meeting)
    return Status::usage("RANK and WORLD_SIZE are set, but not MASTER_ADDR and MASTER_PORT: where "
                         "the ranks meet; set them (torchrun does), or unset RANK");
  return place;
}

Result<std::optional<RankPlace>> mpirunPlace(const Reader &reader) {
  // Open MPI's own; PMI is MPICH's.
  std::optional<RankPlace> place =
      reader.place("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                   "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE");
  std::string job = reader.text("PMIX_NAMESPACE") + " " + reader.text("OMPI_MCA_orte_hnp_uri");
  if (!place && !reader.has("SLURM_STEP_NODELIST")) { // srun sets PMI's variables too
    place = reader.place("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS");
    job.clear();
  }
  if (!place)
    return place;
  SY_ASSIGN_OR_RETURN(place->meeting, namedMeeting(reader, job));
  if (!place->meeting && place->sizeOfHost == place->size &&
      reader.has("OMPI_COMM_WORLD_LOCAL_SIZE"))
    place->meeting = derivedMeeting("127.0.0.1", job);
  return place;
}

Result<std::optional<RankPlace>> srunPlace(const Reader &reader) {
  // A batch script has SLURM_PROCID and SLURM_NTASKS as well; only a step's tasks have these.
  if (!reader.has("SLURM_STEP_NODELIST") || !reader.has("SLURM_STEP_NUM_TASKS"))
    return std::optional<RankPlace>();
  std::optional<RankPlace> place =
      reader.place("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "");
  if (!place)
    return Status::usage(fmt::format("SLURM_PROCID is \"{}\" and SLURM_STEP_NUM_TASKS is \"{}\"; "
                                     "expected a rank below the number of ranks",
                                     reader.text("SLURM_PROCID"),
                                     reader.text("SLURM_STEP_NUM_TASKS")));
  // Hosts with fewer tasks than others count as those do.
  int64_t nodes = std::max<int64_t>(reader.integer("SLURM_STEP_NUM_NODES").value_or(1), 1);
  place->sizeOfHost = static_cast<int>((place->size + nodes - 1) / nodes);
  place->rankOnHost = static_cast<int>(reader.integer("SLURM_LOCALID").value_or(0));
  std::string job = fmt::format("{}.{}", reader.text("SLURM_JOB_ID"), reader.text("SLURM_STEP_ID"));
  SY_ASSIGN_OR_RETURN(place->meeting, namedMeeting(reader, job));
  if (!place->meeting)
    place->meeting = derivedMeeting(firstHost(reader.text("SLURM_STEP_NODELIST")), job);
  return place;
}

} // namespace

std::string firstHost(const std::string &nodeList) {
  size_t end = nodeList.find_first_of(",[");
  std::string host = nodeList.substr(0, end);
  if (end == std::string::npos || nodeList[end] == ',')
    return host;
  size_t close = nodeList.find(']', end);
  if (close == std::string::npos)
    return "";
  size_t number = nodeList.find_first_of(",-]", end);
  host += nodeList.substr(end + 1, number - end - 1);
  size_t next = nodeList.find(',', close);
  return host + nodeList.substr(close + 1, next == std::string::npos ? next : next - close - 1);
}

Result<std::optional<RankPlace>> rankPlace(const Environment &environment) {
  Reader reader(environment);
  for (auto *find : {torchrunPlace, mpirunPlace, srunPlace}) {
    SY_ASSIGN_OR_RETURN(std::optional<RankPlace> place, find(reader));
    if (place)
      return place;
  }
  return std::optional<RankPlace>();
}

Result<std::optional<RankPlace>> rankPlace() {
  return rankPlace([](const char *variable) { return std::getenv(variable); });
}

} // namespace switchyard
