// RUN: moe-opt %s --verify-collective-order --split-input-file --verify-diagnostics

// A dropped wait: a read before the write is done.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @read {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@read: copy on stream 0 reads transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two: stream 0 never waits for it; record an event behind it on stream 1 and let stream 0 wait (insert-waits does)}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
}

// -----

// A dropped wait: what is still read is overwritten.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @overwrite {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the copy is here}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
  // expected-error @+1 {{@overwrite: all_gather over ["fsdp"] on stream 1 overwrites transient [0, 1024), which copy on stream 0 reads, and nothing orders the two: stream 1 never waits for it}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
}

// -----

// A dropped wait: two writes.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @write_twice {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@write_twice: copy on stream 0 writes transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two}}
  plan.copy %y to %g : !plan.buffer<tensor<200xf32>>
}

// -----

// Memory that is used again, by another buffer.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @reuse {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %c = plan.buffer transient at 256 : tensor<64xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@reuse: copy on stream 0 writes transient [256, 512), which shares memory with transient [0, 1024) that all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two}}
  plan.copy %a to %c : !plan.buffer<tensor<64xf32>>
}

// -----

// The padding behind what is gathered is written too.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @padding {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %c = plan.buffer transient at 768 : tensor<64xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@padding: copy on stream 0 reads transient [768, 1024), which shares memory with transient [0, 1024) that all_gather over ["fsdp"] on stream 1 writes}}
  plan.copy %c to %a : !plan.buffer<tensor<64xf32>>
}

// -----

// A state that is read and written.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @state {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %v = plan.buffer transient at 4096 : tensor<128xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@state: launch "accumulate" on stream 0 overwrites state @w [0, 512), which all_gather over ["fsdp"] on stream 1 reads, and nothing orders the two}}
  plan.launch "accumulate" ins(%v : !plan.buffer<tensor<128xf32>>) updates(%w : !plan.buffer<tensor<128xf32>>) {}
}

// -----

// An event that is recorded too early.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @early {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %e = plan.record stream 1
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  plan.wait %e
  // expected-error @+1 {{@early: copy on stream 0 reads transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two: the event that stream 0 waits for is recorded on stream 1 before all_gather over ["fsdp"]; record it behind that}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
}

// -----

// An event on the wrong stream.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @wrong_record {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  %e = plan.record stream 2
  plan.wait %e
  // expected-error @+1 {{@wrong_record: copy on stream 0 reads transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two: the event that stream 0 waits for is recorded on stream 2; record it on stream 1}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
}

// -----

// A wait on the wrong stream.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @wrong_wait {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  %e = plan.record stream 1
  plan.wait %e stream 2
  // expected-error @+1 {{@wrong_wait: copy on stream 0 reads transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two: stream 2 waits for it, but not stream 0; put the wait on stream 0}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
}

// -----

// A wait that comes too late.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @late {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  %e = plan.record stream 1
  // expected-error @+1 {{@late: copy on stream 0 reads transient [0, 1024), which all_gather over ["fsdp"] on stream 1 writes, and nothing orders the two: stream 0 waits for it only behind copy; put the wait before that}}
  plan.copy %g to %y : !plan.buffer<tensor<200xf32>>
  plan.wait %e
}

// -----

// Two collectives that share ranks, on two streams.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @unordered {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-note @+1 {{the all_gather over ["fsdp"] is here}}
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@unordered: all_reduce over ["dp", "ep"] on stream 2 and all_gather over ["fsdp"] on stream 1 have ranks in common and no order, so one rank can start the first and another the second, and both wait forever: stream 2 never waits for it; record an event behind it on stream 1 and let stream 2 wait}}
  plan.collective all_reduce over ["dp", "ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>) stream 2
}

// -----

// A repeat in which ranks meet, and a gather beside it.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @repeat_unordered {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  // expected-note @+3 {{the all_gather over ["fsdp"] is here}}
  %e = plan.record
  plan.wait %e stream 1
  plan.collective all_gather over ["fsdp"] ins(%w : !plan.buffer<tensor<128xf32>>) outs(%g : !plan.buffer<tensor<200xf32>>) stream 1
  // expected-error @+1 {{@repeat_unordered: repeat over ["ep"] on stream 0 and all_gather over ["fsdp"] on stream 1 have ranks in common and no order}}
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>)
  }
}

// -----

// Rounds counted from an input.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @not_uniform {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  // expected-error @+1 {{@not_uniform: repeat over ["ep"] takes its counts from transient [8192, 8224), which nothing has written, so ranks may have different ones; let it take the counts that an all_gather over ["ep"] yields}}
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>)
  }
}

// -----

// Rounds counted from what a rank computed alone.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @alone {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%other : !plan.buffer<tensor<2x4xi32>>)
  plan.copy %other to %all : !plan.buffer<tensor<2x4xi32>>
  // expected-error @+1 {{@alone: repeat over ["ep"] takes its counts from transient [8192, 8224), which copy has written, so ranks may have different ones}}
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>)
  }
}

// -----

// Rounds counted over other groups.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @other_groups {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["fsdp"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  // expected-error @+1 {{@other_groups: repeat over ["ep"] takes its counts from transient [8192, 8224), which were gathered over ["fsdp"], so they are not those of its own groups; let it take the counts that an all_gather over ["ep"] yields}}
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>)
  }
}

// -----

// Counts in memory that was given away.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @given_away {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  %c = plan.buffer transient at 8192 : tensor<64xf32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.copy %a to %c : !plan.buffer<tensor<64xf32>>
  // expected-error @+1 {{@given_away: repeat over ["ep"] takes its counts from transient [8192, 8224), over which copy has written something else; keep the counts as long as they are needed}}
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    plan.collective all_reduce over ["ep"] ins(%a : !plan.buffer<tensor<64xf32>>) outs(%b : !plan.buffer<tensor<64xf32>>)
  }
}

// -----

// Counts that change while rounds run.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @changing {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %alias = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%other : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    // expected-error @+1 {{@changing: copy writes transient [8192, 8224), from which the repeat over ["ep"] around it counts its rounds; write elsewhere}}
    plan.copy %other to %alias : !plan.buffer<tensor<2x4xi32>>
  }
}

// -----

// A round that the body overwrites.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @overwritten_round {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %alias = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    // expected-error @+1 {{@overwritten_round: copy writes transient [8704, 8708), in which the repeat over ["ep"] around it keeps the round; write elsewhere}}
    plan.copy %mine to %alias : !plan.buffer<tensor<i32>>
  }
}

// -----

// An exchange by counts that are not of its groups.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @exchange_groups {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["dp"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  // expected-error @+1 {{@exchange_groups: token_exchange over ["ep"] takes its counts from transient [8192, 8224), which were gathered over ["dp"]}}
  plan.collective token_exchange over ["ep"] ins(%x, %all : !plan.buffer<tensor<?x16xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>) outs(%r, %sizes : !plan.buffer<tensor<?x16xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
}

// -----

// An exchange in a round of no repeat.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @no_repeat {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  // expected-error @+1 {{@no_repeat: token_exchange over ["ep"] takes its round from transient [8960, 8964) outside of any repeat, so ranks may be in different ones; leave the round out}}
  plan.collective token_exchange over ["ep"] ins(%x, %all, %mine : !plan.buffer<tensor<?x16xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>, !plan.buffer<tensor<i32>>) outs(%r, %sizes : !plan.buffer<tensor<?x16xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
}

// -----

// An exchange in another round than its repeat's.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @other_round {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    // expected-error @+1 {{@other_round: token_exchange over ["ep"] takes its round from transient [8960, 8964), which is not that of the repeat over ["ep"] around it, so ranks may be in different ones; use the repeat's}}
    plan.collective token_exchange over ["ep"] ins(%x, %all, %mine : !plan.buffer<tensor<?x16xf32, #moe.rows<"T">>>, !plan.buffer<tensor<2x4xi32>>, !plan.buffer<tensor<i32>>) outs(%r, %sizes : !plan.buffer<tensor<?x16xf32, #moe.rows<"R">>>, !plan.buffer<tensor<2xi32>>)
  }
}

// -----

// A repeat over two streams.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @two_streams {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %counts = plan.buffer io input "counts" at 0 : tensor<4xi32>
  %all = plan.buffer transient at 8192 : tensor<2x4xi32>
  %other = plan.buffer transient at 8448 : tensor<2x4xi32>
  %round = plan.buffer transient at 8704 : tensor<i32>
  %mine = plan.buffer transient at 8960 : tensor<i32>
  %x = plan.buffer io input "x" at 256 : tensor<?x16xf32, #moe.rows<"T">>
  %r = plan.buffer transient at 9216 : tensor<?x16xf32, #moe.rows<"R">>
  %sizes = plan.buffer transient at 10240 : tensor<2xi32>
  plan.collective all_gather over ["ep"] ins(%counts : !plan.buffer<tensor<4xi32>>) outs(%all : !plan.buffer<tensor<2x4xi32>>)
  plan.repeat %round of %all over ["ep"] : !plan.buffer<tensor<i32>>, !plan.buffer<tensor<2x4xi32>> {
    // expected-error @+1 {{@two_streams: copy is on stream 1 inside a repeat over ["ep"] on stream 0; rounds run on the repeat's stream, put it there}}
    plan.copy %a to %b stream 1 : !plan.buffer<tensor<64xf32>>
  }
}

// -----

// A stream that waits for itself.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @itself {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  %e = plan.record stream 1
  // expected-error @+1 {{@itself: stream 1 waits for an event of its own, which orders nothing; record the event on the stream of the instruction to wait for}}
  plan.wait %e stream 1
}

// -----

// An event whose wait was dropped.

dist.mesh @mesh <["dp"=2, "fsdp"=2, "ep"=2]>
moe.symbol @T {bound = 8 : i64}
moe.symbol @R {bound = 16 : i64, rows_per_token = 2.0 : f64}
moe.state @w : tensor<200xf32> {kind = parameter, offset = 0, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"
plan.program @forgotten {
  %w = plan.buffer state @w : tensor<128xf32>
  %g = plan.buffer transient at 0 reserve 256 : tensor<200xf32>
  %a = plan.buffer transient at 1024 : tensor<64xf32>
  %b = plan.buffer transient at 1280 : tensor<64xf32>
  %y = plan.buffer transient at 2048 : tensor<200xf32>
  // expected-error @+1 {{@forgotten: nothing waits for the event recorded on stream 1; a wait is missing, or the event is}}
  %e = plan.record stream 1
}

// -----

// No addresses, no proof.

plan.program @unplaced {
  // expected-error @+1 {{has no address yet; run assign-addresses before verify-collective-order}}
  %x = plan.buffer transient : tensor<4xf32>
  %y = plan.buffer transient : tensor<4xf32>
  plan.copy %x to %y : !plan.buffer<tensor<4xf32>>
}
