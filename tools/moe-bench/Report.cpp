#include "tools/moe-bench/Report.h"

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
};

Figures figuresOf(const Measurement &measurement) {
  std::vector<double> times, tokens, flops;
  for (const Run &run : measurement.runs) {
    times.push_back(run.milliseconds);
    tokens.push_back(run.tokens / run.milliseconds * 1e3);
    flops.push_back(run.flops / run.milliseconds * 1e3);
  }
  Figures figures;
  figures.median = median(times);
  figures.min = std::ranges::min(times);
  figures.max = std::ranges::max(times);
  figures.tokensPerSecond = median(tokens);
  figures.flopsPerSecond = median(flops);
  if (measurement.maxFlops)
    figures.utilization = figures.flopsPerSecond / *measurement.maxFlops;
  return figures;
}

} // namespace

std::string describe(const Measurement &measurement) {
  const Figures figures = figuresOf(measurement);
  std::string line = fmt::format("switchyard {}: {:.3f} ms [{:.3f} {:.3f}] n {}", measurement.name,
                                 figures.median, figures.min, figures.max, measurement.runs.size());
  if (figures.tokensPerSecond > 0)
    line += fmt::format(", {:.0f} tokens/s", figures.tokensPerSecond);
  if (figures.flopsPerSecond > 0)
    line += fmt::format(", {:.3g} TFLOP/s", figures.flopsPerSecond * 1e-12);
  if (figures.utilization > 0)
    line += fmt::format(", MFU {:.1f}%", figures.utilization * 100);
  if (measurement.loss)
    line += fmt::format(", loss {:.4f}", *measurement.loss);
  for (const auto &[key, bytes] : measurement.bytes)
    line += fmt::format(", {} {:.2f} GiB", key.substr(0, key.rfind("_bytes")),
                        static_cast<double>(bytes) / (1 << 30)); // the key without its unit
  return line;
}

Json toJson(const Measurement &measurement) {
  const Figures figures = figuresOf(measurement);
  Json object = Json::object();
  object.set("program", "switchyard");
  object.set("case", measurement.name);
  object.set("device", measurement.device);
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
  if (measurement.loss)
    object.set("loss", *measurement.loss);
  for (const auto &[key, bytes] : measurement.bytes)
    object.set(key, static_cast<int64_t>(bytes));
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
