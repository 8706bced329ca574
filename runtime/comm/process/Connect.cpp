#include "runtime/comm/process/Connect.h"

#include "runtime/core/File.h"
#include "runtime/core/Fingerprint.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace switchyard::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kConnectMs = 3000;
constexpr int kGreetMs = 10'000;
constexpr auto kAcceptTime = std::chrono::seconds(60);
constexpr int kGoneMs = 4000;
constexpr uint32_t kGreetingMark = 0x53594752; // "SYGR"
constexpr int kMaxAddresses = 8;

/// How a rank is reached.
struct Endpoint {
  uint64_t token = 0;
  uint32_t port = 0;
  uint32_t addresses[kMaxAddresses] = {}; // IPv4, as the network orders them; 0: no more
};

/// Sent by the rank that connects, with the token of the one that listens; answered with its own.
struct Greeting {
  uint32_t mark = kGreetingMark;
  int32_t rank = -1;
  uint64_t token = 0;
};

/// The same for ranks that share a loopback interface.
uint64_t hostId() {
  auto boot = readFile("/proc/sys/kernel/random/boot_id", 4096);
  std::string text = boot.ok() ? *boot : "";
  struct stat space{};
  if (stat("/proc/self/ns/net", &space) == 0)
    text += fmt::format(" {} {}", space.st_dev, space.st_ino);
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  return fingerprint(text + " " + host);
}

void findAddresses(Endpoint &endpoint) {
  ifaddrs *list = nullptr;
  if (getifaddrs(&list) != 0)
    return;
  int count = 0;
  for (const ifaddrs *entry = list; entry && count < kMaxAddresses; entry = entry->ifa_next) {
    if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET ||
        (entry->ifa_flags & IFF_LOOPBACK) || !(entry->ifa_flags & IFF_UP))
      continue;
    sockaddr_in address{};
    std::memcpy(&address, entry->ifa_addr, sizeof(address));
    endpoint.addresses[count++] = address.sin_addr.s_addr;
  }
  freeifaddrs(list);
}

template <typename T>
Status gatherValues(const GatherBytes &gather, const T &mine, std::vector<T> &all) {
  return gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
}

Status systemFailure(std::string_view call) {
  return Status::failed(fmt::format("{}: {}", call, errnoText(errno)));
}

Deadline greetDeadline() {
  return Clock::now() + std::chrono::milliseconds(kGreetMs);
}

bool sendGreeting(int socket, Greeting greeting) {
  return transferAll(socket, std::as_writable_bytes(std::span(&greeting, 1)), true,
                     greetDeadline());
}

bool receiveGreeting(int socket, Greeting &greeting) {
  return transferAll(socket, std::as_writable_bytes(std::span(&greeting, 1)), false,
                     greetDeadline()) &&
         greeting.mark == kGreetingMark;
}

void setOptions(int socket) {
  auto set = [&](int level, int option, int value) {
    setsockopt(socket, level, option, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, kGoneMs);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 1);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

/// An unconnected socket if `address` does not answer, or not as the rank that is looked for.
Socket connectTo(uint32_t ipAddress, uint32_t port, const Greeting &mine,
                 const Greeting &expected) {
  Socket connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ipAddress;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (connection.get() < 0)
    return {};
  if (connect(connection.get(), reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0) {
    pollfd entry{connection.get(), POLLOUT, 0};
    int error = 0;
    socklen_t length = sizeof(error);
    if (errno != EINPROGRESS || ::poll(&entry, 1, kConnectMs) != 1 ||
        getsockopt(connection.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
      return {};
  }
  Greeting answer;
  if (!sendGreeting(connection.get(), mine) || !receiveGreeting(connection.get(), answer) ||
      answer.rank != expected.rank || answer.token != expected.token)
    return {};
  return connection;
}

Result<Socket> connectToRank(int peer, const Endpoint &endpoint, bool sameHost,
                             const Greeting &mine, uint64_t myToken) {
  Greeting expected;
  expected.rank = peer;
  expected.token = myToken;
  std::string tried;
  auto attempt = [&](uint32_t address) {
    char text[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &address, text, sizeof(text));
    tried += fmt::format("{}{}", tried.empty() ? "" : ", ", text);
    return connectTo(address, endpoint.port, mine, expected);
  };
  if (sameHost) {
    if (Socket connection = attempt(htonl(INADDR_LOOPBACK)); connection.get() >= 0)
      return connection;
  } else {
    for (uint32_t address : endpoint.addresses) {
      if (address == 0)
        break;
      if (Socket connection = attempt(address); connection.get() >= 0)
        return connection;
    }
  }
  return Status::failed(fmt::format(
      "rank {} does not answer at {}, TCP port {}; ranks need a route between their hosts", peer,
      tried.empty() ? "any address (it has no IPv4 address)" : tried, endpoint.port));
}

/// Takes the connections of the members above `rank`.
Status acceptRanks(int listener, int rank, std::span<const int> members,
                   std::span<const Endpoint> endpoints, std::vector<Socket> &sockets) {
  auto deadline = Clock::now() + kAcceptTime;
  auto missing = members.end() - std::ranges::upper_bound(members, rank);
  while (missing > 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd entry{listener, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&entry, 1, static_cast<int>(left.count())) == 0)
      return Status::failed(fmt::format("{} ranks with higher numbers did not connect within {} s; "
                                        "ranks need a route between their hosts",
                                        missing, kAcceptTime.count()));
    Socket connection(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    Greeting greeting;
    if (connection.get() < 0 || !receiveGreeting(connection.get(), greeting) ||
        greeting.token != endpoints[rank].token || greeting.rank <= rank)
      continue;
    auto member = std::ranges::find(members, greeting.rank);
    if (member == members.end() || sockets[member - members.begin()].get() >= 0)
      continue;
    Greeting answer;
    answer.rank = rank;
    answer.token = endpoints[greeting.rank].token;
    if (!sendGreeting(connection.get(), answer))
      continue;
    sockets[member - members.begin()] = std::move(connection);
    --missing;
  }
  return {};
}

} // namespace

Socket::~Socket() {
  if (descriptor_ >= 0)
    close(descriptor_);
}

bool transferAll(int socket, std::span<std::byte> bytes, bool isWrite, Deadline deadline) {
  while (!bytes.empty()) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd entry{socket, static_cast<short>(isWrite ? POLLOUT : POLLIN), 0};
    if (left.count() <= 0)
      return false;
    int wait = static_cast<int>(std::min<int64_t>(left.count(), 60'000));
    if (int ready = ::poll(&entry, 1, wait); ready <= 0)
      continue;
    ssize_t count = isWrite ? send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                            : recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (count <= 0)
      return false;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return true;
}

Result<Socket> listenOn(bool loopbackOnly, int backlog, uint16_t &port) {
  Socket listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (listener.get() < 0)
    return systemFailure("socket");
  int reuse = 1; // a port whose last connections are not quite over is free
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(loopbackOnly ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t length = sizeof(address);
  auto *generic = reinterpret_cast<sockaddr *>(&address);
  if (bind(listener.get(), generic, length) != 0)
    return systemFailure(fmt::format("bind to TCP port {}", port));
  if (listen(listener.get(), backlog) != 0)
    return systemFailure("listen");
  if (getsockname(listener.get(), generic, &length) != 0)
    return systemFailure("getsockname");
  port = ntohs(address.sin_port);
  return listener;
}

Result<std::vector<Socket>> connectRanks(int rank, int worldSize, std::span<const int> members,
                                         const GatherBytes &gather) {
  std::vector<uint64_t> hosts(worldSize);
  SY_RETURN_IF_ERROR(gatherValues(gather, hostId(), hosts));
  bool oneHost = true;
  for (uint64_t host : hosts)
    oneHost &= host == hosts[0];

  Endpoint mine;
  if (getrandom(&mine.token, sizeof(mine.token), 0) != sizeof(mine.token))
    return systemFailure("getrandom");
  uint16_t port = 0;
  SY_ASSIGN_OR_RETURN(Socket listener, listenOn(oneHost, static_cast<int>(members.size()), port));
  mine.port = port;
  findAddresses(mine);
  std::vector<Endpoint> endpoints(worldSize);
  SY_RETURN_IF_ERROR(gatherValues(gather, mine, endpoints));

  // Lower ranks listen, higher ones connect; the lowest listens at once, so this ends.
  std::vector<Socket> sockets(members.size());
  for (size_t member = 0; members[member] < rank; ++member) {
    int peer = members[member];
    Greeting greeting;
    greeting.rank = rank;
    greeting.token = endpoints[peer].token;
    SY_ASSIGN_OR_RETURN(
        sockets[member],
        connectToRank(peer, endpoints[peer], hosts[peer] == hosts[rank], greeting, mine.token));
  }
  SY_RETURN_IF_ERROR(acceptRanks(listener.get(), rank, members, endpoints, sockets));
  for (const Socket &socket : sockets)
    if (socket.get() >= 0)
      setOptions(socket.get());
  return sockets;
}

} // namespace switchyard::comm
