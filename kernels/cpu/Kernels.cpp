#include "kernels/cpu/Kernels.h"

#include "kernels/cpu/KernelList.h"

namespace switchyard::kernels::cpu {
namespace {

constexpr Kernel kKernels[] = {
    {"accumulate", nullptr, runAccumulate},
    {"adamw", nullptr, runAdamw},
    {"adamw_master", nullptr, runAdamwMaster},
    {"add", nullptr, runAdd},
    {"attention", prepareAttention, runAttention},
    {"attention_grad", prepareAttentionGrad, runAttentionGrad},
    {"cast", nullptr, runCast},
    {"clip", nullptr, runClip},
    {"constant", nullptr, runConstant},
    {"embedding", nullptr, runEmbedding},
    {"embedding_grad", nullptr, runEmbeddingGrad},
    {"gated_activation", nullptr, runGatedActivation},
    {"gated_activation_grad", nullptr, runGatedActivationGrad},
    {"gather_rows", nullptr, runGatherRows},
    {"grouped_gemm", prepareGroupedGemm, runGroupedGemm},
    {"grouped_gemm_dgrad", prepareGroupedGemmDgrad, runGroupedGemmDgrad},
    {"grouped_gemm_dgrad_gated", prepareGroupedGemmDgradGated, runGroupedGemmDgradGated},
    {"grouped_gemm_dgrad_gated_gather", prepareGroupedGemmDgradGatedGather,
     runGroupedGemmDgradGatedGather},
    {"grouped_gemm_dgrad_gated_weighted", prepareGroupedGemmDgradGatedWeighted,
     runGroupedGemmDgradGatedWeighted},
    {"grouped_gemm_gated", prepareGroupedGemmGated, runGroupedGemmGated},
    {"grouped_gemm_gated_gather", prepareGroupedGemmGatedGather, runGroupedGemmGatedGather},
    {"grouped_gemm_wgrad", prepareGroupedGemmWgrad, runGroupedGemmWgrad},
    {"grouped_gemm_wgrad_accumulate", prepareGroupedGemmWgrad, runGroupedGemmWgradAccumulate},
    {"grouped_gemm_wgrad_gather_dy", prepareGroupedGemmWgradGatherDy, runGroupedGemmWgradGatherDy},
    {"grouped_gemm_wgrad_gather_dy_accumulate", prepareGroupedGemmWgradGatherDy,
     runGroupedGemmWgradGatherDyAccumulate},
    {"grouped_gemm_wgrad_gather_x", prepareGroupedGemmWgradGatherX, runGroupedGemmWgradGatherX},
    {"grouped_gemm_wgrad_gather_x_accumulate", prepareGroupedGemmWgradGatherX,
     runGroupedGemmWgradGatherXAccumulate},
    {"grouped_gemm_wgrad_squared", prepareGroupedGemmWgrad, runGroupedGemmWgradSquared},
    {"linear", prepareLinear, runLinear},
    {"linear_cross_entropy", prepareLinearCrossEntropy, runLinearCrossEntropy},
    {"linear_cross_entropy_grad", prepareLinearCrossEntropyGrad, runLinearCrossEntropyGrad},
    {"linear_dgrad", prepareLinearDgrad, runLinearDgrad},
    {"linear_wgrad", prepareLinearWgrad, runLinearWgrad},
    {"load_balance_loss", nullptr, runLoadBalanceLoss},
    {"load_balance_loss_grad", nullptr, runLoadBalanceLossGrad},
    {"permute", nullptr, runPermute},
    {"permute_grad", nullptr, runPermuteGrad},
    {"permute_grad_add", nullptr, runPermuteGradAdd},
    {"qk_norm", nullptr, runQkNorm},
    {"qk_norm_grad", nullptr, runQkNormGrad},
    {"rms_norm", nullptr, runRmsNorm},
    {"rms_norm_grad", nullptr, runRmsNormGrad},
    {"rotary", nullptr, runRotary},
    {"router", nullptr, runRouter},
    {"router_grad", nullptr, runRouterGrad},
    {"router_grad_renormalized", nullptr, runRouterGradRenormalized},
    {"rows_of_tokens", nullptr, runRowsOfTokens},
    {"scale", nullptr, runScale},
    {"sort_by_expert", nullptr, runSortByExpert},
    {"sum", nullptr, runSum},
    {"sum_of_squares", nullptr, runSumOfSquares},
    {"unpermute", nullptr, runUnpermute},
    {"unpermute_add", nullptr, runUnpermuteAdd},
    {"unpermute_grad", nullptr, runUnpermuteGrad},
};

} // namespace

const Kernel *findKernel(std::string_view name) {
  for (const Kernel &kernel : kKernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

} // namespace switchyard::kernels::cpu
