#include "tools/moe-bench/Report.h"

#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iostream>

namespace switchyard::bench {

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

namespace {

/// The figures of a measurement that both forms show; 0: none.
struct Figures {
  double median = 0, min = 0, max = 0; // ms
  double tokensPerSecond = 0;
  double flopsPerSecond = 0;
  double utilization = 0;
  double bytesPerSecond = 0;
};

Figures figuresOf(const Measurement &measurement) {
  std::vector<double> times, tokens, flops, bytes;
  for (const Run &run : measurement.runs) {
    times.push_back(run.milliseconds);
    tokens.push_back(run.tokens / run.milliseconds * 1e3);
    flops.push_back(run.flops / run.milliseconds * 1e3);
    bytes.push_back(run.bytes / run.milliseconds * 1e3);
  }
  Figures figures;
  figures.median = median(times);
  figures.min = std::ranges::min(times);
  figures.max = std::ranges::max(times);
  figures.tokensPerSecond = median(tokens);
  figures.flopsPerSecond = median(flops);
  figures.bytesPerSecond = median(bytes);
  if (measurement.maxFlops)
    figures.utilization = figures.flopsPerSecond / *measurement.maxFlops;
  return figures;
}

/// By kind: what a step has of it.
Json collectivesJson(const CommunicationTime &time) {
  Json object = Json::object();
  for (size_t kind = 0; kind < time.kinds.size(); ++kind) {
    const CollectiveTime &one = time.kinds[kind];
    if (one.calls == 0)
      continue;
    Json figures = Json::object();
    figures.set("calls", one.calls);
    figures.set("bytes", one.bytes);
    figures.set("ms", one.milliseconds);
    figures.set("bus_gb_per_second", one.busBandwidth());
    object.set(std::string(name(static_cast<CollectiveKind>(kind))), std::move(figures));
  }
  return object;
}

} // namespace

Communication meanCommunication(std::span<const StepSummary> steps) {
  Communication mean;
  const std::span<const StepSummary> counted = steps.subspan(1);
  const auto count = static_cast<int64_t>(counted.size());
  for (const StepSummary &step : counted) {
    mean.stepMilliseconds += step.milliseconds / static_cast<double>(count);
    const CommunicationTime &time = step.communication;
    mean.time.milliseconds += time.milliseconds / static_cast<double>(count);
    mean.time.exposedMilliseconds += time.exposedMilliseconds / static_cast<double>(count);
    for (size_t kind = 0; kind < time.kinds.size(); ++kind) {
      mean.time.kinds[kind].calls += time.kinds[kind].calls;
      mean.time.kinds[kind].bytes += time.kinds[kind].bytes;
      mean.time.kinds[kind].milliseconds +=
          time.kinds[kind].milliseconds / static_cast<double>(count);
    }
  }
  for (CollectiveTime &one : mean.time.kinds) {
    one.calls /= count;
    one.bytes /= count;
  }
  return mean;
}

std::string describe(const Measurement &measurement) {
  const Figures figures = figuresOf(measurement);
  std::string line = fmt::format(
      "switchyard {}{}: {:.3f} ms [{:.3f} {:.3f}] n {}", measurement.name,
      measurement.ranks > 1 ? fmt::format(" on {} ranks, {}", measurement.ranks, measurement.mesh)
                            : "",
      figures.median, figures.min, figures.max, measurement.runs.size());
  if (figures.tokensPerSecond > 0)
    line += fmt::format(", {:.0f} tokens/s", figures.tokensPerSecond);
  if (figures.flopsPerSecond > 0)
    line += fmt::format(", {:.3g} TFLOP/s", figures.flopsPerSecond * 1e-12);
  if (figures.utilization > 0)
    line += fmt::format(", MFU {:.1f}%", figures.utilization * 100);
  if (figures.bytesPerSecond > 0)
    line += fmt::format(", {:.3f} GB/s", figures.bytesPerSecond * 1e-9);
  for (const auto &[key, share] : measurement.shares) {
    std::string words = key;
    std::ranges::replace(words, '_', ' ');
    line += fmt::format(", {:.1f}% {}", share * 100, words);
  }
  if (measurement.loss)
    line += fmt::format(", loss {:.4f}", *measurement.loss);
  if (measurement.error)
    line += fmt::format(", error {:.1e}", *measurement.error);
  for (const auto &[key, bytes] : measurement.bytes)
    line += fmt::format(", {} {:.2f} GiB", key.substr(0, key.rfind("_bytes")),
                        static_cast<double>(bytes) / (1 << 30)); // the key without its unit
  if (const auto &communication = measurement.communication) {
    const CommunicationTime &time = communication->time;
    line +=
        fmt::format(", communication {:.3f} ms of {:.3f}, exposed {:.3f} ms ({:.1f}%)",
                    time.milliseconds, communication->stepMilliseconds, time.exposedMilliseconds,
                    100 * time.exposedMilliseconds / communication->stepMilliseconds);
    if (const std::string collectives = switchyard::describe(time); !collectives.empty())
      line += "\n" + collectives;
  }
  return line;
}

Json toJson(const Measurement &measurement) {
  const Figures figures = figuresOf(measurement);
  Json object = Json::object();
  object.set("program", "switchyard");
  object.set("case", measurement.name);
  object.set("device", measurement.device);
  if (measurement.ranks > 1) {
    object.set("ranks", measurement.ranks);
    object.set("mesh", measurement.mesh);
  }
  Json times = Json::object();
  times.set("median", figures.median);
  times.set("min", figures.min);
  times.set("max", figures.max);
  object.set("ms", std::move(times));
  object.set("runs", static_cast<int64_t>(measurement.runs.size()));
  if (figures.tokensPerSecond > 0)
    object.set("tokens_per_second", figures.tokensPerSecond);
  if (figures.flopsPerSecond > 0)
    object.set("tflops", figures.flopsPerSecond * 1e-12);
  if (figures.utilization > 0)
    object.set("mfu", figures.utilization);
  if (figures.bytesPerSecond > 0)
    object.set("gb_per_second", figures.bytesPerSecond * 1e-9);
  for (const auto &[key, share] : measurement.shares)
    object.set(key, share);
  if (measurement.loss)
    object.set("loss", *measurement.loss);
  if (measurement.error)
    object.set("error", *measurement.error);
  for (const auto &[key, bytes] : measurement.bytes)
    object.set(key, static_cast<int64_t>(bytes));
  if (!measurement.groupSizes.empty()) {
    Json sizes = Json::array();
    for (int32_t size : measurement.groupSizes)
      sizes.append(size);
    object.set("group_sizes", std::move(sizes));
  }
  if (const auto &communication = measurement.communication) {
    object.set("profiled_step_ms", communication->stepMilliseconds);
    object.set("communication_ms", communication->time.milliseconds);
    object.set("exposed_ms", communication->time.exposedMilliseconds);
    object.set("collectives", collectivesJson(communication->time));
  }
  return object;
}

Status report(const Measurement &measurement, const std::string &json) {
  std::cout << describe(measurement) << std::endl;
  if (json.empty())
    return {};
  std::ofstream file(json, std::ios::app);
  file << toJson(measurement).dump() << "\n";
  file.close();
  if (!file)
    return Status::failed(json + ": can't be written; give --json a file in a folder that is there "
                                 "and writable");
  return {};
}

} // namespace switchyard::bench
