// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// The dense part of a model and elementwise ops, in custom and in generic form; inferred results.

!hidden = tensor<?x64xbf16, #moe.rows<"T">>
!packed = tensor<?x128xbf16, #moe.rows<"T">>
!ids = tensor<?xi32, #moe.rows<"T">>

// CHECK-LABEL: func.func @embedding
func.func @embedding(%table: tensor<256x64xbf16>, %ids: !ids) -> !hidden {
  // CHECK: moe.embedding %{{.*}}, %{{.*}} : tensor<256x64xbf16>, tensor<?xi32, #moe.rows<"T">>
  // GENERIC: "moe.embedding"(%{{.*}}, %{{.*}}) : (tensor<256x64xbf16>, tensor<?xi32, #moe.rows<"T">>)
  // GENERIC-SAME: -> tensor<?x64xbf16, #moe.rows<"T">>
  %y = moe.embedding %table, %ids : tensor<256x64xbf16>, !ids
  return %y : !hidden
}

// CHECK-LABEL: func.func @linear
func.func @linear(%x: !hidden, %w: tensor<128x64xbf16>) -> !packed {
  // CHECK: moe.linear %{{.*}}, %{{.*}} : tensor<?x64xbf16, #moe.rows<"T">>, tensor<128x64xbf16>
  %y = moe.linear %x, %w : !hidden, tensor<128x64xbf16>
  return %y : !packed
}

// CHECK-LABEL: func.func @linear_of_no_rows
func.func @linear_of_no_rows(%x: tensor<0x64xf32>, %w: tensor<8x64xf32>) -> tensor<0x8xf32> {
  %y = moe.linear %x, %w : tensor<0x64xf32>, tensor<8x64xf32>
  return %y : tensor<0x8xf32>
}

// CHECK-LABEL: func.func @rms_norm
func.func @rms_norm(%x: !hidden, %w: tensor<64xbf16>) -> !hidden {
  // CHECK: moe.rms_norm %{{.*}}, %{{.*}} eps 1.000000e-05
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<64xbf16>
  // GENERIC: "moe.rms_norm"(%{{.*}}, %{{.*}}) <{eps = 1.000000e-05 : f64}>
  %y = moe.rms_norm %x, %w eps 1.0e-05 : !hidden, tensor<64xbf16>
  return %y : !hidden
}

// CHECK-LABEL: func.func @qk_norm
func.func @qk_norm(%qkv: !packed, %q: tensor<64xbf16>, %k: tensor<32xbf16>) -> !packed {
  // CHECK: moe.qk_norm %{{.*}}, %{{.*}}, %{{.*}} heads 4 kv_heads 2 head_dim 16 eps 1.000000e-05
  // CHECK-SAME: : tensor<?x128xbf16, #moe.rows<"T">>, tensor<64xbf16>, tensor<32xbf16>
  // GENERIC: "moe.qk_norm"
  // GENERIC-SAME: <{eps = {{.*}} : f64, head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64}>
  %y = moe.qk_norm %qkv, %q, %k heads 4 kv_heads 2 head_dim 16 eps 1.0e-05
      : !packed, tensor<64xbf16>, tensor<32xbf16>
  return %y : !packed
}

// CHECK-LABEL: func.func @rotary
func.func @rotary(%qkv: !packed, %position_ids: !ids) -> !packed {
  // CHECK: moe.rotary %{{.*}}, %{{.*}} heads 4 kv_heads 2 head_dim 16 theta 1.000000e+06
  // CHECK-SAME: : tensor<?x128xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"T">>
  // GENERIC: "moe.rotary"{{.*}} inverse = false,
  %y = moe.rotary %qkv, %position_ids heads 4 kv_heads 2 head_dim 16 theta 1.0e+06 : !packed, !ids
  // CHECK: moe.rotary %{{.*}}, %{{.*}} heads 4 kv_heads 2 head_dim 16 theta 1.000000e+06 inverse true :
  %x = moe.rotary %y, %position_ids heads 4 kv_heads 2 head_dim 16 theta 1.0e+06 inverse true
      : !packed, !ids
  return %x : !packed
}

// CHECK-LABEL: func.func @attention
func.func @attention(%qkv: !packed, %cu_seqlens: tensor<?xi32, #moe.rows<"S" + 1>>)
    -> (!hidden, tensor<?x4xf32, #moe.rows<"T">>) {
  // CHECK: moe.attention %{{.*}}, %{{.*}} heads 4 kv_heads 2 head_dim 16 scale 2.500000e-01
  // CHECK-SAME: : tensor<?x128xbf16, #moe.rows<"T">>, tensor<?xi32, #moe.rows<"S" + 1>>
  // GENERIC: "moe.attention"{{.*}} window = 0 : i64}>
  %y, %lse = moe.attention %qkv, %cu_seqlens heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
      : !packed, tensor<?xi32, #moe.rows<"S" + 1>>
  // CHECK: moe.attention {{.*}} scale 2.500000e-01 window 4096 :
  %z, %lse2 = moe.attention %qkv, %cu_seqlens heads 4 kv_heads 2 head_dim 16 scale 2.5e-01
      window 4096 : !packed, tensor<?xi32, #moe.rows<"S" + 1>>
  return %y, %lse2 : !hidden, tensor<?x4xf32, #moe.rows<"T">>
}

// CHECK-LABEL: func.func @linear_cross_entropy
func.func @linear_cross_entropy(%x: !hidden, %w: tensor<256x64xbf16>, %labels: !ids,
                                %loss_weights: tensor<?xf32, #moe.rows<"T">>) -> tensor<f32> {
  // CHECK: moe.linear_cross_entropy %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} chunk_rows 1024
  // CHECK-SAME: : tensor<?x64xbf16, #moe.rows<"T">>, tensor<256x64xbf16>, tensor<?xi32, #moe.rows<"T">>,
  // CHECK-SAME: tensor<?xf32, #moe.rows<"T">>
  // GENERIC: "moe.linear_cross_entropy"{{.*}} -> tensor<f32>
  %loss = moe.linear_cross_entropy %x, %w, %labels, %loss_weights chunk_rows 1024
      : !hidden, tensor<256x64xbf16>, !ids, tensor<?xf32, #moe.rows<"T">>
  return %loss : tensor<f32>
}

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%a: !hidden, %b: !hidden, %s: tensor<f32>) -> (!hidden, tensor<f32>) {
  // CHECK: %[[ADD:.*]] = moe.add %{{.*}}, %{{.*}} : tensor<?x64xbf16, #moe.rows<"T">>
  %y = moe.add %a, %b : !hidden
  // CHECK: %[[SCALE:.*]] = moe.scale %[[ADD]] by 2.000000e-02 : tensor<?x64xbf16, #moe.rows<"T">>
  %z = moe.scale %y by 2.0e-02 : !hidden
  // CHECK: moe.boundary %[[SCALE]] {layer = 3 : i64} : tensor<?x64xbf16, #moe.rows<"T">>
  %w = moe.boundary %z {layer = 3} : !hidden
  // CHECK: moe.cast %{{.*}} : tensor<?x64xbf16, #moe.rows<"T">> to tensor<?x64xf32, #moe.rows<"T">>
  // GENERIC: "moe.cast"(%{{.*}}) : (tensor<?x64xbf16, #moe.rows<"T">>) -> tensor<?x64xf32, #moe.rows<"T">>
  %wide = moe.cast %w : !hidden to tensor<?x64xf32, #moe.rows<"T">>
  // CHECK: moe.constant 1.500000e+00 : tensor<f32>
  // GENERIC: "moe.constant"() <{value = 1.500000e+00 : f64}> : () -> tensor<f32>
  %c = moe.constant 1.5 : tensor<f32>
  // CHECK: moe.sum %{{.*}}, %{{.*}}, %{{.*}}{{$}}
  // GENERIC: "moe.sum"(%{{.*}}) : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
  %sum = moe.sum %s, %c, %s
  return %w, %sum : !hidden, tensor<f32>
}

// CHECK-LABEL: func.func @gather_rows
func.func @gather_rows(%x: !hidden, %rows: tensor<16xi32>) -> tensor<16x64xbf16> {
  // CHECK: moe.gather_rows %{{.*}}, %{{.*}} : tensor<?x64xbf16, #moe.rows<"T">>, tensor<16xi32>
  %y = moe.gather_rows %x, %rows : !hidden, tensor<16xi32>
  return %y : tensor<16x64xbf16>
}
