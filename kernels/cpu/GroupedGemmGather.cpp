// Grouped GEMMs on tokens where they stand: the tokens' rows are gathered at the end of the
// workspace, and the kernels that each stands for do the rest. A number outside [0, T) is no token,
// as in gather_rows.
#include "kernels/cpu/KernelList.h"

namespace switchyard::kernels::cpu {
namespace {

/// A launch of the same context with other operands and the workspace before the gathered rows.
Launch launchOf(const Launch &launch, std::span<const Tensor> operands, const Tensor &rows) {
  return {
      operands, {}, launch.workspace.first(launch.workspace.size() - rows.bytes()), launch.context};
}

/// Where the rows of `tokens` go; without data where the launch is only prepared.
Tensor rowsOf(const Launch &launch, const Tensor &tokens, const Tensor &tokenOfRow) {
  Tensor rows = {nullptr, tokens.dtype, 2, {tokenOfRow.dims[0], tokens.dims[1]}};
  if (launch.workspace.data())
    rows.data = launch.workspace.last(rows.bytes()).data();
  return rows;
}

Tensor gather(const Launch &launch, const Tensor &tokens, const Tensor &tokenOfRow) {
  Tensor rows = rowsOf(launch, tokens, tokenOfRow);
  const Tensor operands[] = {tokens, tokenOfRow, rows};
  runGatherRows(launchOf(launch, operands, rows));
  return rows;
}

/// A gradient by weight where operand `tokens`, 0 of dy or 1 of x, has token_of_row behind it:
/// calls `kernel` with the `rows` in its place.
template <typename Kernel>
auto withRows(const Launch &launch, int tokens, const Tensor &rows, Kernel kernel) {
  const Tensor *o = launch.operands.data();
  const Tensor product[] = {tokens == 0 ? rows : o[0], tokens == 0 ? o[2] : rows, o[3], o[4]};
  return kernel(launchOf(launch, product, rows));
}

std::optional<std::string> prepareWgrad(const Launch &launch, int tokens) {
  const Tensor *o = launch.operands.data();
  return withRows(launch, tokens, rowsOf(launch, o[tokens], o[tokens + 1]),
                  prepareGroupedGemmWgrad);
}

void runWgrad(const Launch &launch, int tokens, void (*run)(const Launch &)) {
  const Tensor *o = launch.operands.data();
  withRows(launch, tokens, gather(launch, o[tokens], o[tokens + 1]), run);
}

} // namespace

std::optional<std::string> prepareGroupedGemmGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data(), rows = rowsOf(launch, o[0], o[1]);
  const Tensor product[] = {rows, o[2], o[3], o[4], o[5]};
  return prepareGroupedGemmGated(launchOf(launch, product, rows));
}

void runGroupedGemmGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data(), rows = gather(launch, o[0], o[1]);
  const Tensor product[] = {rows, o[2], o[3], o[4], o[5]};
  runGroupedGemmGated(launchOf(launch, product, rows));
}

std::optional<std::string> prepareGroupedGemmDgradGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data(), rows = rowsOf(launch, o[0], o[1]);
  const Tensor product[] = {rows, o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9]};
  return prepareGroupedGemmDgradGatedWeighted(launchOf(launch, product, rows));
}

void runGroupedGemmDgradGatedGather(const Launch &launch) {
  const Tensor *o = launch.operands.data(), rows = gather(launch, o[0], o[1]);
  const Tensor product[] = {rows, o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9]};
  runGroupedGemmDgradGatedWeighted(launchOf(launch, product, rows));
}

std::optional<std::string> prepareGroupedGemmWgradGatherX(const Launch &launch) {
  return prepareWgrad(launch, 1);
}

void runGroupedGemmWgradGatherX(const Launch &launch) {
  runWgrad(launch, 1, runGroupedGemmWgrad);
}

void runGroupedGemmWgradGatherXAccumulate(const Launch &launch) {
  runWgrad(launch, 1, runGroupedGemmWgradAccumulate);
}

std::optional<std::string> prepareGroupedGemmWgradGatherDy(const Launch &launch) {
  return prepareWgrad(launch, 0);
}

void runGroupedGemmWgradGatherDy(const Launch &launch) {
  runWgrad(launch, 0, runGroupedGemmWgrad);
}

void runGroupedGemmWgradGatherDyAccumulate(const Launch &launch) {
  runWgrad(launch, 0, runGroupedGemmWgradAccumulate);
}

} // namespace switchyard::kernels::cpu
