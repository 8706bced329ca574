// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of RoutingOps.td, one test each.

func.func @router_c1(%logits: tensor<4x8xf32>, %ids: tensor<5xi32>) {
  // expected-error@+1 {{expects dimension 0 of micro_batch_ids to be T = 4, as dimension 0 of logits is, but it is 5}}
  %w, %e, %s = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<4x8xf32>, tensor<5xi32> -> tensor<4x2xf32>, tensor<1x2x8xf32>
  return
}

// -----

func.func @router_c2_weights(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 1 of weights to be 2, but it is 3}}
  %w, %e, %s = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<4x8xf32>, tensor<4xi32> -> tensor<4x3xf32>, tensor<1x2x8xf32>
  return
}

// -----

func.func @router_c2_experts(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{failed to verify that experts has the shape of weights in i32}}
  %w, %e, %s = "moe.router"(%logits, %ids) {top_k = 2, score = "softmax"}
      : (tensor<4x8xf32>, tensor<4xi32>) -> (tensor<4x2xf32>, tensor<4x3xi32>, tensor<1x2x8xf32>)
  return
}

// -----

func.func @router_c3_middle(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 1 of statistics to be 2, but it is 3}}
  %w, %e, %s = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<4x8xf32>, tensor<4xi32> -> tensor<4x2xf32>, tensor<1x3x8xf32>
  return
}

// -----

func.func @router_c3_experts(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 2 of statistics to be E = 8, as dimension 1 of logits is, but it is 9}}
  %w, %e, %s = moe.router %logits, %ids top_k 2 score "softmax"
      : tensor<4x8xf32>, tensor<4xi32> -> tensor<4x2xf32>, tensor<1x2x9xf32>
  return
}

// -----

func.func @router_c4_top_k(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{expects top_k to be at most the number of experts, 8, but got 9}}
  %w, %e, %s = moe.router %logits, %ids top_k 9 score "softmax"
      : tensor<4x8xf32>, tensor<4xi32> -> tensor<4x9xf32>, tensor<1x2x8xf32>
  return
}

// -----

func.func @router_c4_score(%logits: tensor<4x8xf32>, %ids: tensor<4xi32>) {
  // expected-error@+1 {{attribute 'score' failed to satisfy constraint: string attribute which is "softmax"}}
  %w, %e, %s = moe.router %logits, %ids top_k 2 score "tanh"
      : tensor<4x8xf32>, tensor<4xi32> -> tensor<4x2xf32>, tensor<1x2x8xf32>
  return
}

// -----

func.func @experts_c1(%x: tensor<4x8xf32>, %weights: tensor<5x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<3x12x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 0 of weights to be T = 4, as dimension 0 of x is, but it is 5}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<5x2xf32>, tensor<4x2xi32>, tensor<3x12x8xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @experts_c2(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x1xi32>,
                      %gate_up: tensor<3x12x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of experts to be k = 2, as dimension 1 of weights is, but it is 1}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x1xi32>, tensor<3x12x8xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @experts_c3(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<4x12x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 0 of gate_up to be E = 3, as dimension 0 of down is, but it is 4}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x12x8xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @experts_c4_down(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>,
                           %experts: tensor<4x2xi32>, %gate_up: tensor<3x12x8xf32>,
                           %down: tensor<3x7x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of down to be D = 8, as dimension 1 of x is, but it is 7}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x12x8xf32>, tensor<3x7x6xf32>
  return
}

// -----

func.func @experts_c4_gate_up(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>,
                              %experts: tensor<4x2xi32>, %gate_up: tensor<3x12x7xf32>,
                              %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 2 of gate_up to be D = 8, as dimension 1 of x is, but it is 7}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x12x7xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @experts_c5(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<3x11x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{expects dimension 1 of gate_up to be 12, but it is 11}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x11x8xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @experts_c6(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<3x12x8xf32>, %down: tensor<3x8x6xbf16>) {
  // expected-error@+1 {{failed to verify that all of {x, gate_up, down} have same element type}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "silu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x12x8xf32>, tensor<3x8x6xbf16>
  return
}

// -----

func.func @experts_c7(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<3x12x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same type}}
  %y = "moe.experts"(%x, %weights, %experts, %gate_up, %down) {activation = "silu"}
      : (tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x12x8xf32>, tensor<3x8x6xf32>) -> tensor<4x9xf32>
  return
}

// -----

func.func @experts_c8(%x: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %experts: tensor<4x2xi32>,
                      %gate_up: tensor<3x12x8xf32>, %down: tensor<3x8x6xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %y = moe.experts %x, %weights, %experts, %gate_up, %down activation "gelu"
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<3x12x8xf32>, tensor<3x8x6xf32>
  return
}

// -----

func.func @load_balance_loss_c1(%aux_weights: tensor<3xf32>) {
  // expected-error@+1 {{expects the statistics of at least one layer}}
  %loss, %counts = "moe.load_balance_loss"(%aux_weights) {top_k = 2}
      : (tensor<3xf32>) -> (tensor<f32>, tensor<1x8xf32>)
  return
}

// -----

func.func @load_balance_loss_c2(%aux_weights: tensor<3xf32>, %s0: tensor<3x2x8xf32>,
                                %s1: tensor<4x2x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of statistics 1 to be M = 3, as dimension 0 of aux_weights is, but it is 4}}
  %loss, %counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 2
      : tensor<3xf32>, tensor<3x2x8xf32>, tensor<4x2x8xf32>
  return
}

// -----

func.func @load_balance_loss_c3_middle(%aux_weights: tensor<3xf32>, %s0: tensor<3x1x8xf32>,
                                       %s1: tensor<3x2x8xf32>) {
  // expected-error@+1 {{expects dimension 1 of statistics 0 to be 2, but it is 1}}
  %loss, %counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 2
      : tensor<3xf32>, tensor<3x1x8xf32>, tensor<3x2x8xf32>
  return
}

// -----

func.func @load_balance_loss_c3_experts(%aux_weights: tensor<3xf32>, %s0: tensor<3x2x8xf32>,
                                        %s1: tensor<3x2x4xf32>) {
  // expected-error@+1 {{expects dimension 2 of statistics 1 to be E = 8, as dimension 2 of statistics 0 is, but it is 4}}
  %loss, %counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 2
      : tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x4xf32>
  return
}

// -----

func.func @load_balance_loss_c4(%aux_weights: tensor<3xf32>, %s0: tensor<3x2x8xf32>,
                                %s1: tensor<3x2x8xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<f32>', 'tensor<2x8xf32>' are incompatible with return type(s) of operation 'tensor<f32>', 'tensor<1x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %loss, %counts = "moe.load_balance_loss"(%aux_weights, %s0, %s1) {top_k = 2}
      : (tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x8xf32>) -> (tensor<f32>, tensor<1x8xf32>)
  return
}

// -----

func.func @load_balance_loss_c5(%aux_weights: tensor<3xf32>, %s0: tensor<3x2x8xf32>,
                                %s1: tensor<3x2x8xf32>) {
  // expected-error@+1 {{attribute 'top_k' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %loss, %counts = moe.load_balance_loss %aux_weights, %s0, %s1 top_k 0
      : tensor<3xf32>, tensor<3x2x8xf32>, tensor<3x2x8xf32>
  return
}

// -----

func.func @sort_by_expert_c1_group_sizes(%experts: tensor<4x2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<8xi32>', 'tensor<4x2xi32>' are incompatible with return type(s) of operation 'tensor<7xi32>', 'tensor<4x2xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %g, %r = "moe.sort_by_expert"(%experts) {num_experts = 8}
      : (tensor<4x2xi32>) -> (tensor<7xi32>, tensor<4x2xi32>)
  return
}

// -----

func.func @sort_by_expert_c1_row_of_slot(%experts: tensor<4x2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<8xi32>', 'tensor<4x2xi32>' are incompatible with return type(s) of operation 'tensor<8xi32>', 'tensor<4x1xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %g, %r = "moe.sort_by_expert"(%experts) {num_experts = 8}
      : (tensor<4x2xi32>) -> (tensor<8xi32>, tensor<4x1xi32>)
  return
}

// -----

func.func @sort_by_expert_c2(%experts: tensor<4x2xi32>) {
  // expected-error@+1 {{attribute 'num_experts' failed to satisfy constraint: 64-bit signless integer attribute in [1, 65536]}}
  %g, %r = "moe.sort_by_expert"(%experts) {num_experts = 0}
      : (tensor<4x2xi32>) -> (tensor<0xi32>, tensor<4x2xi32>)
  return
}

// -----

func.func @permute_c1(%x: tensor<4x8xf32>, %row_of_slot: tensor<5x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of row_of_slot to be T = 4, as dimension 0 of x is, but it is 5}}
  %rows = moe.permute %x, %row_of_slot : tensor<4x8xf32>, tensor<5x2xi32>
  return
}

// -----

func.func @permute_c2(%x: tensor<?x8xf32, #moe.rows<"T">>,
                      %row_of_slot: tensor<?x2xi32, #moe.rows<"T">>) {
  // expected-error@+2 {{inferred type(s) 'tensor<?x8xf32, #moe.rows<2 * "T">>' are incompatible with return type(s) of operation 'tensor<?x8xf32, #moe.rows<"T">>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %rows = "moe.permute"(%x, %row_of_slot)
      : (tensor<?x8xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>) -> tensor<?x8xf32, #moe.rows<"T">>
  return
}

// -----

func.func @unpermute_c1(%rows: tensor<8x8xf32>, %weights: tensor<5x2xf32>,
                        %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of weights to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %y = moe.unpermute %rows, %weights, %row_of_slot
      : tensor<8x8xf32>, tensor<5x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_c2(%rows: tensor<8x8xf32>, %weights: tensor<4x1xf32>,
                        %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 1 of weights to be k = 2, as dimension 1 of row_of_slot is, but it is 1}}
  %y = moe.unpermute %rows, %weights, %row_of_slot
      : tensor<8x8xf32>, tensor<4x1xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_c3(%rows: tensor<4x8xf32>, %weights: tensor<4x2xf32>,
                        %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+1 {{expects dimension 0 of rows to be 8, but it is 4}}
  %y = moe.unpermute %rows, %weights, %row_of_slot
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>
  return
}

// -----

func.func @unpermute_c3_rows(%rows: tensor<?x8xf32, #moe.rows<"T">>,
                             %weights: tensor<?x2xf32, #moe.rows<"T">>,
                             %row_of_slot: tensor<?x2xi32, #moe.rows<"T">>) {
  // expected-error@+1 {{expects dimension 0 of rows to be 2 * "T", but it is "T"}}
  %y = moe.unpermute %rows, %weights, %row_of_slot
      : tensor<?x8xf32, #moe.rows<"T">>, tensor<?x2xf32, #moe.rows<"T">>, tensor<?x2xi32, #moe.rows<"T">>
  return
}

// -----

func.func @unpermute_c4(%rows: tensor<8x8xf32>, %weights: tensor<4x2xf32>,
                        %row_of_slot: tensor<4x2xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x8xf32>' are incompatible with return type(s) of operation 'tensor<8x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.unpermute"(%rows, %weights, %row_of_slot)
      : (tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<8x8xf32>
  return
}

// -----

func.func @unpermute_add_c1(%rows: tensor<8x8xf32>, %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<5x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of x to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<5x8xf32>
  return
}

// -----

func.func @unpermute_add_c1_weights(%rows: tensor<8x8xf32>, %weights: tensor<5x2xf32>, %row_of_slot: tensor<4x2xi32>,
                                    %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of weights to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<8x8xf32>, tensor<5x2xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @unpermute_add_c2(%rows: tensor<8x8xf32>, %weights: tensor<4x1xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 1 of weights to be k = 2, as dimension 1 of row_of_slot is, but it is 1}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<8x8xf32>, tensor<4x1xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @unpermute_add_c3(%rows: tensor<4x8xf32>, %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 0 of rows to be 8, but it is 4}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<4x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @unpermute_add_c4(%rows: tensor<8x9xf32>, %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects dimension 1 of rows to be D = 8, as dimension 1 of x is, but it is 9}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<8x9xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x8xf32>
  return
}

// -----

func.func @unpermute_add_c5(%rows: tensor<8x8xf32>, %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<4x8xbf16>) {
  // expected-error@+1 {{failed to verify that all of {rows, x} have same element type}}
  %y = moe.unpermute_add %rows, %weights, %row_of_slot, %x
      : tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x8xbf16>
  return
}

// -----

func.func @unpermute_add_c6(%rows: tensor<8x8xf32>, %weights: tensor<4x2xf32>, %row_of_slot: tensor<4x2xi32>,
                            %x: tensor<4x8xf32>) {
  // expected-error@+1 {{failed to verify that all of {x, y} have same type}}
  %y = "moe.unpermute_add"(%rows, %weights, %row_of_slot, %x)
      : (tensor<8x8xf32>, tensor<4x2xf32>, tensor<4x2xi32>, tensor<4x8xf32>) -> tensor<8x8xf32>
  return
}

// -----

func.func @grouped_gemm_c1(%x: tensor<4x8xf32>, %w: tensor<3x6x9xf32>,
                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 2 of w to be K = 8, as dimension 1 of x is, but it is 9}}
  %y = moe.grouped_gemm %x, %w, %group_sizes : tensor<4x8xf32>, tensor<3x6x9xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_c2(%x: tensor<4x8xf32>, %w: tensor<3x6x8xf32>,
                           %group_sizes: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %y = moe.grouped_gemm %x, %w, %group_sizes : tensor<4x8xf32>, tensor<3x6x8xf32>, tensor<4xi32>
  return
}

// -----

func.func @grouped_gemm_c3(%x: tensor<4x8xf32>, %w: tensor<3x6x8xbf16>,
                           %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %y = moe.grouped_gemm %x, %w, %group_sizes : tensor<4x8xf32>, tensor<3x6x8xbf16>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_c4(%x: tensor<4x8xf32>, %w: tensor<3x6x8xf32>,
                           %group_sizes: tensor<3xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x6xf32>' are incompatible with return type(s) of operation 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.grouped_gemm"(%x, %w, %group_sizes)
      : (tensor<4x8xf32>, tensor<3x6x8xf32>, tensor<3xi32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @gated_activation_c1(%gate_up: tensor<4x9xf32>) {
  // expected-error@+1 {{expects an even number of columns in gate_up, but got 9}}
  %y = moe.gated_activation %gate_up activation "silu" : tensor<4x9xf32>
  return
}

// -----

func.func @gated_activation_c2(%gate_up: tensor<4x8xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x4xf32>' are incompatible with return type(s) of operation 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = "moe.gated_activation"(%gate_up) {activation = "silu"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @gated_activation_c3(%gate_up: tensor<4x8xf32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %y = moe.gated_activation %gate_up activation "relu" : tensor<4x8xf32>
  return
}

// -----

func.func @grouped_gemm_gated_c1(%x: tensor<4x8xf32>, %w: tensor<3x6x9xf32>, %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 2 of w to be K = 8, as dimension 1 of x is, but it is 9}}
  %g, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<3x6x9xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_c2(%x: tensor<4x8xf32>, %w: tensor<3x6x8xf32>, %group_sizes: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %g, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<3x6x8xf32>, tensor<4xi32>
  return
}

// -----

func.func @grouped_gemm_gated_c3(%x: tensor<4x8xf32>, %w: tensor<3x7x8xf32>, %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects an even number of rows in w, but got 7}}
  %g, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<3x7x8xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_c4(%x: tensor<4x8xf32>, %w: tensor<3x6x8xbf16>, %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %g, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<3x6x8xbf16>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_c5(%x: tensor<4x8xf32>, %w: tensor<3x6x8xf32>, %group_sizes: tensor<3xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<4x6xf32>', 'tensor<4x3xf32>' are incompatible with return type(s) of operation 'tensor<4x6xf32>', 'tensor<4x6xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %g, %y = "moe.grouped_gemm_gated"(%x, %w, %group_sizes) {activation = "silu"}
      : (tensor<4x8xf32>, tensor<3x6x8xf32>, tensor<3xi32>) -> (tensor<4x6xf32>, tensor<4x6xf32>)
  return
}

// -----

func.func @grouped_gemm_gated_c6(%x: tensor<4x8xf32>, %w: tensor<3x6x8xf32>, %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %g, %y = moe.grouped_gemm_gated %x, %w, %group_sizes activation "relu"
      : tensor<4x8xf32>, tensor<3x6x8xf32>, tensor<3xi32>
  return
}

// -----

func.func @rows_of_tokens_c1(%row_of_slot: tensor<4x2xi32>, %weights: tensor<5x2xf32>) {
  // expected-error@+1 {{expects dimension 0 of weights to be T = 4, as dimension 0 of row_of_slot is, but it is 5}}
  %token_of_row, %weight_of_row = moe.rows_of_tokens %row_of_slot, %weights
      : tensor<4x2xi32>, tensor<5x2xf32>
  return
}

// -----

func.func @rows_of_tokens_c2(%row_of_slot: tensor<4x2xi32>, %weights: tensor<4x3xf32>) {
  // expected-error@+1 {{expects dimension 1 of weights to be k = 2, as dimension 1 of row_of_slot is, but it is 3}}
  %token_of_row, %weight_of_row = moe.rows_of_tokens %row_of_slot, %weights
      : tensor<4x2xi32>, tensor<4x3xf32>
  return
}

// -----

func.func @rows_of_tokens_c3(%row_of_slot: tensor<4x2xi32>, %weights: tensor<4x2xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<8xi32>', 'tensor<8xf32>' are incompatible with return type(s) of operation 'tensor<8xi32>', 'tensor<4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %token_of_row, %weight_of_row = "moe.rows_of_tokens"(%row_of_slot, %weights)
      : (tensor<4x2xi32>, tensor<4x2xf32>) -> (tensor<8xi32>, tensor<4xf32>)
  return
}

// -----

func.func @grouped_gemm_gated_gather_c1(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x6x9xf32>,
                                        %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects dimension 2 of w to be K = 8, as dimension 1 of x is, but it is 9}}
  %g, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<7xi32>, tensor<3x6x9xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_gather_c2(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x6x8xf32>,
                                        %group_sizes: tensor<4xi32>) {
  // expected-error@+1 {{expects dimension 0 of group_sizes to be E = 3, as dimension 0 of w is, but it is 4}}
  %g, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<7xi32>, tensor<3x6x8xf32>, tensor<4xi32>
  return
}

// -----

func.func @grouped_gemm_gated_gather_c3(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x7x8xf32>,
                                        %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{expects an even number of rows in w, but got 7}}
  %g, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<7xi32>, tensor<3x7x8xf32>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_gather_c4(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x6x8xbf16>,
                                        %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{failed to verify that all of {x, w} have same element type}}
  %g, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes activation "silu"
      : tensor<4x8xf32>, tensor<7xi32>, tensor<3x6x8xbf16>, tensor<3xi32>
  return
}

// -----

func.func @grouped_gemm_gated_gather_c5(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x6x8xf32>,
                                        %group_sizes: tensor<3xi32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<7x6xf32>', 'tensor<7x3xf32>' are incompatible with return type(s) of operation 'tensor<4x6xf32>', 'tensor<4x3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %g, %y = "moe.grouped_gemm_gated_gather"(%x, %token_of_row, %w, %group_sizes) {activation = "silu"}
      : (tensor<4x8xf32>, tensor<7xi32>, tensor<3x6x8xf32>, tensor<3xi32>) -> (tensor<4x6xf32>, tensor<4x3xf32>)
  return
}

// -----

func.func @grouped_gemm_gated_gather_c6(%x: tensor<4x8xf32>, %token_of_row: tensor<7xi32>, %w: tensor<3x6x8xf32>,
                                        %group_sizes: tensor<3xi32>) {
  // expected-error@+1 {{attribute 'activation' failed to satisfy constraint: string attribute which is "silu"}}
  %g, %y = moe.grouped_gemm_gated_gather %x, %token_of_row, %w, %group_sizes activation "relu"
      : tensor<4x8xf32>, tensor<7xi32>, tensor<3x6x8xf32>, tensor<3xi32>
  return
}
