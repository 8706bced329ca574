#include "runtime/comm/process/Rendezvous.h"

#include "runtime/core/File.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace switchyard::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kHelloMark = 0x5359484c; // "SYHL"
/// How often a rank looks again for a rank 0 that does not listen yet.
constexpr int kRetryMs = 50;
/// How long rank 0 waits for the words of one that has connected.
constexpr auto kHelloTime = std::chrono::seconds(2);

/// What a rank says when it has found rank 0, and what rank 0 answers when all have come.
struct Hello {
  uint32_t mark = kHelloMark;
  int32_t rank = -1;
  int32_t size = 0;
  uint32_t zero = 0;
  uint64_t job = 0;
};

template <typename T>
std::span<std::byte> bytesOf(T &value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

int millisecondsTo(Deadline deadline, int most) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, most));
}

Status lost(const std::string &message) {
  return {StatusCode::RankFailed, message};
}

/// The IPv4 address of a host, as the network orders it.
Result<in_addr> addressOf(const std::string &host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo *list = nullptr;
  if (int code = getaddrinfo(host.c_str(), nullptr, &hints, &list); code != 0 || !list)
    return Status::usage(
        fmt::format("the host \"{}\" where the ranks meet is unknown: {}; set MASTER_ADDR to the "
                    "host of rank 0",
                    host, gai_strerror(code)));
  in_addr address = reinterpret_cast<sockaddr_in *>(list->ai_addr)->sin_addr;
  freeaddrinfo(list);
  return address;
}

/// A socket that is on its way to rank 0, perhaps.
Socket startConnecting(in_addr ipAddress, uint16_t port) {
  Socket connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = ipAddress;
  address.sin_port = htons(port);
  if (connection.get() < 0 ||
      (connect(connection.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0 &&
       errno != EINPROGRESS))
    return {};
  return connection;
}

/// One of the ports at which rank 0 may be.
struct Candidate {
  uint16_t port = 0;
  Socket connection;
  bool hasSpoken = false;
  Deadline next; // when it is tried (again)
};

} // namespace

Result<Rendezvous> Rendezvous::meet(int rank, int size, const MeetingPlace &place,
                                    std::chrono::milliseconds timeout) {
  Rendezvous rendezvous(rank, size, Clock::now() + timeout);
  SY_RETURN_IF_ERROR(rank == 0 ? rendezvous.receiveRanks(place) : rendezvous.findLeader(place));
  rendezvous.deadline_ = Clock::now() + timeout;
  for (const Socket &connection : rendezvous.sockets_) {
    int isOn = 1;
    if (connection.get() >= 0)
      setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &isOn, sizeof(isOn));
  }
  return rendezvous;
}

Status Rendezvous::receiveRanks(const MeetingPlace &place) {
  Socket listener(place.listener);
  std::string why;
  for (size_t i = 0; listener.get() < 0 && i < place.ports.size(); ++i) {
    uint16_t port = place.ports[i];
    auto opened = listenOn(place.host == "127.0.0.1", size_, port);
    if (opened.ok())
      listener = std::move(*opened);
    else
      why = opened.status().message();
  }
  if (listener.get() < 0)
    return Status::usage(fmt::format("rank 0 cannot listen at TCP port {} of {}: {}; set "
                                     "MASTER_PORT to a port that is free",
                                     fmt::join(place.ports, ", "), place.host, why));
  sockets_.resize(size_);
  for (int missing = size_ - 1; missing > 0;) {
    std::vector<pollfd> entries{{listener.get(), POLLIN, 0}};
    for (const Socket &connection : sockets_)
      entries.push_back({connection.get(), POLLIN, 0}); // none yet: -1, which poll() ignores
    int wait = millisecondsTo(deadline_, 60'000);
    if (wait == 0) {
      std::vector<int> absent;
      for (int rank = 1; rank < size_; ++rank)
        if (sockets_[rank].get() < 0)
          absent.push_back(rank);
      return lost(fmt::format("rank {} did not come to {}, where the ranks meet; was every rank "
                              "started, and can it reach that host?",
                              fmt::join(absent, ", "), place.host));
    }
    if (::poll(entries.data(), entries.size(), wait) <= 0)
      continue;
    // A rank that has said hello says nothing more: what is there to read is its end.
    for (int rank = 1; rank < size_; ++rank)
      if (entries[rank + 1].revents)
        return lost(fmt::format("rank {} ended before all ranks had met", rank));
    if (!entries[0].revents)
      continue;
    Socket connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Hello hello;
    if (connection.get() < 0 ||
        !transferAll(connection.get(), bytesOf(hello), false, Clock::now() + kHelloTime) ||
        hello.mark != kHelloMark || hello.job != place.job)
      continue;
    if (hello.size != size_ || hello.rank < 1 || hello.rank >= size_)
      return Status::usage(fmt::format("a process came as rank {} of {} to a job of {} ranks; "
                                       "start all ranks with the same number",
                                       hello.rank, hello.size, size_));
    if (sockets_[hello.rank].get() >= 0)
      return Status::usage(
          fmt::format("two processes say that they are rank {}; give each its own", hello.rank));
    sockets_[hello.rank] = std::move(connection);
    --missing;
  }
  Hello all{.rank = 0, .size = size_, .job = place.job};
  for (int rank = 1; rank < size_; ++rank)
    if (!transferAll(sockets_[rank].get(), bytesOf(all), true, deadline_))
      return lost(fmt::format("rank {} ended before all ranks had met", rank));
  return {};
}

Status Rendezvous::findLeader(const MeetingPlace &place) {
  SY_ASSIGN_OR_RETURN(in_addr address, addressOf(place.host));
  std::vector<Candidate> candidates;
  for (uint16_t port : place.ports)
    candidates.emplace_back().port = port;
  Hello mine{.rank = rank_, .size = size_, .job = place.job};
  bool wasHeard = false;
  while (Clock::now() < deadline_) {
    std::vector<pollfd> entries;
    for (Candidate &candidate : candidates) {
      if (candidate.connection.get() < 0 && Clock::now() >= candidate.next) {
        candidate.connection = startConnecting(address, candidate.port);
        candidate.hasSpoken = false;
        candidate.next = Clock::now() + std::chrono::milliseconds(kRetryMs);
      }
      entries.push_back({candidate.connection.get(),
                         static_cast<short>(candidate.hasSpoken ? POLLIN : POLLOUT), 0});
    }
    if (::poll(entries.data(), entries.size(), kRetryMs) <= 0)
      continue;
    for (size_t i = 0; i < candidates.size(); ++i) {
      Candidate &candidate = candidates[i];
      if (!entries[i].revents)
        continue;
      Hello answer;
      std::span<std::byte> bytes = candidate.hasSpoken ? bytesOf(answer) : bytesOf(mine);
      bool isFine = transferAll(candidate.connection.get(), bytes, !candidate.hasSpoken,
                                Clock::now() + kHelloTime);
      if (isFine && !candidate.hasSpoken) {
        candidate.hasSpoken = wasHeard = true;
        continue;
      }
      if (isFine && answer.mark == kHelloMark && answer.job == place.job && answer.size == size_) {
        sockets_.push_back(std::move(candidate.connection));
        return {};
      }
      // Nobody else has a port that was named; on others there may be strangers.
      if (candidate.hasSpoken && candidates.size() == 1 && !isFine)
        return lost("rank 0 ended before all ranks had met");
      candidate.connection = Socket();
    }
  }
  return lost(fmt::format("rank {} found no rank 0 at {}, TCP port {}{}; is it started, and can "
                          "this host reach it?",
                          rank_, place.host, fmt::join(place.ports, ", "),
                          wasHeard ? ", where something answers that is of another job" : ""));
}

Status Rendezvous::gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  auto out = std::span(const_cast<std::byte *>(mine.data()), mine.size());
  if (rank_ != 0) {
    int leader = sockets_.front().get();
    if (!transferAll(leader, out, true, deadline_) || !transferAll(leader, all, false, deadline_))
      return lost("rank 0 ended while the ranks got to know each other");
    return {};
  }
  std::ranges::copy(mine, all.begin());
  for (int rank = 1; rank < size_; ++rank)
    if (!transferAll(sockets_[rank].get(), all.subspan(rank * mine.size(), mine.size()), false,
                     deadline_))
      return lost(fmt::format("rank {} ended while the ranks got to know each other", rank));
  for (int rank = 1; rank < size_; ++rank)
    if (!transferAll(sockets_[rank].get(), all, true, deadline_))
      return lost(fmt::format("rank {} ended while the ranks got to know each other", rank));
  return {};
}

} // namespace switchyard::comm
