#include "runtime/comm/process/RankWatch.h"

#include "runtime/core/File.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fmt/format.h>
#include <numeric>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace switchyard::comm {
namespace {

/// Time between two beats: where a rank stood when it died is known as of its last one.
constexpr int64_t kBeatMs = 100;

constexpr uint32_t kFrameMark = 0x53594252; // "SYBR"
enum Kind : int { Beat, Lost, Recorded, Done };

/// How long survivors wait for each other's last words, and then for each other's records: until
/// these are written nobody may end, for mpirun kills all others at once when a second rank ends.
constexpr int64_t kLastWordsMs = 300;
constexpr int64_t kRecordsMs = 500;

/// Bytes that wait for a peer which reads nothing; beats beyond are left out.
constexpr size_t kOutboxLimit = size_t{1} << 16;

/// A rank that has said nothing for so long is sent no beats until it speaks: they would fill the
/// connection of a process that is only stopped, and that would break it.
constexpr int64_t kSilentMs = 5000;

std::vector<int> everyRank(int size) {
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

/// Gives the watch the time to write its record, then lets SIGTERM do what it does.
extern "C" void terminateLate(int signal) {
  timespec time{0, 700'000'000};
  nanosleep(&time, nullptr);
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  raise(signal);
}

} // namespace

/// What one rank tells another. Both run the same program on the same kind of machine.
struct RankWatch::Frame {
  uint32_t mark = kFrameMark;
  int32_t kind = Beat;
  int32_t lostRank = -1;
  Loss::Reason reason = Loss::Reason::Died;
  char detail[160] = {}; // ends in 0
  RankState state;       // `since` as an age
};

struct RankWatch::Peer {
  int socket = -1;
  int64_t heard = 0; // when, as nowMs()
  bool isDone = false;
  bool saidLost = false;
  bool hasRecord = false;
  size_t received = 0;
  std::array<std::byte, sizeof(Frame)> inbox;
  std::vector<std::byte> outbox;
};

RankWatch::RankWatch(int rank, std::string_view backend, std::shared_ptr<RankTable> table,
                     const CommunicatorOptions &options)
    : rank_(rank), backend_(backend), table_(std::move(table)), options_(options),
      interval_(std::clamp<int64_t>(options.timeout.count() / 8, 5, kBeatMs)) {
  peers_.resize(table_->size());
}

Result<std::unique_ptr<RankWatch>> RankWatch::start(int rank, std::string_view backend,
                                                    std::shared_ptr<RankTable> table,
                                                    const CommunicatorOptions &options,
                                                    const GatherBytes &gather) {
  std::unique_ptr<RankWatch> watch(new RankWatch(rank, backend, std::move(table), options));
  auto connected =
      connectRanks(rank, watch->table_->size(), everyRank(watch->table_->size()), gather);
  if (!connected.ok())
    return connected.status().within(
        fmt::format("rank {} cannot set up the watch over the other ranks", rank));
  watch->wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (watch->wake_ < 0)
    return Status::failed("eventfd: " + errnoText(errno));
  for (int peer = 0; peer < watch->table_->size(); ++peer) {
    if (peer == rank)
      continue;
    watch->peers_[peer] = std::make_unique<Peer>();
    watch->peers_[peer]->socket = (*connected)[peer].release();
    watch->peers_[peer]->heard = nowMs();
  }
  // The thread takes no signals: SIGTERM must not stop it from writing the record.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  watch->thread_ = std::thread([self = watch.get()] { self->loop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return watch;
}

RankWatch::~RankWatch() {
  stop(Lost, "it ended before the others");
  for (const auto &peer : peers_)
    if (peer && peer->socket >= 0)
      close(peer->socket);
  if (wake_ >= 0)
    close(wake_);
}

void RankWatch::finish() {
  stop(Done, "");
}

void RankWatch::fail(const std::string &why) {
  stop(Lost, why);
}

void RankWatch::stop(int kind, const std::string &detail) {
  if (!thread_.joinable())
    return;
  stopping_.store(true);
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(wake_, &one, sizeof(one));
  thread_.join();
  Frame frame = frameOf(kind);
  frame.lostRank = rank_;
  frame.reason = Loss::Reason::Failed;
  std::strncpy(frame.detail, detail.c_str(), sizeof(frame.detail) - 1);
  sendToAll(frame);
}

RankWatch::Frame RankWatch::frameOf(int kind) const {
  Frame frame;
  frame.kind = kind;
  frame.state = table_->state(rank_);
  int64_t now = nowMs();
  for (CallState &call : frame.state.calls)
    call.since = now - call.since;
  return frame;
}

void RankWatch::loop() {
  int64_t lastBeat = 0;
  int64_t lastTurn = nowMs();
  while (!stopping_.load()) {
    int64_t now = nowMs();
    if (now - lastBeat >= interval_) {
      sendToAll(frameOf(Beat));
      lastBeat = now;
    }
    poll(interval_ - (now - lastBeat));
    if (isLost_)
      endLost();
    now = nowMs();
    if (now - lastTurn > 4 * interval_ + 1000) {
      // This process itself stood still, perhaps the whole job: the others get their time anew.
      resumed_ = now;
      for (const auto &peer : peers_)
        if (peer)
          peer->heard = now;
    }
    lastTurn = now;
    checkSilence(now);
    checkCalls(now);
    if (isLost_)
      endLost();
  }
}

void RankWatch::poll(int64_t milliseconds) {
  // Members, so that a step allocates nothing.
  std::vector<pollfd> &entries = pollEntries_;
  std::vector<int> &ranks = pollRanks_;
  entries.assign(1, {wake_, POLLIN, 0});
  ranks.assign(1, -1);
  for (int peer = 0; peer < table_->size(); ++peer) {
    if (!peers_[peer] || peers_[peer]->socket < 0)
      continue;
    auto events = static_cast<short>(POLLIN | (peers_[peer]->outbox.empty() ? 0 : POLLOUT));
    entries.push_back({peers_[peer]->socket, events, 0});
    ranks.push_back(peer);
  }
  int timeout = static_cast<int>(std::max<int64_t>(milliseconds, 1));
  if (::poll(entries.data(), entries.size(), timeout) <= 0)
    return;
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].revents & POLLOUT)
      flush(ranks[i]);
    if (entries[i].revents & (POLLIN | POLLERR | POLLHUP))
      readFrom(ranks[i]);
  }
}

void RankWatch::readFrom(int peer) {
  Peer &other = *peers_[peer];
  for (;;) {
    ssize_t count = recv(other.socket, other.inbox.data() + other.received,
                         other.inbox.size() - other.received, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return;
    if (count <= 0) {
      std::string why = count == 0 ? "its connection closed" : errnoText(errno);
      close(other.socket);
      other.socket = -1;
      // Its last words came before: a survivor that ended has said who was lost.
      if (!other.isDone && !other.saidLost)
        noteLoss({peer, Loss::Reason::Died, why});
      return;
    }
    other.heard = nowMs();
    other.received += static_cast<size_t>(count);
    if (other.received < other.inbox.size())
      continue;
    other.received = 0;
    Frame frame;
    std::memcpy(&frame, other.inbox.data(), sizeof(frame));
    take(peer, frame);
  }
}

void RankWatch::take(int peer, const Frame &frame) {
  if (frame.mark != kFrameMark)
    return noteLoss({peer, Loss::Reason::Died, "its connection carries something else"});
  RankState state = frame.state;
  state.program[sizeof(state.program) - 1] = 0;
  int64_t now = nowMs();
  for (CallState &call : state.calls) {
    call.since = now - call.since;
    if (call.op > Op::DeviceWait)
      call.op = Op::None;
  }
  table_->setState(peer, state);
  Peer &other = *peers_[peer];
  if (frame.kind == Done)
    other.isDone = true;
  if (frame.kind == Recorded)
    other.hasRecord = true;
  if (frame.kind != Lost)
    return;
  other.saidLost = true;
  std::string detail(frame.detail, strnlen(frame.detail, sizeof(frame.detail)));
  if (frame.lostRank >= -1 && frame.lostRank < table_->size())
    noteLoss({frame.lostRank, frame.reason, detail});
}

void RankWatch::sendTo(int peer, const Frame &frame, bool always) {
  Peer &other = *peers_[peer];
  if (other.socket < 0)
    return;
  if (!always && (other.outbox.size() > kOutboxLimit || nowMs() - other.heard > kSilentMs))
    return;
  const auto *bytes = reinterpret_cast<const std::byte *>(&frame);
  other.outbox.insert(other.outbox.end(), bytes, bytes + sizeof(frame));
  flush(peer);
}

void RankWatch::flush(int peer) {
  Peer &other = *peers_[peer];
  while (!other.outbox.empty()) {
    ssize_t count =
        send(other.socket, other.outbox.data(), other.outbox.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0) {
      // A broken connection is noticed where it is read, behind the last words.
      if (errno != EAGAIN && errno != EWOULDBLOCK)
        other.outbox.clear();
      return;
    }
    other.outbox.erase(other.outbox.begin(), other.outbox.begin() + count);
  }
}

void RankWatch::sendToAll(const Frame &frame) {
  for (int peer = 0; peer < table_->size(); ++peer)
    if (peers_[peer])
      sendTo(peer, frame, frame.kind != Beat);
}

void RankWatch::checkSilence(int64_t now) {
  for (int peer = 0; peer < table_->size(); ++peer) {
    if (!peers_[peer] || peers_[peer]->isDone || peers_[peer]->socket < 0)
      continue;
    int64_t silent = now - peers_[peer]->heard;
    if (silent > options_.timeout.count() + interval_)
      return noteLoss(
          {peer, Loss::Reason::Stalled, fmt::format("its process says nothing for {} ms", silent)});
  }
}

void RankWatch::checkCalls(int64_t now) {
  RankState mine = table_->state(rank_);
  int group = mine.waitingGroup();
  if (group < 0)
    return;
  int64_t waited = now - std::max(mine.calls[group].since, resumed_);
  if (waited <= options_.timeout.count())
    return;
  std::string detail =
      fmt::format("rank {} waited for {} ms in {}", rank_, waited, name(mine.calls[group].op));
  for (int member : table_->members(rank_, group))
    if (peers_[member] && now - peers_[member]->heard > 3 * interval_ + 100)
      return noteLoss({member, Loss::Reason::Stalled, detail + "; its process says nothing"});
  int awaited = table_->awaitedBy(rank_, group);
  noteLoss({awaited, Loss::Reason::Stalled,
            awaited < 0 ? detail + ", to which all ranks came" : detail});
}

void RankWatch::noteLoss(Loss loss) {
  if (isLost_)
    return; // the first one counts
  isLost_ = true;
  loss_ = std::move(loss);
}

template <typename Condition>
void RankWatch::waitForSurvivors(int64_t milliseconds, const Condition &isReady) {
  int64_t deadline = nowMs() + milliseconds;
  for (;;) {
    bool areReady = true;
    for (int peer = 0; peer < table_->size(); ++peer)
      areReady &= peer == loss_.rank || !peers_[peer] || peers_[peer]->socket < 0 ||
                  peers_[peer]->isDone || isReady(*peers_[peer]);
    int64_t left = deadline - nowMs();
    if (areReady || left <= 0)
      return;
    poll(std::min<int64_t>(left, 20));
  }
}

void RankWatch::endLost() {
  Frame frame = frameOf(Lost);
  frame.lostRank = loss_.rank;
  frame.reason = loss_.reason;
  std::strncpy(frame.detail, loss_.detail.c_str(), sizeof(frame.detail) - 1);
  sendToAll(frame);
  waitForSurvivors(kLastWordsMs, [](const Peer &peer) { return peer.saidLost; });
  reportLoss(loss_, rank_, backend_, *table_, options_.failureFolder);
  sendToAll(frameOf(Recorded));
  waitForSurvivors(kRecordsMs, [](const Peer &peer) { return peer.hasRecord; });
  endProcess();
}

void delayTermination() {
  struct sigaction action{};
  if (sigaction(SIGTERM, nullptr, &action) != 0 || (action.sa_flags & SA_SIGINFO) ||
      action.sa_handler != SIG_DFL)
    return;
  action.sa_handler = terminateLate;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
}

} // namespace switchyard::comm
