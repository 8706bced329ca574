// Sending tokens to the ranks of their experts and back, in as many rounds as it takes.
//
// What a rank receives lies in a buffer of B rows, B = the bound of the symbol R. Let c[s, e] be the
// number of rows that rank s of the group has for expert e, all_counts [n, E]; expert e lives on
// rank e / (E / n), and a rank's rows stand one expert after the other, as moe.sort_by_expert has
// them. The rows for one rank, from all ranks, have an order: by expert, then by the rank that sends
// them, then as that rank has them. Round i moves rows [i B, (i + 1) B) of it. Each rank computes
// from all_counts what it sends and what it gets.
#ifndef SWITCHYARD_DIALECTS_DIST_EXCHANGEOPS
#define SWITCHYARD_DIALECTS_DIST_EXCHANGEOPS

include "dialects/dist/CollectiveOps.td"

def Dist_TokenExchangeOp : Dist_DifferentiableCollectiveOp<"token_exchange",
    [InferTypeOpAdaptor]> {
  let summary = "Sends rows to the ranks of their experts.";
  let description = [{
    `rows` [A, D] holds this rank's rows, all_counts[self, e] for each expert e in turn; rows behind
    these stay. `received` [R, D] holds the rows of round `round` (a scalar; round 0 without it) for
    the experts of this rank, from all ranks of the group, in the order given above: expert by
    expert, `group_sizes` [E / n] many of each, as `moe.grouped_gemm` takes them. Rows behind these
    are zero. Both numbers are data; a rank may send or receive nothing.

    Its reverse, and its vector-Jacobian product by `rows`, is `dist.token_return`.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) all_counts is [n, E] for the n ranks of a group, and E a multiple of n.
    - (C3) the module declares the symbol R.
    - (C4) `received` is [R, D], of the elements of `rows`, and `group_sizes` is [E / n].

    ```mlir
    %received, %group_sizes = dist.token_exchange %rows, %all_counts over ["ep"]
        : tensor<?x64xbf16, #moe.rows<2 * "T">>, tensor<4x8xi32>
    ```
  }];
  let arguments = (ins Dist_Rows:$rows, Dist_Counts:$all_counts, Optional<Dist_I32Scalar>:$round,
                       Dist_AxesAttr:$axes);
  let results = (outs Dist_Rows:$received, Dist_GroupSizes:$group_sizes);
  let assemblyFormat = [{
    $rows `,` $all_counts (`round` $round^)? `over` custom<Axes>($axes) attr-dict
    `:` type($rows) `,` type($all_counts)
  }];
  let hasVerifier = 1;
}

def Dist_TokenReturnOp : Dist_DifferentiableCollectiveOp<"token_return",
    [AttrSizedOperandSegments,
     OptionalTypesMatchWith<"into has the type of returned", "returned", "into", "$_self">]> {
  let summary = "Sends rows back to where they came from.";
  let description = [{
    The reverse of the `dist.token_exchange` with the same counts and the same round: `rows` [R, D]
    are what has become of the rows received, and `returned` [A, D] holds each at the place that it
    was sent from, on the rank that sent it. Rows of other rounds, and those behind the rows that
    all_counts counts, are zero. Given `into`, what is returned is added to it: rounds move
    different rows, so over zeros that fills in what is missing, and no bit depends on the rounds.

    Its vector-Jacobian product by `rows` is `dist.token_exchange`; the cotangent of `into` is that
    of `returned`.

    Canonicalization: a sum with what is returned becomes `into`.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) all_counts is [n, E] for the n ranks of a group, and E a multiple of n.
    - (C3) the module declares the symbol R.
    - (C4) `rows` is [R, D], and `returned` has its D and its element type, and not R rows.
    - (C5) `into`, if given, has the type of `returned`.

    ```mlir
    %y = dist.token_return %rows, %all_counts over ["ep"] : tensor<?x64xbf16, #moe.rows<"R">>,
        tensor<4x8xi32> -> tensor<?x64xbf16, #moe.rows<2 * "T">>
    %z = dist.token_return %more, %all_counts round %i into %y over ["ep"]
        : tensor<?x64xbf16, #moe.rows<"R">>, tensor<4x8xi32>
        -> tensor<?x64xbf16, #moe.rows<2 * "T">>
    ```
  }];
  let arguments = (ins Dist_Rows:$rows, Dist_Counts:$all_counts, Optional<Dist_I32Scalar>:$round,
                       Optional<Dist_Rows>:$into, Dist_AxesAttr:$axes);
  let results = (outs Dist_Rows:$returned);
  let assemblyFormat = [{
    $rows `,` $all_counts (`round` $round^)? (`into` $into^)? `over` custom<Axes>($axes) attr-dict
    `:` type($rows) `,` type($all_counts) `->` type($returned)
  }];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
}

def Dist_OverflowRoundsOp : Dist_Op<"overflow_rounds",
    [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "How many rounds there are after round 0.";
  let description = [{
    count = max(0, ceil(max over ranks of the rows they get / B) - 1), with B the bound of R and the
    rows that rank d gets those of its experts, the sum of all_counts[s, e] over all s and over the
    e of d. It is the same on all ranks on which all_counts is.

    Constraints:
    - (C1) all_counts is [n, E], and E a multiple of n.
    - (C2) the module declares the symbol R.

    ```mlir
    %count = dist.overflow_rounds %all_counts : tensor<4x8xi32>
    ```
  }];
  let arguments = (ins Dist_Counts:$all_counts);
  let results = (outs Dist_I32Scalar:$count);
  let assemblyFormat = "$all_counts attr-dict `:` type($all_counts)";
  let hasVerifier = 1;
}

def Dist_RoundsOp : Dist_Op<"rounds",
    [IsolatedFromAbove, SingleBlock, AttrSizedOperandSegments, RecursiveMemoryEffects,
     RecursivelySpeculatable, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
     DeclareOpInterfaceMethods<DifferentiableOpInterface>]> {
  let summary = "The rounds after round 0: the one loop that there is.";
  let description = [{
    Runs its body for round = 1 to `count`, usually never. `carry` lists the values that rounds add
    to, each with its name inside; `with` lists those that rounds only read. The results are the
    carried values after the last round. `count` is the same on all ranks of a group over the axes,
    and known on the host before the loop or only on the device.

    Each round adds something to each carried value that does not depend on it: a sum over rounds,
    in their order. So nothing has to be kept for the backward direction. The vector-Jacobian
    product is a `dist.rounds` with the same count that carries the cotangents of the values of
    `with`: each of its rounds computes what the forward body computed once more, then its reverse.
    The cotangent of a carried value passes by.

    Canonicalization: a value that is added to the sum of rounds that starts at zero becomes what
    that sum starts at; the loop moves behind it. Without overflow no zeros are written then, and
    nothing is added.

    Constraints:
    - (C1) the module has a mesh, with these axes.
    - (C2) there is at least one carried value; the results have the types of the carried values.
    - (C3) the body's arguments are the round, an i32 scalar, then the carried values, then those of
      `with`, of their types; it yields the carried values.
    - (C4) a carried value is only added to: the body's argument is used once, by a `moe.add`, as
      the accumulator of a `moe.accumulate` or a `moe.grouped_gemm_wgrad_accumulate`, or as the
      `into` of a `dist.token_return`, the result of that again, and so on to the place of the value
      in the yield.
    - (C5) the body has no effects, no regions and no `moe.read`.
    - (C6) collectives of the body are over some of the axes.

    ```mlir
    %y = dist.rounds %round of %count on host over ["ep"]
        carry(%sum = %y0 : tensor<?x64xf32, #moe.rows<2 * "T">>)
        with(%x = %rows : tensor<?x64xf32, #moe.rows<2 * "T">>, %c = %all_counts : tensor<4x8xi32>) {
      %received, %sizes = dist.token_exchange %x, %c round %round over ["ep"]
          : tensor<?x64xf32, #moe.rows<2 * "T">>, tensor<4x8xi32>
      %next = dist.token_return %received, %c round %round into %sum over ["ep"]
          : tensor<?x64xf32, #moe.rows<"R">>, tensor<4x8xi32>
          -> tensor<?x64xf32, #moe.rows<2 * "T">>
      dist.yield %next : tensor<?x64xf32, #moe.rows<2 * "T">>
    }
    ```
  }];
  let arguments = (ins Dist_I32Scalar:$count, Variadic<Dist_Float>:$carried,
                       Variadic<Dist_Any>:$invariants, Dist_AxesAttr:$axes, Dist_KnowerAttr:$known);
  let results = (outs Variadic<Dist_Float>:$results);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let hasCanonicalizer = 1;
  let extraClassDeclaration = [{
    ::mlir::BlockArgument getRoundArgument() { return getBody().getArgument(0); }
    ::mlir::Block::BlockArgListType getCarriedArguments() {
      return getBody().getArguments().slice(1, getCarried().size());
    }
    ::mlir::Block::BlockArgListType getInvariantArguments() {
      return getBody().getArguments().drop_front(1 + getCarried().size());
    }
    YieldOp getYield();
  }];
}

def Dist_YieldOp : Dist_Op<"yield", [Pure, Terminator, HasParent<"RoundsOp">]> {
  let summary = "Ends a round.";
  let description = [{
    Gives the carried values, in their order, to the next round, or as results of `dist.rounds`.

    Constraints:
    - (C1) it ends the body of a `dist.rounds`.
  }];
  let arguments = (ins Variadic<Dist_Float>:$values);
  let assemblyFormat = "$values attr-dict `:` type($values)";
}

#endif
