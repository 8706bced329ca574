#include "runtime/training/CommunicationTime.h"

#include "runtime/plan/Layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace switchyard {

CommunicationTime communicationTime(std::span<const Work> work) {
  struct Edge {
    uint64_t time = 0;
    int talking = 0; // more collectives than before
    int computing = 0;
  };
  CommunicationTime result;
  std::vector<Edge> edges;
  for (const Work &one : work) {
    if (one.end <= one.begin)
      continue;
    const int talks = one.isCollective ? 1 : 0;
    edges.push_back({one.begin, talks, 1 - talks});
    edges.push_back({one.end, -talks, talks - 1});
    if (one.isCollective && one.kind)
      result.kinds[static_cast<size_t>(*one.kind)].milliseconds +=
          static_cast<double>(one.end - one.begin) / 1e6;
  }
  std::ranges::sort(edges, {}, &Edge::time);
  int talking = 0, computing = 0;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    talking += edges[i].talking;
    computing += edges[i].computing;
    const double span = static_cast<double>(edges[i + 1].time - edges[i].time) / 1e6;
    if (talking > 0)
      result.milliseconds += span;
    if (talking > 0 && computing == 0)
      result.exposedMilliseconds += span;
  }
  return result;
}

std::string describe(const CommunicationTime &time) {
  std::string text;
  for (size_t kind = 0; kind < time.kinds.size(); ++kind) {
    const CollectiveTime &one = time.kinds[kind];
    if (one.calls == 0)
      continue;
    text += fmt::format("{}{}: {} calls, {:.1f} MB", text.empty() ? "" : "\n",
                        name(static_cast<CollectiveKind>(kind)), one.calls,
                        static_cast<double>(one.bytes) / 1e6);
    if (one.milliseconds > 0)
      text += fmt::format(" in {:.3f} ms, {:.1f} GB/s", one.milliseconds, one.busBandwidth());
  }
  return text;
}

} // namespace switchyard
