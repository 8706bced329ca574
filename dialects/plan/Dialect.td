// The plan dialect: what each rank does, one instruction after the other.
#ifndef SWITCHYARD_DIALECTS_PLAN_DIALECT
#define SWITCHYARD_DIALECTS_PLAN_DIALECT

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let summary = "Programs of kernel launches over buffers at fixed addresses.";
  let description = [{
    A module in the plan dialect holds `moe.symbol`s and `moe.state`s and one `plan.program` for each thing that a
    rank is asked to do. A program is a straight list of instructions over buffers. After `to-plan` a buffer has a
    type and an arena; after `assign-addresses` it has an offset too, every `moe.state` has one, and the module
    carries the size of each arena (`plan.arenas`) and their sum, the certified peak (`plan.peak`). That form and the
    plan file hold the same information: `moe-translate` turns one into the other.
  }];
  let cppNamespace = "::switchyard::plan";
  let dependentDialects = ["::switchyard::moe::MoEDialect", "::switchyard::dist::DistDialect"];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
}

def Plan_ArenaState : I32EnumAttrCase<"State", 0, "state">;
def Plan_ArenaIo : I32EnumAttrCase<"Io", 1, "io">;
def Plan_ArenaComm : I32EnumAttrCase<"Comm", 2, "comm">;
def Plan_ArenaTransient : I32EnumAttrCase<"Transient", 3, "transient">;
def Plan_Arena : I32EnumAttr<"Arena", "The memory a buffer lies in",
    [Plan_ArenaState, Plan_ArenaIo, Plan_ArenaComm, Plan_ArenaTransient]> {
  let cppNamespace = "::switchyard::plan";
  let genSpecializedAttr = 0;
}
def Plan_ArenaAttr : EnumAttr<Plan_Dialect, Plan_Arena, "arena"> {
  let assemblyFormat = "`<` $value `>`";
}

def Plan_PortInput : I32EnumAttrCase<"Input", 0, "input">;
def Plan_PortOutput : I32EnumAttrCase<"Output", 1, "output">;
def Plan_Port : I32EnumAttr<"Port", "The side of a program that an io buffer stands on",
    [Plan_PortInput, Plan_PortOutput]> {
  let cppNamespace = "::switchyard::plan";
  let genSpecializedAttr = 0;
}
def Plan_PortAttr : EnumAttr<Plan_Dialect, Plan_Port, "port"> {
  let assemblyFormat = "`<` $value `>`";
}

def Plan_BufferType : TypeDef<Plan_Dialect, "Buffer"> {
  let mnemonic = "buffer";
  let summary = "Memory that holds a tensor, dense and row-major.";
  let parameters = (ins TypeParameter<"::mlir::RankedTensorType", "what it holds">:$tensor);
  let assemblyFormat = "`<` $tensor `>`";
}

def Plan_EventType : TypeDef<Plan_Dialect, "Event"> {
  let mnemonic = "event";
  let summary = "A point in a stream that others can wait for.";
}

// In the order of runtime/plan/Plan.h's CollectiveKind.
def Plan_AllGather : I32EnumAttrCase<"AllGather", 0, "all_gather">;
def Plan_ReduceScatter : I32EnumAttrCase<"ReduceScatter", 1, "reduce_scatter">;
def Plan_AllReduce : I32EnumAttrCase<"AllReduce", 2, "all_reduce">;
def Plan_TokenExchange : I32EnumAttrCase<"TokenExchange", 3, "token_exchange">;
def Plan_TokenReturn : I32EnumAttrCase<"TokenReturn", 4, "token_return">;
def Plan_CollectiveKind : I32EnumAttr<"CollectiveKind", "What ranks do together",
    [Plan_AllGather, Plan_ReduceScatter, Plan_AllReduce, Plan_TokenExchange, Plan_TokenReturn]> {
  let cppNamespace = "::switchyard::plan";
  let genSpecializedAttr = 0;
}
def Plan_CollectiveKindAttr : EnumAttr<Plan_Dialect, Plan_CollectiveKind, "collective_kind"> {
  let assemblyFormat = "`<` $value `>`";
}

#endif
