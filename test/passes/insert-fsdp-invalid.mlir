// RUN: moe-opt %s --insert-fsdp --split-input-file --verify-diagnostics

dist.mesh @mesh <["fsdp"=2]>
// expected-error @+1 {{@w is divided already: #dist.sharding<flat over ["fsdp"]>}}
moe.state @w : tensor<16x50xf32> {kind = parameter, sharding = #dist.sharding<flat over ["fsdp"]>} from "w"

// -----

dist.mesh @mesh <["fsdp"=2]>
moe.state @w : tensor<16x50xf32> {kind = parameter} from "w"
// expected-error @+1 {{insert-fsdp: @w.exp_avg belongs to @w already, and would not be divided with it; run insert-fsdp before accumulate}}
moe.state @w.exp_avg : tensor<16x50xf32> {kind = moment, of = @w}

// -----

dist.mesh @mesh <["fsdp"=2]>
// expected-error @+1 {{has more than 2^40 elements, too many to be divided}}
moe.state @w : tensor<1048577x1048576xf32> {kind = parameter} from "w"

// -----

dist.mesh @mesh <["fsdp"=2]>
// expected-error @+1 {{insert-fsdp: @evaluate has 0 blocks; a program is a single block}}
func.func private @evaluate()
