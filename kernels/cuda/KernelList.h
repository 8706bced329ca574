// The functions behind the CUDA kernels, one pair per file that has something to prepare.
//
// A new kernel: declare its functions here, write them in <Op>.cu, add its line to Kernels.cpp.
#pragma once

#include "kernels/cuda/Kernels.h"

namespace switchyard::kernels::cuda {

// Attention.cu, AttentionGrad.cu
Fault prepareAttention(const Launch &launch);
Fault runAttention(const Launch &launch);
Fault prepareAttentionGrad(const Launch &launch);
Fault runAttentionGrad(const Launch &launch);

// Elementwise.cu
Fault runAccumulate(const Launch &launch);
Fault runAdd(const Launch &launch);
Fault runCast(const Launch &launch);
Fault runConstant(const Launch &launch);
Fault runGatherRows(const Launch &launch);
Fault runScale(const Launch &launch);
Fault runSum(const Launch &launch);

// Embedding.cu
Fault runEmbedding(const Launch &launch);
Fault runEmbeddingGrad(const Launch &launch);

// GatedActivation.cu
Fault runGatedActivation(const Launch &launch);
Fault runGatedActivationGrad(const Launch &launch);
/// gated_activation_grad, whose dy becomes the result of gated_activation.
Fault runGatedActivationGradAgain(const Launch &launch);

// GroupedGemm.cu; prepareGroupedGemm is for all of its family
Fault prepareGroupedGemm(const Launch &launch);
Fault runGroupedGemm(const Launch &launch);
Fault runGroupedGemmDgrad(const Launch &launch);
Fault runGroupedGemmWgrad(const Launch &launch);
Fault runGroupedGemmWgradAccumulate(const Launch &launch);

// GroupedGemmGated.cu
Fault runGroupedGemmGated(const Launch &launch);
Fault runGroupedGemmDgradGated(const Launch &launch);

// GroupedGemmGather.cu
Fault runGroupedGemmGatedGather(const Launch &launch);
Fault runGroupedGemmWgradGatherDy(const Launch &launch);
Fault runGroupedGemmWgradGatherDyAccumulate(const Launch &launch);
Fault runGroupedGemmWgradGatherX(const Launch &launch);
Fault runGroupedGemmWgradGatherXAccumulate(const Launch &launch);

// GroupedGemmSquared.cu
Fault runGroupedGemmWgradSquared(const Launch &launch);

// GroupedGemmWeighted.cu
Fault runGroupedGemmDgradGatedGather(const Launch &launch);
Fault runGroupedGemmDgradGatedWeighted(const Launch &launch);

// Linear.cpp
Fault prepareLinear(const Launch &launch);
Fault runLinear(const Launch &launch);
Fault prepareLinearDgrad(const Launch &launch);
Fault runLinearDgrad(const Launch &launch);
Fault prepareLinearWgrad(const Launch &launch);
Fault runLinearWgrad(const Launch &launch);

// LinearCrossEntropy.cu
Fault prepareLinearCrossEntropy(const Launch &launch);
Fault runLinearCrossEntropy(const Launch &launch);
Fault prepareLinearCrossEntropyGrad(const Launch &launch);
Fault runLinearCrossEntropyGrad(const Launch &launch);

// LoadBalanceLoss.cu
Fault prepareLoadBalanceLoss(const Launch &launch);
Fault prepareLoadBalanceLossGrad(const Launch &launch);
Fault runLoadBalanceLoss(const Launch &launch);
Fault runLoadBalanceLossGrad(const Launch &launch);

// Optimizer.cu
Fault runAdamw(const Launch &launch);
Fault runAdamwMaster(const Launch &launch);
Fault runClip(const Launch &launch);
Fault runSumOfSquares(const Launch &launch);

// Permute.cu
Fault runPermute(const Launch &launch);
Fault runPermuteGrad(const Launch &launch);
Fault runPermuteGradAdd(const Launch &launch);
Fault runRowsOfTokens(const Launch &launch);
Fault runUnpermute(const Launch &launch);
Fault runUnpermuteAdd(const Launch &launch);
Fault runUnpermuteGrad(const Launch &launch);

// QkNorm.cu
Fault runQkNorm(const Launch &launch);
Fault prepareQkNormGrad(const Launch &launch);
Fault runQkNormGrad(const Launch &launch);

// RmsNorm.cu
Fault runRmsNorm(const Launch &launch);
Fault prepareRmsNormGrad(const Launch &launch);
Fault runRmsNormGrad(const Launch &launch);

// Rotary.cu
Fault runRotary(const Launch &launch);

// Router.cu
Fault prepareRouter(const Launch &launch);
Fault runRouter(const Launch &launch);
Fault prepareRouterGrad(const Launch &launch);
Fault runRouterGrad(const Launch &launch);
Fault runRouterGradRenormalized(const Launch &launch);

// SortByExpert.cu
Fault runSortByExpert(const Launch &launch);

} // namespace switchyard::kernels::cuda
