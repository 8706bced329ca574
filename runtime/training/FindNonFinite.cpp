// What a session does to say where values that are infinite or NaN come from.
#include "runtime/executor/NonFiniteSearch.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/SavedStates.h"
#include "runtime/training/Session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

namespace switchyard {

namespace {

constexpr uint64_t kPieceBytes = uint64_t{4} << 20;

/// What a rank found, as ranks gather it: earlier ones are less, and of those at one place the
/// ones that were not finite before.
struct Finding {
  int64_t isNone = 1;
  NonFinitePlace place;
  int64_t isOwn = 1;

  auto operator<=>(const Finding &) const = default;
};
static_assert(sizeof(Finding) == 6 * sizeof(int64_t));

Finding findingOf(const std::optional<NonFinite> &found) {
  return found ? Finding{0, found->place, !found->isInherited} : Finding{};
}

} // namespace

/// The step or, without `scalars`, the evaluation of what `filler` has dealt, to its end on all
/// ranks.
Status Session::replay(const PassFiller &filler, const UpdateScalars *scalars) {
  Underway underway;
  if (!scalars) {
    SY_RETURN_IF_ERROR(startPasses("evaluate", filler, underway));
  } else if (isFused()) {
    SY_RETURN_IF_ERROR(startFused(filler, *scalars, underway));
  } else {
    SY_RETURN_IF_ERROR(executor_->zeroGradients());
    SY_RETURN_IF_ERROR(startPasses("micro_step", filler, underway));
    SY_RETURN_IF_ERROR(startUpdate(*scalars, underway));
    SY_RETURN_IF_ERROR(underway.update->wait());
  }
  for (int64_t pass = 0; pass < underway.numPasses; ++pass)
    SY_RETURN_IF_ERROR(underway.passes[pass]->wait());
  return {};
}

Result<NonFiniteReport> Session::findNonFinite(const PassFiller &filler,
                                               const UpdateScalars *scalars) {
  NonFiniteSearch search(*executor_);
  SY_RETURN_IF_ERROR(replay(filler, scalars));
  const Finding mine = findingOf(search.found());
  const auto *numbers = reinterpret_cast<const int64_t *>(&mine);
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> all,
                      agreement_->gather({numbers, sizeof(Finding) / sizeof(int64_t)}));
  const std::span<const Finding> findings(reinterpret_cast<const Finding *>(all.data()),
                                          agreement_->size());
  const Finding first = *std::ranges::min_element(findings);
  NonFiniteReport report;
  if (first.isNone)
    return report;
  std::vector<int> ranks;
  for (int rank = 0; rank < agreement_->size(); ++rank)
    if (findings[rank] == first)
      ranks.push_back(rank);
  std::string text; // a line each
  if (mine == first) {
    text = fmt::format("{} by {}", ranksText(ranks, agreement_->size()), search.found()->where);
    if (first.place.round > 0)
      text += fmt::format(", overflow round {}", first.place.round);
    if (filler.numPasses() > 1 && first.place.run < filler.numPasses())
      text += fmt::format(", pass {} of {}", first.place.run + 1, filler.numPasses());
    text = fmt::format("{}\n{}", text.substr(1), fmt::join(search.found()->details, "\n"));
  }
  SY_ASSIGN_OR_RETURN(text, agreement_->share(text, ranks.front()));
  std::istringstream lines(text);
  std::getline(lines, report.where);
  for (std::string line; std::getline(lines, line);)
    report.details.push_back(line);
  return report;
}

Result<NonFiniteReport> Session::findNonFinite(const PassFiller &filler,
                                               const UpdateScalars &scalars) {
  return findNonFinite(filler, &scalars);
}

Result<NonFiniteReport> Session::findNonFiniteInEvaluation(const PassFiller &filler) {
  return findNonFinite(filler, nullptr);
}

/// This rank's part of a state.
Result<NonFiniteValues> Session::nonFiniteValuesOf(size_t index) {
  const State &state = plan().states[index];
  const std::optional<FloatFormat> format = floatFormat(state.dtype);
  NonFiniteValues found;
  if (!format)
    return found;
  const ElementRange held =
      localRange(state.shape, state.sharding, plan().mesh, agreement_->rank());
  const auto bytes = static_cast<uint64_t>(held.count()) * byteSize(*format);
  std::vector<std::byte> piece;
  for (uint64_t at = 0; at < bytes; at += kPieceBytes) {
    piece.resize(std::min(kPieceBytes, bytes - at));
    SY_RETURN_IF_ERROR(executor_->readState(index, at, piece));
    const NonFiniteValues here = switchyard::findNonFinite(*format, piece);
    if (found.count == 0 && here.count > 0) {
      found.first = held.begin + static_cast<int64_t>(at / byteSize(*format)) + here.first;
      found.value = here.value;
    }
    found.count += here.count;
  }
  return found;
}

Result<std::string> Session::findNonFiniteState() {
  std::string text;
  int64_t count = 0;
  for (size_t index = 0; index < plan().states.size(); ++index) {
    const State &state = plan().states[index];
    if (!isSaved(state)) // a step begins with zeros there
      continue;
    SY_ASSIGN_OR_RETURN(NonFiniteValues found, nonFiniteValuesOf(index));
    if (found.count > 0 && count++ == 0)
      text = fmt::format("state {}: {}", state.name, describe(found, state.shape));
  }
  const int64_t mine[] = {count};
  SY_ASSIGN_OR_RETURN(std::span<const int64_t> counts, agreement_->gather(mine));
  const auto found = std::ranges::find_if(counts, [](int64_t other) { return other > 0; });
  if (found == counts.end())
    return std::string();
  const auto rank = static_cast<int>(found - counts.begin());
  if (count > 1)
    text += fmt::format(", and {} more state{}", count - 1, count == 2 ? "" : "s");
  const int ranks[] = {rank};
  return agreement_->share(text + ranksText(ranks, agreement_->size()), rank);
}

} // namespace switchyard
