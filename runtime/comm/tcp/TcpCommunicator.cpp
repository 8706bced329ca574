#include "runtime/comm/tcp/TcpCommunicator.h"

#include "runtime/comm/process/ProcessCommunicator.h"
#include "runtime/comm/process/Rendezvous.h"
#include "runtime/core/File.h"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

namespace switchyard {
namespace comm {
namespace {

constexpr std::chrono::milliseconds kLeastMeetingTime{60'000};
/// Times that a rank looks for bytes before it sleeps until there are some.
constexpr int kSpins = 200;

class TcpMessages final : public Messages {
public:
  explicit TcpMessages(std::vector<Socket> sockets) {
    for (Socket &socket : sockets) {
      members_.emplace_back();
      members_.back().socket = std::move(socket);
    }
    entries_.reserve(members_.size());
  }

  Status send(int member, const void *data, int64_t bytes) override {
    if (bytes > 0)
      members_[member].out.parts.push_back(
          {static_cast<std::byte *>(const_cast<void *>(data)), static_cast<size_t>(bytes)});
    return {};
  }

  Status receive(int member, void *data, int64_t bytes) override {
    if (bytes > 0)
      members_[member].in.parts.push_back(
          {static_cast<std::byte *>(data), static_cast<size_t>(bytes)});
    return {};
  }

  Status wait() override {
    for (int turn = 0;; ++turn) {
      bool isDone = true;
      bool hasMoved = false;
      for (size_t member = 0; member < members_.size(); ++member) {
        Member &other = members_[member];
        for (bool isOut : {true, false})
          if (!move(other, isOut, hasMoved))
            return afterTheWatch(Status::failed(
                fmt::format("the connection to rank {} of the group broke: {}", member,
                            errno == 0 ? std::string("it was closed") : errnoText(errno))));
        isDone &= other.out.isDone() && other.in.isDone();
      }
      if (isDone)
        break;
      if (hasMoved)
        turn = 0;
      else if (turn > kSpins)
        sleepUntilReady();
    }
    for (Member &member : members_)
      for (Queue *queue : {&member.out, &member.in}) {
        queue->parts.clear();
        queue->part = 0;
      }
    return {};
  }

  void reserve(int64_t messages) override {
    for (Member &member : members_)
      for (Queue *queue : {&member.out, &member.in})
        queue->parts.reserve(static_cast<size_t>(messages));
  }

  void close() override {
    for (Member &member : members_)
      member.socket = Socket();
  }

  uint64_t memoryBytes() const override {
    uint64_t bytes = members_.capacity() * sizeof(Member) + entries_.capacity() * sizeof(pollfd);
    for (const Member &member : members_)
      bytes += (member.out.parts.capacity() + member.in.parts.capacity()) * sizeof(Part);
    return bytes;
  }

private:
  using Part = std::span<std::byte>;

  /// What is to be moved, in order, and how far that has come.
  struct Queue {
    std::vector<Part> parts;
    size_t part = 0;
    size_t done = 0; // bytes of that part
    bool isDone() const { return part == parts.size(); }
  };
  struct Member {
    Socket socket;
    Queue out, in;
  };

  /// Moves what can be moved at once; false if the connection broke: errno, or 0 if it was closed.
  static bool move(Member &member, bool isOut, bool &hasMoved) {
    Queue &queue = isOut ? member.out : member.in;
    while (!queue.isDone()) {
      Part rest = queue.parts[queue.part].subspan(queue.done);
      ssize_t count =
          isOut ? ::send(member.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                : ::recv(member.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT);
      if (count < 0 && errno == EINTR)
        continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
      if (count <= 0) {
        errno = count == 0 ? 0 : errno;
        return false;
      }
      hasMoved = true;
      queue.done += static_cast<size_t>(count);
      if (queue.done == queue.parts[queue.part].size()) {
        ++queue.part;
        queue.done = 0;
      }
    }
    return true;
  }

  void sleepUntilReady() {
    entries_.clear();
    for (const Member &member : members_) {
      int events = (member.in.isDone() ? 0 : POLLIN) | (member.out.isDone() ? 0 : POLLOUT);
      if (events)
        entries_.push_back({member.socket.get(), static_cast<short>(events), 0});
    }
    ::poll(entries_.data(), entries_.size(), 1000);
  }

  std::vector<Member> members_;
  std::vector<pollfd> entries_;
};

class TcpCommunicator final : public ProcessCommunicator {
public:
  TcpCommunicator(const CommunicatorOptions &options, int rank, int size)
      : ProcessCommunicator(rank, size, std::make_shared<RankTable>(size)), options_(options) {}

  Status start(Rendezvous rendezvous) {
    gather_ = [&](std::span<const std::byte> mine, std::span<std::byte> all) {
      return rendezvous.gather(mine, all);
    };
    SY_ASSIGN_OR_RETURN(watch_, RankWatch::start(rank(), "tcp", sharedTable(), options_, gather_));
    SY_RETURN_IF_ERROR(addWorld());
    gather_ = [this](std::span<const std::byte> mine, std::span<std::byte> all) {
      return world().allGather({"start"}, {kernels::DType::I32, mine.data(), all.data(),
                                           static_cast<int64_t>(mine.size() / sizeof(int32_t))});
    };
    return {};
  }

  std::string_view backend() const override { return "tcp"; }

private:
  Result<std::unique_ptr<Group>> makeGroup(std::shared_ptr<const GroupMembers> members) override {
    SY_ASSIGN_OR_RETURN(std::vector<Socket> sockets,
                        connectRanks(rank(), size(), members->ranks, gather_));
    return groupOf(std::move(members), std::make_unique<TcpMessages>(std::move(sockets)),
                   options_.scratchBytes);
  }

  CommunicatorOptions options_;
  GatherBytes gather_;
};

/// Each group takes a file descriptor per member, which may be more than programs get by default.
void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

} // namespace
} // namespace comm

Result<std::unique_ptr<Communicator>> createTcpCommunicator(const RankPlace &place,
                                                            const CommunicatorOptions &options) {
  CommunicatorOptions withoutFolder = options;
  withoutFolder.failureFolder.clear();
  SY_RETURN_IF_ERROR(checkOptions(withoutFolder, place.size));
  if (!place.meeting)
    return Status::usage(fmt::format(
        "{} does not say where the ranks meet; set MASTER_ADDR (the host of rank 0) and "
        "MASTER_PORT (a free TCP port there) for all of them, as in mpirun -x MASTER_ADDR=node1 "
        "-x MASTER_PORT=29500",
        place.launcher));
  comm::raiseDescriptorLimit();
  comm::delayTermination();
  SY_ASSIGN_OR_RETURN(comm::Rendezvous rendezvous,
                      comm::Rendezvous::meet(place.rank, place.size, *place.meeting,
                                             std::max(options.timeout, comm::kLeastMeetingTime)));
  // The folder is made only now: rank 0 may have found before that it must not be.
  SY_RETURN_IF_ERROR(checkOptions(options, place.size));
  auto communicator = std::make_unique<comm::TcpCommunicator>(options, place.rank, place.size);
  SY_RETURN_IF_ERROR(communicator->start(std::move(rendezvous)));
  return std::unique_ptr<Communicator>(std::move(communicator));
}

} // namespace switchyard
