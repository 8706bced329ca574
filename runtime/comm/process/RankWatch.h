// The watch that processes keep over each other, outside MPI: a TCP connection between every two
// ranks, served by one thread per process.
//
// Each rank tells the others, ten times a second, where it stands. A connection that breaks is a
// rank that died (the kernel closes it, whatever ended the process; a host that is gone is seen by
// unacknowledged data within 4 s). A rank that says nothing for the timeout, or for which a call
// has waited that long, has stalled. The first to notice tells all; the survivors exchange where
// they stand, write their records and end with exit code 5.
#pragma once

#include "runtime/comm/FailureRecord.h"
#include "runtime/comm/process/Connect.h"

#include <atomic>
#include <poll.h>
#include <thread>

namespace switchyard::comm {

class RankWatch {
public:
  /// Connects every rank with every other and starts to watch. Collective. `backend` stands in
  /// records.
  static Result<std::unique_ptr<RankWatch>> start(int rank, std::string_view backend,
                                                  std::shared_ptr<RankTable> table,
                                                  const CommunicatorOptions &options,
                                                  const GatherBytes &gather);
  /// Without finish() before: as fail("it ended before the others").
  ~RankWatch();

  /// Stops watching; the others are told that this rank is done.
  void finish();
  /// Stops watching; the others are told that this rank failed.
  void fail(const std::string &why);

private:
  struct Frame;
  struct Peer;

  RankWatch(int rank, std::string_view backend, std::shared_ptr<RankTable> table,
            const CommunicatorOptions &options);

  void loop();
  void poll(int64_t milliseconds);
  void readFrom(int peer);
  void take(int peer, const Frame &frame);
  void sendTo(int peer, const Frame &frame, bool always);
  void flush(int peer);
  void sendToAll(const Frame &frame);
  Frame frameOf(int kind) const;
  void checkSilence(int64_t now);
  void checkCalls(int64_t now);
  void noteLoss(Loss loss);
  template <typename Condition>
  void waitForSurvivors(int64_t milliseconds, const Condition &isReady);
  [[noreturn]] void endLost();
  void stop(int kind, const std::string &detail);

  int rank_;
  std::string backend_;
  std::shared_ptr<RankTable> table_;
  CommunicatorOptions options_;
  int64_t interval_;                         // between two beats, in ms
  std::vector<std::unique_ptr<Peer>> peers_; // by rank; null for this one
  int wake_ = -1;                            // an eventfd: stop
  std::atomic<bool> stopping_{false};
  // The rest is the thread's.
  int64_t resumed_ = 0; // when this process last ran on after it had stood still, as nowMs()
  bool isLost_ = false;
  Loss loss_;
  std::vector<pollfd> pollEntries_;
  std::vector<int> pollRanks_;
  std::thread thread_;
};

/// From now on SIGTERM takes effect 0.7 s late where it is at its default action: launchers end the
/// other processes with it when one dies, and these still have to write their records.
void delayTermination();

} // namespace switchyard::comm
