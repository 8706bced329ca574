// How an executor runs a binding: instruction by instruction, or as the graph that was recorded of
// them.
#include "runtime/executor/Collective.h"
#include "runtime/executor/Executor.h"
#include "runtime/plan/Layout.h"

#include <algorithm>
#include <utility>

namespace switchyard {

void Executor::touch(const Binding::Reach &reach) {
  for (int i = 0; i < kNumArenas; ++i)
    highWater_[i] = std::max(highWater_[i], reach[i]);
}

Status Executor::runStep(const Binding &binding, size_t index) {
  const Binding::Step &step = binding.steps_[index];
  const Program &program = *binding.program_;
  touch(step.reach);
  SY_RETURN_IF_ERROR(mark(binding, static_cast<int64_t>(index)));
  Where where{program.name, static_cast<int64_t>(index)};
  if (communicator_)
    communicator_->setWhere(where);
  Status status;
  if (const auto *launch = std::get_if<std::unique_ptr<PreparedLaunch>>(&step.action)) {
    status = device_->run(**launch);
  } else if (const auto *copy = std::get_if<Binding::Copy>(&step.action)) {
    status = device_->copy(copy->to, copy->from, copy->bytes, step.stream);
  } else if (const auto *event = std::get_if<Binding::Event>(&step.action)) {
    status = event->isWait ? device_->wait(event->number, step.stream)
                           : device_->record(event->number, step.stream);
  } else if (const auto *prepared =
                 std::get_if<std::unique_ptr<PreparedCollective>>(&step.action)) {
    Traffic &traffic = traffic_[static_cast<size_t>(
        std::get<CollectiveInstruction>(program.instructions[index]).kind)];
    ++traffic.calls;
    Communicator::DeviceWait waiting((*prepared)->canRecord() ? nullptr : waitingCommunicator());
    return (*prepared)->run(*device_, where, traffic.bytes); // says where it failed
  }
  return status.ok() ? status : status.within(instructionText(program, index));
}

Status Executor::observe(const Binding &binding, size_t index, Clock::time_point &start) {
  if (!observer_ && !watch_)
    return {};
  if (Status status = synchronize(); !status.ok())
    return status.within(instructionText(*binding.program_, index));
  if (observer_) {
    Clock::time_point end = Clock::now();
    observer_(*binding.program_, index, end - start);
    start = end;
  }
  return watch_ ? watch_->after(binding, index) : Status();
}

Status Executor::runBody(const Binding &binding, size_t repeat, Clock::time_point &start) {
  size_t length = std::get<RepeatInstruction>(binding.program_->instructions[repeat]).length;
  return runSteps(binding, repeat + 1, repeat + 1 + length, start);
}

Status Executor::runRounds(const Binding &binding, size_t index, Clock::time_point &start) {
  const Program &program = *binding.program_;
  auto &prepared = *std::get<std::unique_ptr<PreparedRepeat>>(binding.steps_[index].action);
  if (isRecording_)
    return prepared.record(*device_, [&] { return runBody(binding, index, start); });
  Result<int64_t> rounds = [&] {
    Communicator::DeviceWait waiting(waitingCommunicator());
    return prepared.rounds(*device_);
  }();
  if (!rounds.ok())
    return rounds.status().within(instructionText(program, index));
  SY_RETURN_IF_ERROR(observe(binding, index, start));
  overflowRounds_ += *rounds;
  for (int64_t round = 1; round <= *rounds; ++round) {
    if (Status status = prepared.setRound(*device_, round); !status.ok())
      return status.within(instructionText(program, index));
    SY_RETURN_IF_ERROR(runBody(binding, index, start));
  }
  return {};
}

Status Executor::runSteps(const Binding &binding, size_t begin, size_t end,
                          Clock::time_point &start) {
  for (size_t i = begin; i < end; ++i) {
    if (watch_)
      SY_RETURN_IF_ERROR(watch_->before(binding, i));
    SY_RETURN_IF_ERROR(runStep(binding, i));
    if (!std::holds_alternative<std::unique_ptr<PreparedRepeat>>(binding.steps_[i].action)) {
      SY_RETURN_IF_ERROR(observe(binding, i, start));
      continue;
    }
    SY_RETURN_IF_ERROR(runRounds(binding, i, start));
    i += std::get<RepeatInstruction>(binding.program_->instructions[i]).length;
  }
  return {};
}

Status Executor::synchronize() {
  Communicator::DeviceWait waiting(waitingCommunicator());
  return device_->synchronize();
}

Status Executor::fork(const Binding &binding) {
  if (binding.streams_ == 1)
    return {};
  SY_RETURN_IF_ERROR(device_->record(binding.events_, 0));
  for (uint32_t stream = 1; stream < binding.streams_; ++stream)
    SY_RETURN_IF_ERROR(device_->wait(binding.events_, stream));
  return {};
}

Status Executor::join(const Binding &binding) {
  for (uint32_t stream = 1; stream < binding.streams_; ++stream) {
    SY_RETURN_IF_ERROR(device_->record(binding.events_ + stream, stream));
    SY_RETURN_IF_ERROR(device_->wait(binding.events_ + stream, 0));
  }
  return {};
}

Status Executor::runDirectly(const Binding &binding) {
  Clock::time_point start = observer_ ? Clock::now() : Clock::time_point();
  SY_RETURN_IF_ERROR(fork(binding));
  SY_RETURN_IF_ERROR(runSteps(binding, 0, binding.steps_.size(), start));
  return join(binding);
}

/// What recording the instructions adds to the counters is what each replay will.
Status Executor::record(const Binding &binding) {
  const Binding::Reach reached = std::exchange(highWater_, {});
  const TrafficByKind sent = std::exchange(traffic_, {});
  isRecording_ = true;
  auto graph = device_->capture([&] { return runDirectly(binding); });
  isRecording_ = false;
  binding.graphReach_ = std::exchange(highWater_, reached);
  binding.graphTraffic_ = std::exchange(traffic_, sent);
  if (!graph.ok())
    return graph.status().within("recording program " + binding.program_->name);
  binding.graph_ = std::move(*graph);
  binding.canRecord_ = binding.graph_ != nullptr;
  return {};
}

Status Executor::start(const Binding &binding) {
  touch(binding.portReach_);
  auto named = [&](const Status &status) {
    return status.ok() ? status : status.within("program " + binding.program_->name);
  };
  const bool mayReplay = allowsGraphs_ && !observer_ && !watch_ && binding.canRecord_;
  if (mayReplay && binding.wasRun_ && !binding.graph_)
    SY_RETURN_IF_ERROR(record(binding));
  binding.wasRun_ = true;
  if (marker_) {
    SY_RETURN_IF_ERROR(mark(binding, -1)); // recording marked its instructions
    SY_RETURN_IF_ERROR(named(device_->flush()));
  }
  if (!mayReplay || !binding.graph_)
    return runDirectly(binding);
  touch(binding.graphReach_);
  for (size_t kind = 0; kind < traffic_.size(); ++kind) {
    traffic_[kind].calls += binding.graphTraffic_[kind].calls;
    traffic_[kind].bytes += binding.graphTraffic_[kind].bytes;
  }
  if (communicator_)
    communicator_->setWhere({binding.program_->name, -1});
  return named(device_->run(*binding.graph_));
}

Status Executor::run(const Binding &binding) {
  SY_RETURN_IF_ERROR(start(binding));
  if (Status status = synchronize(); !status.ok())
    return status.within("program " + binding.program_->name);
  return {};
}

} // namespace switchyard
