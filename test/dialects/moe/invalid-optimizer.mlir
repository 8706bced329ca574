// RUN: moe-opt %s -verify-diagnostics -split-input-file

// The labelled constraints of the ops of OptimizerOps.td, one test each.

func.func @accumulate_c1(%a: tensor<4xf32>, %v: tensor<5xf32>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, value} have same shape}}
  %s = moe.accumulate %a, %v : tensor<4xf32>, tensor<5xf32>
  return
}

// -----

func.func @accumulate_c1_rows(%a: tensor<?xf32, #moe.rows<"T">>,
                              %v: tensor<?xf32, #moe.rows<2 * "T">>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, value} have same shape}}
  %s = moe.accumulate %a, %v : tensor<?xf32, #moe.rows<"T">>, tensor<?xf32, #moe.rows<2 * "T">>
  return
}

// -----

func.func @accumulate_c2(%a: tensor<4xbf16>, %v: tensor<4xf32>) {
  // expected-error@+1 {{failed to verify that all of {accumulator, result} have same type}}
  %s = "moe.accumulate"(%a, %v) : (tensor<4xbf16>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @adamw_c1(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xf32>, %g: tensor<5xf32>,
                    %c: tensor<f32>, %ok: tensor<i32>, %lr: tensor<f32>, %b1: tensor<f32>,
                    %b2: tensor<f32>, %eps: tensor<f32>, %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {param, exp_avg, grad} have same shape}}
  %np, %nm, %nv = moe.adamw %p, %m, %v, %g times %c if %ok rate %lr betas %b1, %b2 epsilon %eps weight_decay %wd step %step
      : tensor<4xbf16>, tensor<4xf32>, tensor<5xf32>
  return
}

// -----

func.func @adamw_c2(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xbf16>, %g: tensor<4xf32>,
                    %c: tensor<f32>, %ok: tensor<i32>, %lr: tensor<f32>, %b1: tensor<f32>,
                    %b2: tensor<f32>, %eps: tensor<f32>, %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {exp_avg, exp_avg_sq, new_exp_avg, new_exp_avg_sq} have same type}}
  %np, %nm, %nv = "moe.adamw"(%p, %m, %v, %g, %c, %ok, %lr, %b1, %b2, %eps, %wd, %step)
      : (tensor<4xbf16>, tensor<4xf32>, tensor<4xbf16>, tensor<4xf32>, tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @adamw_c3(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xf32>, %g: tensor<4xf32>,
                    %c: tensor<f32>, %ok: tensor<i32>, %lr: tensor<f32>, %b1: tensor<f32>,
                    %b2: tensor<f32>, %eps: tensor<f32>, %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {param, new_param} have same type}}
  %np, %nm, %nv = "moe.adamw"(%p, %m, %v, %g, %c, %ok, %lr, %b1, %b2, %eps, %wd, %step)
      : (tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @adamw_master_c1(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xf32>,
                           %w: tensor<5xf32>, %g: tensor<4xf32>, %c: tensor<f32>, %ok: tensor<i32>,
                           %lr: tensor<f32>, %b1: tensor<f32>, %b2: tensor<f32>, %eps: tensor<f32>,
                           %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {param, exp_avg, master, grad} have same shape}}
  %np, %nm, %nv, %nw = moe.adamw_master %p, %m, %v, %w, %g times %c if %ok rate %lr betas %b1, %b2 epsilon %eps weight_decay %wd step %step
      : tensor<4xbf16>, tensor<4xf32>, tensor<5xf32>, tensor<4xf32>
  return
}

// -----

func.func @adamw_master_c2(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xbf16>,
                           %w: tensor<4xf32>, %g: tensor<4xf32>, %c: tensor<f32>, %ok: tensor<i32>,
                           %lr: tensor<f32>, %b1: tensor<f32>, %b2: tensor<f32>, %eps: tensor<f32>,
                           %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {exp_avg, exp_avg_sq, new_exp_avg, new_exp_avg_sq} have same type}}
  %np, %nm, %nv, %nw = "moe.adamw_master"(%p, %m, %v, %w, %g, %c, %ok, %lr, %b1, %b2, %eps, %wd, %step)
      : (tensor<4xbf16>, tensor<4xf32>, tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>, tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @adamw_master_c3(%p: tensor<4xbf16>, %m: tensor<4xf32>, %v: tensor<4xf32>,
                           %w: tensor<4xf32>, %g: tensor<4xf32>, %c: tensor<f32>, %ok: tensor<i32>,
                           %lr: tensor<f32>, %b1: tensor<f32>, %b2: tensor<f32>, %eps: tensor<f32>,
                           %wd: tensor<f32>, %step: tensor<f32>) {
  // expected-error@+1 {{failed to verify that all of {master, new_master} have same type}}
  %np, %nm, %nv, %nw = "moe.adamw_master"(%p, %m, %v, %w, %g, %c, %ok, %lr, %b1, %b2, %eps, %wd, %step)
      : (tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<4xbf16>, tensor<4xf32>, tensor<4xf32>, tensor<5xf32>)
  return
}

// -----

func.func @sum_of_squares_type(%x: tensor<4xi32>) {
  // expected-error@+1 {{operand #0 must be tensor of f32 or bf16 with static extents, but for a first one given by #moe.rows, but got 'tensor<4xi32>'}}
  %y = "moe.sum_of_squares"(%x) : (tensor<4xi32>) -> tensor<f32>
  return
}

// -----

func.func @clip_type(%s: tensor<f32>, %n: tensor<1xf32>) {
  // expected-error@+1 {{operand #1 must be f32 scalar (tensor<f32>), but got 'tensor<1xf32>'}}
  %a, %b, %c = "moe.clip"(%s, %n)
      : (tensor<f32>, tensor<1xf32>) -> (tensor<f32>, tensor<f32>, tensor<i32>)
  return
}
