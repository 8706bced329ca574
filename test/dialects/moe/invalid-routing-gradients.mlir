// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of RoutingGradientOps.td, one test each.

func.func @router_grad_c1(%dweights: tensor<4x2xf32>, %dstatistics: tensor<1x2x8xf32>,
                          %logits: tensor<4x8xf32>, %experts: tensor<4x2xi32>,
                          %ids: tensor<5xi32>) {
  // expected-error@+1 {{expects dimension 0 of micro_batch_ids to be T = 4, as dimension 0 of logits is, but it is 5}}
  %d = moe.router_grad %dweights, %dstatistics, %logits, %experts, %ids top_k 2 score "softmax"
      : tensor<4x2xf32>, tensor<1x2x8xf32>, tensor<4x8xf32>, tensor<4x2xi32>, tensor<5xi32>
  return
}

// -----

func.func @router_grad_c2(%dweights: tensor<4x2xf32>, %dstatistics: tensor<1x2x8xf32>,
                          %logits: tensor<4x8xf32>, %experts: tensor<4x3xi32>,
                          %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 1 of experts to be 2, but it is 3}}
  %d = moe.router_grad %dweights, %dstatistics, %logits, %experts, %ids top_k 2 score "softmax"
      : tensor<4x2xf32>, tensor<1x2x8xf32>, tensor<4x8xf32>, tensor<4x3xi32>, tensor<4xi32>
  return
}

// -----

func.func @router_grad_c3(%dweights: tensor<4x2xf32>, %dstatistics: tensor<1x2x9xf32>,
                          %logits: tensor<4x8xf32>, %experts: tensor<4x2xi32>,
                          %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 2 of dstatistics to be E = 8, as dimension 1 of logits is, but it is 9}}
  %d = moe.router_grad %dweights, %dstatistics, %logits, %experts, %ids top_k 2 score "softmax"
      : tensor<4x2xf32>, tensor<1x2x9xf32>, tensor<4x8xf32>, tensor<4x2xi32>, tensor<4xi32>
  return
}

// -----

func.func @router_grad_c4(%dweights: tensor<4x2xf32>, %dstatistics: tensor<1x2x8xf32>,
                          %logits: tensor<4x8xf32>, %experts: tensor<4x2xi32>,
                          %ids: tensor<4xi32>) {
  // expected-error@+1 {{failed to verify that all of {logits, dlogits} have same type}}
  %d = "moe.router_grad"(%dweights, %dstatistics, %logits, %experts, %ids) {top_k = 2, score = "softmax"}
      : (tensor<4x2xf32>, tensor<1x2x8xf32>, tensor<4x8xf32>, tensor<4x2xi32>, tensor<4xi32>) -> tensor<4x9xf32>
  return
}

// -----

func.func @router_grad_c5_top_k(%dweights: tensor<4x9xf32>, %dstatistics: tensor<1x2x8xf32>,
                                %logits: tensor<4x8xf32>, %experts: tensor<4x9xi32>,
                                %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects top_k to be at most the number of experts, 8, but got 9}}
  %d = moe.router_grad %dweights, %dstatistics, %logits, %experts, %ids top_k 9 score "softmax"
      : tensor<4x9xf32>, tensor<1x2x8xf32>, tensor<4x8xf32>, tensor<4x9xi32>, tensor<4xi32>
  return
}

// -----

func.func @router_grad_c5_score(%dweights: tensor<4x2xf32>, %dstatistics: tensor<1x2x8xf32>,
                                %logits: tensor<4x8xf32>, %experts: tensor<4x2xi32>,
                                %ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'score' failed to satisfy constraint: string attribute which is "softmax"}}
  %d = moe.router_grad %dweights, %dstatistics, %logits, %experts, %ids top_k 2 score "sigmoid"
      : tensor<4x2xf32>, tensor<1x2x8xf32>, tensor<4x8xf32>, tensor<4x2xi32>, tensor<4xi32>
  return
}

// -----

func.func @router_grad_renormalized_c1(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xbf16>,
                                       %experts: tensor<4x2xi32>) {
  // expected-error@+1 {{failed to verify that all of {weights, dweights} have same type}}
  %d = "moe.router_grad_renormalized"(%dweights, %weights, %experts) {num_experts = 8}
      : (tensor<4x2xf32>, tensor<4x2xbf16>, tensor<4x2xi32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @router_grad_renormalized_c2_rows(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xf32>,
                                            %experts: tensor<5x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of experts to be T = 4, as dimension 0 of weights is, but it is 5}}
  %d = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
      : tensor<4x2xf32>, tensor<5x2xi32> -> tensor<4x8xf32>
  return
}

// -----

func.func @router_grad_renormalized_c2_slots(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xf32>,
                                             %experts: tensor<4x3xi32>) {
  // expected-error@+1 {{expects dimension 1 of experts to be k = 2, as dimension 1 of weights is, but it is 3}}
  %d = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
      : tensor<4x2xf32>, tensor<4x3xi32> -> tensor<4x8xf32>
  return
}

// -----

func.func @router_grad_renormalized_c3_rows(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xf32>,
                                            %experts: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of dlogits to be T = 4, as dimension 0 of weights is, but it is 5}}
  %d = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
      : tensor<4x2xf32>, tensor<4x2xi32> -> tensor<5x8xf32>
  return
}

// -----

func.func @router_grad_renormalized_c3_experts(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xf32>,
                                               %experts: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 1 of dlogits to be 8, but it is 9}}
  %d = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 8
      : tensor<4x2xf32>, tensor<4x2xi32> -> tensor<4x9xf32>
  return
}

// -----

func.func @router_grad_renormalized_c4(%dweights: tensor<4x2xf32>, %weights: tensor<4x2xf32>,
                                       %experts: tensor<4x2xi32>) {
  // expected-error@+1 {{attribute 'num_experts' failed to satisfy constraint}}
  %d = moe.router_grad_renormalized %dweights, %weights, %experts num_experts 0
      : tensor<4x2xf32>, tensor<4x2xi32> -> tensor<4x0xf32>
  return
}

// -----

func.func @load_balance_loss_grad_c1(%dloss: tensor<f32>, %aux_weights: tensor<3xf32>) {
  // expected-error@+1 {{expects the statistics of at least one layer}}
  %d = "moe.load_balance_loss_grad"(%dloss, %aux_weights) {top_k = 2}
      : (tensor<f32>, tensor<3xf32>) -> tensor<3x2x8xf32>
  return
}

// -----

func.func @load_balance_loss_grad_c2(%dloss: tensor<f32>, %aux_weights: tensor<4xf32>,
                                     %s0: tensor<3x2x8xf32>, %s1: tensor<3x2x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of statistics 0 to be M = 4, as dimension 0 of aux_weights is, but it is 3}}
  %d = moe.load_balance_loss_grad %dloss, %aux_weights, %s0, %s1 top_k 2
      : tensor<f32>, tensor<4xf32>, tensor<3x2x8xf32>, tensor<3x2x8xf32>
  return
}

// -----

func.func @load_balance_loss_grad_c3(%dloss: tensor<f32>, %aux_weights: tensor<3xf32>,
                                     %s0: tensor<3x2x8xf32>, %s1: tensor<3x2x4xf32>) {
  // expected-error@+1 {{expects dimension 2 of statistics 1 to be E = 8, as dimension 2 of statistics 0 is, but it is 4}}
  %d = moe.load_balance_loss_grad %dloss, %aux_weights, %s0, %s1 top_k 2
      : tensor<f32>, tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x4xf32>
  return
}

// -----

func.func @load_balance_loss_grad_c4(%dloss: tensor<f32>, %aux_weights: tensor<3xf32>,
                                     %s0: tensor<3x2x8xf32>, %s1: tensor<3x2x8xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<3x2x8xf32>' are incompatible with return type(s) of operation 'tensor<3x2x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d = "moe.load_balance_loss_grad"(%dloss, %aux_weights, %s0, %s1) {top_k = 2}
      : (tensor<f32>, tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x8xf32>) -> tensor<3x2x4xf32>
  return
}

// -----

func.func @load_balance_loss_grad_c5(%dloss: tensor<f32>, %aux_weights: tensor<3xf32>,
                                     %s0: tensor<3x2x8xf32>, %s1: tensor<3x2x8xf32>) {
  // expected-error@+1 {{attribute 'top_k' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %d = moe.load_balance_loss_grad %dloss, %aux_weights, %s0, %s1 top_k 0
      : tensor<f32>, tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x8xf32>
  return
}

// -----

func.func @permute_grad_c1(%drows: tensor<4x8xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of drows to be 8, but it is 4}}
  %dx = moe.permute_grad %drows, %row_of_slot : tensor<4x8xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @permute_grad_c2(%drows: tensor<8x8xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x8xf32>' are incompatible with return type(s) of operation 'tensor<8x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %dx = "moe.permute_grad"(%drows, %row_of_slot)
      : (tensor<8x8xf32>, tensor<4x2xi32>) -> tensor<8x8xf32>
  return
}

// -----

func.func @permute_grad_add_c1(%drows: tensor<8x8xf32>, %row_of_slot: tensor<4x2xi32>, %x: tensor<5x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of x to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %dx = moe.permute_grad_add %drows, %row_of_slot, %x : tensor<8x8xf32>, tensor<4x2xi32>, tensor<5x8xf32>
  return
}

// -----

func.func @permute_grad_add_c2(%drows: tensor<4x8xf32>, %row_of_slot: tensor<4x2xi32>, %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of drows to be 8, but it is 4}}
  %dx = moe.permute_grad_add %drows, %row_of_slot, %x : tensor<4x8xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @permute_grad_add_c3(%drows: tensor<8x9xf32>, %row_of_slot: tensor<4x2xi32>, %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 1 of drows to be D = 8, as dimension 1 of x is, but it is 9}}
  %dx = moe.permute_grad_add %drows, %row_of_slot, %x : tensor<8x9xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @permute_grad_add_c4(%drows: tensor<8x8xf32>, %row_of_slot: tensor<4x2xi32>, %x: tensor<4x8xbf16>) {
  // expected-error@+1 {{failed to verify that all of {drows, x} have same element type}}
  %dx = moe.permute_grad_add %drows, %row_of_slot, %x : tensor<8x8xf32>, tensor<4x2xi32>, tensor<4x8xbf16>
  return
}

// -----

func.func @permute_grad_add_c5(%drows: tensor<8x8xf32>, %row_of_slot: tensor<4x2xi32>, %x: tensor<4x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, dx} have same type}}
  %dx = "moe.permute_grad_add"(%drows, %row_of_slot, %x)
      : (tensor<8x8xf32>, tensor<4x2xi32>, tensor<4x8xf32>) -> tensor<8x8xf32>
  return
}

// -----

func.func @unpermute_grad_c1(%dy: tensor<5x8xf32>, %rows: tensor<8x8xf32>,
                             %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of dy to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : tensor<5x8xf32>, tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_grad_c2(%dy: tensor<4x8xf32>, %rows: tensor<8x8xf32>,
                             %weights: tensor<4x1xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 1 of weights to be k = 2, as dimension 1 of row_of_slot is, but it is 1}}
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : tensor<4x8xf32>, tensor<8x8xf32>, tensor<4x1xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_grad_c3(%dy: tensor<4x8xf32>, %rows: tensor<4x8xf32>,
                             %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of rows to be 8, but it is 4}}
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_grad_c4(%dy: tensor<4x8xf32>, %rows: tensor<8x9xf32>,
                             %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 1 of rows to be D = 8, as dimension 1 of dy is, but it is 9}}
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : tensor<4x8xf32>, tensor<8x9xf32>, tensor<4x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_grad_c5(%dy: tensor<4x8xbf16>, %rows: tensor<8x8xf32>,
                             %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, rows} have same element type}}
  %drows, %dweights = moe.unpermute_grad %dy, %rows, %weights, %row_of_slot
      : tensor<4x8xbf16>, tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_grad_c6_drows(%dy: tensor<4x8xf32>, %rows: tensor<8x8xf32>,
                                   %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{failed to verify that all of {rows, drows} have same type}}
  %drows, %dweights = "moe.unpermute_grad"(%dy, %rows, %weights, %row_of_slot)
      : (tensor<4x8xf32>, tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>) -> (tensor<4x8xf32>, tensor<4x2xf32>)
  return
}

// -----

func.func @unpermute_grad_c6_dweights(%dy: tensor<4x8xf32>, %rows: tensor<8x8xf32>,
                                      %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{failed to verify that all of {weights, dweights} have same type}}
  %drows, %dweights = "moe.unpermute_grad"(%dy, %rows, %weights, %row_of_slot)
      : (tensor<4x8xf32>, tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>) -> (tensor<8x8xf32>, tensor<4x1xf32>)
  return
}

// -----

func.func @grouped_gemm_dgrad_c1(%dy: tensor<4x6xf32>, %w: tensor<3x5x8xf32>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 1 of w to be N = 6, as dimension 1 of dy is, but it is 5}}
  %dx = moe.grouped_gemm_dgrad %dy, %w, %group_sizes
      : tensor<4x6xf32>, tensor<3x5x8xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_dgrad_c2(%dy: tensor<4x6xf32>, %w: tensor<3x6x8xf32>,
                                 %group_sizes: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %dx = moe.grouped_gemm_dgrad %dy, %w, %group_sizes
      : tensor<4x6xf32>, tensor<3x6x8xf32>, tensor<4xi32>
  return
}

// -----

func.func @grouped_gemm_dgrad_c3(%dy: tensor<4x6xf32>, %w: tensor<3x6x8xbf16>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, w} have same element type}}
  %dx = moe.grouped_gemm_dgrad %dy, %w, %group_sizes
      : tensor<4x6xf32>, tensor<3x6x8xbf16>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_dgrad_c4(%dy: tensor<4x6xf32>, %w: tensor<3x6x8xf32>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x8xf32>' are incompatible with return type(s) of operation 'tensor<4x6xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %dx = "moe.grouped_gemm_dgrad"(%dy, %w, %group_sizes)
      : (tensor<4x6xf32>, tensor<3x6x8xf32>, tensor<3xi32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_c1(%dy: tensor<4x6xbf16>, %x: tensor<5x8xbf16>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 0 of x to be R = 4, as dimension 0 of dy is, but it is 5}}
  %dw = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<5x8xbf16>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_c2(%dy: tensor<4x6xbf16>, %x: tensor<4x8xf32>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %dw = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<4x8xf32>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_c3(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 1 of dw to be N = 6, as dimension 1 of dy is, but it is 8}}
  %dw = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<3xi32> -> tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_c4(%dy: tensor<4x6xf32>, %x: tensor<4x8xf32>,
                                 %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %dw = moe.grouped_gemm_wgrad %dy, %x, %group_sizes
      : tensor<4x6xf32>, tensor<4x8xf32>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_squared_c1(%dy: tensor<4x6xbf16>, %x: tensor<5x8xbf16>,
                                         %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 0 of x to be R = 4, as dimension 0 of dy is, but it is 5}}
  %dw, %squares = moe.grouped_gemm_wgrad_squared %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<5x8xbf16>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_squared_c2(%dy: tensor<4x6xbf16>, %x: tensor<4x8xf32>,
                                         %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %dw, %squares = moe.grouped_gemm_wgrad_squared %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<4x8xf32>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_squared_c3(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>,
                                         %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 1 of dw to be N = 6, as dimension 1 of dy is, but it is 8}}
  %dw, %squares = moe.grouped_gemm_wgrad_squared %dy, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<3xi32> -> tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_squared_c4(%dy: tensor<4x6xf32>, %x: tensor<4x8xf32>,
                                         %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %dw, %squares = moe.grouped_gemm_wgrad_squared %dy, %x, %group_sizes
      : tensor<4x6xf32>, tensor<4x8xf32>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_accumulate_c1(%dy: tensor<4x6xbf16>, %x: tensor<5x8xbf16>,
                                            %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of x to be R = 4, as dimension 0 of dy is, but it is 5}}
  %sum = moe.grouped_gemm_wgrad_accumulate %dy, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<5x8xbf16>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_accumulate_c2(%dy: tensor<4x6xbf16>, %x: tensor<4x8xf32>,
                                            %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %sum = moe.grouped_gemm_wgrad_accumulate %dy, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<4x8xf32>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_accumulate_c3(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>,
                                            %group_sizes: tensor<3xi32>, %accumulator: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of accumulator to be N = 6, as dimension 1 of dy is, but it is 8}}
  %sum = moe.grouped_gemm_wgrad_accumulate %dy, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<3xi32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_accumulate_c4(%dy: tensor<4x6xf32>, %x: tensor<4x8xf32>,
                                            %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xbf16>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %sum = moe.grouped_gemm_wgrad_accumulate %dy, %x, %group_sizes, %accumulator
      : tensor<4x6xf32>, tensor<4x8xf32>, tensor<3xi32>, tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_accumulate_c5(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>,
                                            %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, result} have same type}}
  %sum = "moe.grouped_gemm_wgrad_accumulate"(%dy, %x, %group_sizes, %accumulator)
      : (tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<3xi32>, tensor<3x6x8xf32>) -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @gated_activation_grad_c1(%dy: tensor<4x4xf32>, %gate_up: tensor<5x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of gate_up to be R = 4, as dimension 0 of dy is, but it is 5}}
  %d = moe.gated_activation_grad %dy, %gate_up activation "silu" : tensor<4x4xf32>, tensor<5x8xf32>
  return
}

// -----

func.func @gated_activation_grad_c2(%dy: tensor<4x4xf32>, %gate_up: tensor<4x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of gate_up to be 8, but it is 6}}
  %d = moe.gated_activation_grad %dy, %gate_up activation "silu" : tensor<4x4xf32>, tensor<4x6xf32>
  return
}

// -----

func.func @gated_activation_grad_c3(%dy: tensor<4x4xf32>, %gate_up: tensor<4x8xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, gate_up} have same element type}}
  %d = moe.gated_activation_grad %dy, %gate_up activation "silu" : tensor<4x4xf32>, tensor<4x8xbf16>
  return
}

// -----

func.func @gated_activation_grad_c4(%dy: tensor<4x4xf32>, %gate_up: tensor<4x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {gate_up, dgate_up} have same type}}
  %d = "moe.gated_activation_grad"(%dy, %gate_up) {activation = "silu"}
      : (tensor<4x4xf32>, tensor<4x8xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @gated_activation_grad_c5(%dy: tensor<4x4xf32>, %gate_up: tensor<4x8xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %d = moe.gated_activation_grad %dy, %gate_up activation "relu" : tensor<4x4xf32>, tensor<4x8xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c1(%dy: tensor<4x6xf32>, %w: tensor<3x7x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<4x10xf32>) {
  // expected-error@+1 {{expects dimension 1 of w to be N = 6, as dimension 1 of dy is, but it is 7}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<3x7x5xf32>, tensor<3xi32>, tensor<4x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c2(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<4xi32>, %gate_up: tensor<4x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<4xi32>, tensor<4x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c3(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<4x12xf32>) {
  // expected-error@+1 {{expects dimension 1 of gate_up to be 10, but it is 12}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<4x12xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c3_rows(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<3x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of gate_up to be R = 4, as dimension 0 of dy is, but it is 3}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<3x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c4(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<4x10xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, w, gate_up} have same element type}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<4x10xbf16>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c5(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<4x10xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x10xf32>', 'tensor<4x5xf32>' are incompatible with return type(s) of operation 'tensor<4x10xf32>', 'tensor<4x10xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d, %y = "moe.grouped_gemm_dgrad_gated"(%dy, %w, %group_sizes, %gate_up) {activation = "silu"}
      : (tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<4x10xf32>) -> (tensor<4x10xf32>, tensor<4x10xf32>)
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_c6(%dy: tensor<4x6xf32>, %w: tensor<3x6x5xf32>,
                                       %group_sizes: tensor<3xi32>, %gate_up: tensor<4x10xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %d, %y = moe.grouped_gemm_dgrad_gated %dy, %w, %group_sizes, %gate_up activation "relu"
      : tensor<4x6xf32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<4x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c1(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<5x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of row_of_slot to be T = 4, as dimension 0 of dy is, but it is 5}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<5x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c2(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x7x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 1 of w to be N = 6, as dimension 1 of dy is, but it is 7}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x7x5xf32>, tensor<3xi32>,
      tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c3(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<4xi32>,
                                              %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<4xi32>,
      tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c4(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x12xf32>) {
  // expected-error@+1 {{expects dimension 1 of gate_up to be 10, but it is 12}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x12xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c4_weights(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                                      %weight_of_row: tensor<8xf32>, %row_of_slot: tensor<4x2xi32>,
                                                      %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                                      %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of weight_of_row to be R = 7, as dimension 0 of token_of_row is, but it is 8}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<8xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c4_rows(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                                   %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                                   %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                                   %gate_up: tensor<4x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of gate_up to be R = 7, as dimension 0 of token_of_row is, but it is 4}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<4x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c5(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x10xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, w, gate_up} have same element type}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "silu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x10xbf16>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c6(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xbf16>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x10xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<7x10xf32>', 'tensor<7x5xf32>', 'tensor<4x2xbf16>' are incompatible with return type(s) of operation 'tensor<7x10xf32>', 'tensor<7x5xf32>', 'tensor<4x2xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d, %y, %dweights = "moe.grouped_gemm_dgrad_gated_gather"(%dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up) {activation = "silu"}
      : (tensor<4x6xf32>, tensor<7xi32>, tensor<7xbf16>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x10xf32>)
      -> (tensor<7x10xf32>, tensor<7x5xf32>, tensor<4x2xf32>)
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_gather_c7(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>,
                                              %weight_of_row: tensor<7xf32>, %row_of_slot: tensor<4x2xi32>,
                                              %w: tensor<3x6x5xf32>, %group_sizes: tensor<3xi32>,
                                              %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_gather %dy, %token_of_row, %weight_of_row, %row_of_slot, %w,
      %group_sizes, %gate_up activation "relu"
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>,
      tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c1(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x7x5xf32>,
                                                %group_sizes: tensor<3xi32>, %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 1 of w to be N = 6, as dimension 1 of dy is, but it is 7}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x7x5xf32>, tensor<3xi32>, tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c2(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                %group_sizes: tensor<4xi32>, %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<4xi32>, tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c3(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                %group_sizes: tensor<3xi32>, %gate_up: tensor<7x12xf32>) {
  // expected-error@+1 {{expects dimension 1 of gate_up to be 10, but it is 12}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<7x12xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c3_weights(%dy: tensor<7x6xf32>, %weight_of_row: tensor<8xf32>,
                                                        %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                        %group_sizes: tensor<3xi32>, %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of weight_of_row to be R = 7, as dimension 0 of dy is, but it is 8}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<8xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c3_rows(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                     %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                     %group_sizes: tensor<3xi32>, %gate_up: tensor<4x10xf32>) {
  // expected-error@+1 {{expects dimension 0 of gate_up to be R = 7, as dimension 0 of dy is, but it is 4}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<4x10xf32>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c4(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                %group_sizes: tensor<3xi32>, %gate_up: tensor<7x10xbf16>) {
  // expected-error@+1 {{failed to verify that all of {dy, w, gate_up} have same element type}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "silu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<7x10xbf16>
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c5(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xbf16>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                %group_sizes: tensor<3xi32>, %gate_up: tensor<7x10xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<7x10xf32>', 'tensor<7x5xf32>', 'tensor<4x2xbf16>' are incompatible with return type(s) of operation 'tensor<7x10xf32>', 'tensor<7x5xf32>', 'tensor<4x2xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %d, %y, %dweights = "moe.grouped_gemm_dgrad_gated_weighted"(%dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up) {activation = "silu"}
      : (tensor<7x6xf32>, tensor<7xbf16>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<7x10xf32>)
      -> (tensor<7x10xf32>, tensor<7x5xf32>, tensor<4x2xf32>)
  return
}

// -----

func.func @grouped_gemm_dgrad_gated_weighted_c6(%dy: tensor<7x6xf32>, %weight_of_row: tensor<7xf32>,
                                                %row_of_slot: tensor<4x2xi32>, %w: tensor<3x6x5xf32>,
                                                %group_sizes: tensor<3xi32>, %gate_up: tensor<7x10xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %d, %y, %dweights = moe.grouped_gemm_dgrad_gated_weighted %dy, %weight_of_row, %row_of_slot, %w, %group_sizes,
      %gate_up activation "relu"
      : tensor<7x6xf32>, tensor<7xf32>, tensor<4x2xi32>, tensor<3x6x5xf32>, tensor<3xi32>, tensor<7x10xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_c1(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>, %token_of_row: tensor<7xi32>,
                                          %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 0 of dy to be R = 7, as dimension 0 of token_of_row is, but it is 4}}
  %dw = moe.grouped_gemm_wgrad_gather_x %dy, %x, %token_of_row, %group_sizes
      : tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<7xi32>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_c2(%dy: tensor<7x6xbf16>, %x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>,
                                          %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %dw = moe.grouped_gemm_wgrad_gather_x %dy, %x, %token_of_row, %group_sizes
      : tensor<7x6xbf16>, tensor<4x8xf32>, tensor<7xi32>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_c3(%dy: tensor<7x6xbf16>, %x: tensor<4x8xbf16>, %token_of_row: tensor<7xi32>,
                                          %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 1 of dw to be N = 6, as dimension 1 of dy is, but it is 8}}
  %dw = moe.grouped_gemm_wgrad_gather_x %dy, %x, %token_of_row, %group_sizes
      : tensor<7x6xbf16>, tensor<4x8xbf16>, tensor<7xi32>, tensor<3xi32> -> tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_c4(%dy: tensor<7x6xf32>, %x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>,
                                          %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %dw = moe.grouped_gemm_wgrad_gather_x %dy, %x, %token_of_row, %group_sizes
      : tensor<7x6xf32>, tensor<4x8xf32>, tensor<7xi32>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_c1(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<4x8xbf16>,
                                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 0 of x to be R = 7, as dimension 0 of token_of_row is, but it is 4}}
  %dw = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<4x8xbf16>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_c2(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xf32>,
                                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %dw = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<7x8xf32>, tensor<3xi32> -> tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_c3(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xbf16>,
                                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 1 of dw to be N = 6, as dimension 1 of dy is, but it is 8}}
  %dw = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %x, %group_sizes
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<7x8xbf16>, tensor<3xi32> -> tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_c4(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xf32>,
                                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %dw = moe.grouped_gemm_wgrad_gather_dy %dy, %token_of_row, %x, %group_sizes
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7x8xf32>, tensor<3xi32> -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_accumulate_c1(%dy: tensor<4x6xbf16>, %x: tensor<4x8xbf16>, %token_of_row: tensor<7xi32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of dy to be R = 7, as dimension 0 of token_of_row is, but it is 4}}
  %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dy, %x, %token_of_row, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<4x8xbf16>, tensor<7xi32>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_accumulate_c2(%dy: tensor<7x6xbf16>, %x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dy, %x, %token_of_row, %group_sizes, %accumulator
      : tensor<7x6xbf16>, tensor<4x8xf32>, tensor<7xi32>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_accumulate_c3(%dy: tensor<7x6xbf16>, %x: tensor<4x8xbf16>, %token_of_row: tensor<7xi32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of accumulator to be N = 6, as dimension 1 of dy is, but it is 8}}
  %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dy, %x, %token_of_row, %group_sizes, %accumulator
      : tensor<7x6xbf16>, tensor<4x8xbf16>, tensor<7xi32>, tensor<3xi32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_accumulate_c4(%dy: tensor<7x6xf32>, %x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xbf16>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %sum = moe.grouped_gemm_wgrad_gather_x_accumulate %dy, %x, %token_of_row, %group_sizes, %accumulator
      : tensor<7x6xf32>, tensor<4x8xf32>, tensor<7xi32>, tensor<3xi32>, tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_x_accumulate_c5(%dy: tensor<7x6xbf16>, %x: tensor<4x8xbf16>, %token_of_row: tensor<7xi32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, result} have same type}}
  %sum = "moe.grouped_gemm_wgrad_gather_x_accumulate"(%dy, %x, %token_of_row, %group_sizes, %accumulator)
      : (tensor<7x6xbf16>, tensor<4x8xbf16>, tensor<7xi32>, tensor<3xi32>, tensor<3x6x8xf32>) -> tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_accumulate_c1(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<4x8xbf16>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of x to be R = 7, as dimension 0 of token_of_row is, but it is 4}}
  %sum = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<4x8xbf16>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_accumulate_c2(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xf32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {dy, x} have same element type}}
  %sum = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<7x8xf32>, tensor<3xi32>, tensor<3x6x8xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_accumulate_c3(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xbf16>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of accumulator to be N = 6, as dimension 1 of dy is, but it is 8}}
  %sum = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %x, %group_sizes, %accumulator
      : tensor<4x6xbf16>, tensor<7xi32>, tensor<7x8xbf16>, tensor<3xi32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_accumulate_c4(%dy: tensor<4x6xf32>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xf32>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xbf16>) {
  // expected-error@+1 {{expects a sum in f32 or rounded to 'f32', the operands' element type, but it is in 'bf16'}}
  %sum = moe.grouped_gemm_wgrad_gather_dy_accumulate %dy, %token_of_row, %x, %group_sizes, %accumulator
      : tensor<4x6xf32>, tensor<7xi32>, tensor<7x8xf32>, tensor<3xi32>, tensor<3x6x8xbf16>
  return
}

// -----

func.func @grouped_gemm_wgrad_gather_dy_accumulate_c5(%dy: tensor<4x6xbf16>, %token_of_row: tensor<7xi32>, %x: tensor<7x8xbf16>,
    %group_sizes: tensor<3xi32>, %accumulator: tensor<3x6x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, result} have same type}}
  %sum = "moe.grouped_gemm_wgrad_gather_dy_accumulate"(%dy, %token_of_row, %x, %group_sizes, %accumulator)
      : (tensor<4x6xbf16>, tensor<7xi32>, tensor<7x8xbf16>, tensor<3xi32>, tensor<3x6x8xf32>) -> tensor<3x6x8xbf16>
  return
}
