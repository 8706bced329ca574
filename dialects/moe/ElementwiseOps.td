// Sums, products with constants, selected rows, and the marks between layers.
#ifndef SWITCHYARD_DIALECTS_MOE_ELEMENTWISEOPS
#define SWITCHYARD_DIALECTS_MOE_ELEMENTWISEOPS

include "dialects/moe/Attrs.td"

def MoE_AddOp : MoE_DifferentiableOp<"add",
    [Commutative, SameOperandsAndResultType, DeclareOpInterfaceMethods<LinearOpInterface>]>
    {
  let summary = "The sum of two tensors of one type.";
  let description = [{
    y = a + b, elementwise.

    Folds: a zero constant is dropped; the sum of two constants is a constant.

    Constraints:
    - (C1) `a`, `b` and `y` have the same type.

    ```mlir
    %y = moe.add %a, %b : tensor<?x64xbf16, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$a, MoE_AnyFloat:$b);
  let results = (outs MoE_AnyFloat:$y);
  let assemblyFormat = "$a `,` $b attr-dict `:` type($y)";
  let hasFolder = 1;
}

def MoE_ScaleOp : MoE_DifferentiableOp<"scale",
    [SameOperandsAndResultType, DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "A tensor times a constant.";
  let description = [{
    y = factor * x, elementwise, in float32 with one rounding.

    Folds: by 1 is the operand; a constant scaled is a constant; scaled twice is scaled once by
    the product.

    Constraints:
    - (C1) `x` and `y` have the same type.
    - (C2) factor is in [-1e30, 1e30].

    ```mlir
    %y = moe.scale %x by 2.0e-02 : tensor<f32>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$x, MoE_Factor:$factor);
  let results = (outs MoE_AnyFloat:$y);
  let assemblyFormat = "$x `by` $factor attr-dict `:` type($y)";
  let hasFolder = 1;
}

def MoE_ConstantOp : MoE_DifferentiableOp<"constant", [ConstantLike]> {
  let summary = "A tensor with the same value everywhere.";
  let description = [{
    y = value, elementwise.

    Constraints:
    - (C1) value is in [-1e30, 1e30].

    ```mlir
    %one = moe.constant 1.0 : tensor<f32>
    ```
  }];
  let arguments = (ins MoE_Factor:$value);
  let results = (outs MoE_AnyFloat:$y);
  let assemblyFormat = "$value attr-dict `:` type($y)";
  let hasFolder = 1;
}

def MoE_CastOp : MoE_DifferentiableOp<"cast",
    [MoE_AllShapesMatch<["x", "y"]>, DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "A tensor with elements of another type.";
  let description = [{
    y = x, elementwise, rounded to the nearest value of the element type of `y`, to even between two.

    Folds: to the type that it has already.

    Constraints:
    - (C1) `x` and `y` have the same shape.

    ```mlir
    %y = moe.cast %x : tensor<64xf32> to tensor<64xbf16>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$x);
  let results = (outs MoE_AnyFloat:$y);
  let assemblyFormat = "$x attr-dict `:` type($x) `to` type($y)";
  let hasFolder = 1;
}

def MoE_SumOp : MoE_DifferentiableOp<"sum", [DeclareOpInterfaceMethods<LinearOpInterface>]> {
  let summary = "The sum of scalars.";
  let description = [{
    y = terms[0] + terms[1] + ..., in this order.

    Folds: the sum of one term is the term.

    Constraints:
    - (C1) there is at least one term.

    ```mlir
    %y = moe.sum %a, %b, %c
    ```
  }];
  let arguments = (ins Variadic<MoE_F32Scalar>:$terms);
  let results = (outs MoE_F32Scalar:$y);
  let assemblyFormat = "$terms attr-dict";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_GatherRowsOp : MoE_KernelOp<"gather_rows", [InferTypeOpAdaptor]> {
  let summary = "Selected rows of a matrix.";
  let description = [{
    y[b, :] = x[rows[b], :] for `x` [T, D], `rows` [B] in [0, T) and `y` [B, D].

    It serves `logits`, which nothing differentiates, and has no derivative.

    Constraints:
    - (C1) `y` is [B, D], of the elements of `x`.

    ```mlir
    %y = moe.gather_rows %x, %rows : tensor<?x64xf32, #moe.rows<"T">>, tensor<64xi32>
    ```
  }];
  let arguments = (ins MoE_FloatTensor<2>:$x, MoE_I32Tensor<1>:$rows);
  let results = (outs MoE_FloatTensor<2>:$y);
  let assemblyFormat = "$x `,` $rows attr-dict `:` type(operands)";
}

def MoE_BoundaryOp : MoE_Op<"boundary",
    [Pure, DeclareOpInterfaceMethods<DifferentiableOpInterface>, SameOperandsAndResultType]> {
  let summary = "Marks the edge of a layer.";
  let description = [{
    The identity, also on the cotangent. What stands before it in a program belongs to layer `layer`
    or one before that, what stands after to a later one; for a cotangent, the other way round.
    Passes that treat layers apart look for it; it has no kernel and costs nothing.

    Folds: of two boundaries of one layer, one after the other, one is dropped.

    Constraints:
    - (C1) operand and result have the same type.
    - (C2) layer is in [0, 2^40].

    ```mlir
    %y = moe.boundary %x {layer = 0 : i64} : tensor<?x64xf32, #moe.rows<"T">>
    ```
  }];
  let arguments = (ins MoE_AnyFloat:$operand, MoE_Integer<0, 1099511627776>:$layer);
  let results = (outs MoE_AnyFloat:$result);
  let assemblyFormat = "$operand attr-dict `:` type($result)";
  let hasFolder = 1;
}

#endif
