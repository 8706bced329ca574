#include "tools/common/ImportFlags.h"

#include <charconv>
#include <cmath>

namespace switchyard {

void ImportFlags::add(CLI::App &app) {
  app.add_option("--precision", options_.precision,
                 "f32, bf16, or bf16_f32_state (float32 master weights and moments); default: the "
                 "checkpoint's dtype")
      ->type_name("POLICY");
  app.add_option("--per-device-train-batch-size", options_.perDeviceTrainBatchSize,
                 "Rows of one micro-batch")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--gradient-accumulation-steps", options_.gradientAccumulationSteps,
                 "Micro-batches of one step")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--max-seq-length", options_.maxSeqLength, "Tokens of the longest row")
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--packing", options_.packing, "A row holds several records, one segment each");
  app.add_option(
         "--coalesce", coalesce_,
         "Micro-batches that one pass computes together: auto (as many as fit --memory), N, "
         "or tokens=N")
      ->capture_default_str()
      ->type_name("auto|N|tokens=N");
  app.add_option("--loss-normalization", options_.lossNormalization,
                 "global (mean over the step's labels) or micro_batch (mean of the micro-batches' "
                 "means)")
      ->capture_default_str()
      ->type_name("SCOPE");
  app.add_option("--weight-decay-scope", options_.weightDecayScope,
                 "hf (not the norms, as transformers' Trainer) or all")
      ->capture_default_str()
      ->type_name("SCOPE");
  app.add_flag(
      "--sync-each-batch", options_.syncEachBatch,
      "Reduce gradients over ranks in each pass. --sync-each-batch=false: once a step, for "
      "which each rank keeps whole gradients. Default: true");
  app.add_option("--step-program", options_.stepProgram,
                 "Programs of a step: split (one over each pass, then the update), fused (one in "
                 "all, with gradients that do not outlive it, where one pass holds the step), or "
                 "auto (fused where one pass holds the step and it fits the memory)")
      ->capture_default_str()
      ->type_name("auto|split|fused");
  app.add_option("--aux-loss-scope", options_.auxLossScope,
                 "Tokens that a load-balancing loss is over: micro_batch, or pass (those of all "
                 "ranks in one pass)")
      ->capture_default_str()
      ->type_name("SCOPE");
  app.add_option("--router-aux-loss-coef", routerAuxLossCoef_,
                 "Weight of the load-balancing loss; default: config.json's, if its "
                 "output_router_logits is true")
      ->type_name("X");
}

Result<compiler::ImportOptions> ImportFlags::options() const {
  compiler::ImportOptions options = options_;
  SY_ASSIGN_OR_RETURN(options.coalesce, compiler::parseCoalesce(coalesce_));
  if (!routerAuxLossCoef_.empty()) {
    const char *end = routerAuxLossCoef_.data() + routerAuxLossCoef_.size();
    auto [stop, error] = std::from_chars(routerAuxLossCoef_.data(), end, options.routerAuxLossCoef);
    if (error != std::errc() || stop != end || !(options.routerAuxLossCoef >= 0) ||
        options.routerAuxLossCoef > 1e6)
      return Status::usage("--router-aux-loss-coef: found \"" + routerAuxLossCoef_ +
                           "\", expected a number from 0 to 1e6");
  }
  return options;
}

} // namespace switchyard
