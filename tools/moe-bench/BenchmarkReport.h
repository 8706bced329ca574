// What a table says: each row beside the one without acceleration, and beside an earlier table.
#pragma once

#include "tools/moe-bench/BenchmarkTable.h"

#include <string>
#include <vector>

namespace switchyard::bench {

/// Lines of a table for a person. A row is compared with the row of "none" that has the same
/// scenario, model, GPUs, batch, accumulation, length, packing and type, where there is one: how
/// much faster it is and how much less memory it takes.
std::string formatReport(const std::vector<BenchmarkRow> &rows);

struct Comparison {
  std::string text;    // a line for each figure that differs by more, then a summary
  int regressions = 0; // figures that are worse by more
};

/// Compares train_tokens_per_second, train_loss and memory of rows that both tables have.
/// Differences up to `thresholdRatio` of the earlier figure pass. Fewer tokens a second, more
/// memory, and a loss that is other in either direction are regressions. A row of which the earlier
/// table has several is not compared, and said to be so.
Comparison compareTables(const std::vector<BenchmarkRow> &rows,
                         const std::vector<BenchmarkRow> &reference, const std::string &file,
                         double thresholdRatio);

} // namespace switchyard::bench
