// The functions behind the CPU kernels, one pair per file that has something to prepare.
//
// A new kernel: declare its functions here, write them in <Op>.cpp, add its line to Kernels.cpp.
#pragma once

#include "kernels/cpu/Kernels.h"

namespace switchyard::kernels::cpu {

// Attention.cpp, AttentionGrad.cpp
std::optional<std::string> prepareAttention(const Launch &launch);
void runAttention(const Launch &launch);
std::optional<std::string> prepareAttentionGrad(const Launch &launch);
void runAttentionGrad(const Launch &launch);

// Elementwise.cpp
void runAccumulate(const Launch &launch);
void runAdd(const Launch &launch);
void runCast(const Launch &launch);
void runConstant(const Launch &launch);
void runGatherRows(const Launch &launch);
void runScale(const Launch &launch);
void runSum(const Launch &launch);

// Embedding.cpp
void runEmbedding(const Launch &launch);
void runEmbeddingGrad(const Launch &launch);

// GatedActivation.cpp
void runGatedActivation(const Launch &launch);
void runGatedActivationGrad(const Launch &launch);
/// gated_activation_grad, whose dy becomes the result of gated_activation.
void runGatedActivationGradAgain(const Launch &launch);
/// The same by weights: operands dy, weight_of_row, gate_up, dgate_up. dy becomes weighted, too.
void runGatedActivationGradWeighted(const Launch &launch);
/// What dy and the result of gated_activation give in each slot's row: operands dy, gate_up,
/// row_of_slot, dweights.
void runGatedActivationDots(const Launch &launch);

// GroupedGemm.cpp
std::optional<std::string> prepareGroupedGemm(const Launch &launch);
void runGroupedGemm(const Launch &launch);
std::optional<std::string> prepareGroupedGemmDgrad(const Launch &launch);
void runGroupedGemmDgrad(const Launch &launch);
std::optional<std::string> prepareGroupedGemmWgrad(const Launch &launch);
void runGroupedGemmWgrad(const Launch &launch);
void runGroupedGemmWgradAccumulate(const Launch &launch);
void runGroupedGemmWgradSquared(const Launch &launch);

// GroupedGemmGated.cpp
std::optional<std::string> prepareGroupedGemmGated(const Launch &launch);
void runGroupedGemmGated(const Launch &launch);
std::optional<std::string> prepareGroupedGemmDgradGated(const Launch &launch);
void runGroupedGemmDgradGated(const Launch &launch);
std::optional<std::string> prepareGroupedGemmDgradGatedWeighted(const Launch &launch);
void runGroupedGemmDgradGatedWeighted(const Launch &launch);

// GroupedGemmGather.cpp
std::optional<std::string> prepareGroupedGemmGatedGather(const Launch &launch);
void runGroupedGemmGatedGather(const Launch &launch);
std::optional<std::string> prepareGroupedGemmDgradGatedGather(const Launch &launch);
void runGroupedGemmDgradGatedGather(const Launch &launch);
std::optional<std::string> prepareGroupedGemmWgradGatherX(const Launch &launch);
void runGroupedGemmWgradGatherX(const Launch &launch);
void runGroupedGemmWgradGatherXAccumulate(const Launch &launch);
std::optional<std::string> prepareGroupedGemmWgradGatherDy(const Launch &launch);
void runGroupedGemmWgradGatherDy(const Launch &launch);
void runGroupedGemmWgradGatherDyAccumulate(const Launch &launch);

// Linear.cpp
std::optional<std::string> prepareLinear(const Launch &launch);
void runLinear(const Launch &launch);
std::optional<std::string> prepareLinearDgrad(const Launch &launch);
void runLinearDgrad(const Launch &launch);
std::optional<std::string> prepareLinearWgrad(const Launch &launch);
void runLinearWgrad(const Launch &launch);

// LinearCrossEntropy.cpp
std::optional<std::string> prepareLinearCrossEntropy(const Launch &launch);
void runLinearCrossEntropy(const Launch &launch);
std::optional<std::string> prepareLinearCrossEntropyGrad(const Launch &launch);
void runLinearCrossEntropyGrad(const Launch &launch);

// LoadBalanceLoss.cpp
void runLoadBalanceLoss(const Launch &launch);
void runLoadBalanceLossGrad(const Launch &launch);

// Optimizer.cpp
void runAdamw(const Launch &launch);
void runAdamwMaster(const Launch &launch);
void runClip(const Launch &launch);
void runSumOfSquares(const Launch &launch);

// Permute.cpp
void runPermute(const Launch &launch);
void runPermuteGrad(const Launch &launch);
void runPermuteGradAdd(const Launch &launch);
void runRowsOfTokens(const Launch &launch);
void runSortByExpert(const Launch &launch);
void runUnpermute(const Launch &launch);
void runUnpermuteAdd(const Launch &launch);
void runUnpermuteGrad(const Launch &launch);

// QkNorm.cpp
void runQkNorm(const Launch &launch);
void runQkNormGrad(const Launch &launch);

// RmsNorm.cpp
void runRmsNorm(const Launch &launch);
void runRmsNormGrad(const Launch &launch);

// Rotary.cpp
void runRotary(const Launch &launch);

// Router.cpp
void runRouter(const Launch &launch);
void runRouterGrad(const Launch &launch);
void runRouterGradRenormalized(const Launch &launch);

} // namespace switchyard::kernels::cpu
