#include "kernels/cuda/Kernels.h"

#include "kernels/cuda/KernelList.h"

namespace switchyard::kernels::cuda {
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
    {"grouped_gemm_dgrad", prepareGroupedGemm, runGroupedGemmDgrad},
    {"grouped_gemm_dgrad_gated", prepareGroupedGemm, runGroupedGemmDgradGated},
    {"grouped_gemm_dgrad_gated_gather", prepareGroupedGemm, runGroupedGemmDgradGatedGather},
    {"grouped_gemm_dgrad_gated_weighted", prepareGroupedGemm, runGroupedGemmDgradGatedWeighted},
    {"grouped_gemm_gated", prepareGroupedGemm, runGroupedGemmGated},
    {"grouped_gemm_gated_gather", prepareGroupedGemm, runGroupedGemmGatedGather},
    {"grouped_gemm_wgrad", prepareGroupedGemm, runGroupedGemmWgrad},
    {"grouped_gemm_wgrad_accumulate", prepareGroupedGemm, runGroupedGemmWgradAccumulate},
    {"grouped_gemm_wgrad_gather_dy", prepareGroupedGemm, runGroupedGemmWgradGatherDy},
    {"grouped_gemm_wgrad_gather_dy_accumulate", prepareGroupedGemm,
     runGroupedGemmWgradGatherDyAccumulate},
    {"grouped_gemm_wgrad_gather_x", prepareGroupedGemm, runGroupedGemmWgradGatherX},
    {"grouped_gemm_wgrad_gather_x_accumulate", prepareGroupedGemm,
     runGroupedGemmWgradGatherXAccumulate},
    {"grouped_gemm_wgrad_squared", prepareGroupedGemm, runGroupedGemmWgradSquared},
    {"linear", prepareLinear, runLinear},
    {"linear_cross_entropy", prepareLinearCrossEntropy, runLinearCrossEntropy},
    {"linear_cross_entropy_grad", prepareLinearCrossEntropyGrad, runLinearCrossEntropyGrad},
    {"linear_dgrad", prepareLinearDgrad, runLinearDgrad},
    {"linear_wgrad", prepareLinearWgrad, runLinearWgrad},
    {"load_balance_loss", prepareLoadBalanceLoss, runLoadBalanceLoss},
    {"load_balance_loss_grad", prepareLoadBalanceLossGrad, runLoadBalanceLossGrad},
    {"permute", nullptr, runPermute},
    {"permute_grad", nullptr, runPermuteGrad},
    {"permute_grad_add", nullptr, runPermuteGradAdd},
    {"qk_norm", nullptr, runQkNorm},
    {"qk_norm_grad", prepareQkNormGrad, runQkNormGrad},
    {"rms_norm", nullptr, runRmsNorm},
    {"rms_norm_grad", prepareRmsNormGrad, runRmsNormGrad},
    {"rotary", nullptr, runRotary},
    {"router", prepareRouter, runRouter},
    {"router_grad", prepareRouterGrad, runRouterGrad},
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

Fault faultOf(cudaError_t error, const char *call) {
  if (error == cudaSuccess)
    return std::nullopt;
  return std::string(call) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
         ")";
}

Fault launchFault(const char *kernel) {
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess)
    return std::nullopt;
  return "launching the CUDA kernel '" + std::string(kernel) + "': " + cudaGetErrorString(error) +
         " (" + cudaGetErrorName(error) + ")";
}

const Kernel *findKernel(std::string_view name) {
  for (const Kernel &kernel : kKernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

} // namespace switchyard::kernels::cuda
