"""The shapes of MoE layers that the peers time, and which experts tokens choose: as moe-bench has them.

tools/moe-bench/Routing.h says how experts are drawn; a record's group_sizes show that both did the same.
"""
import bisect
import functools
import itertools

MODELS = {  # D,F,E,k
    "mixtral-8x7b": (4096, 14336, 8, 2), "mixtral-8x22b": (6144, 16384, 8, 2), "olmoe-1b-7b": (2048, 1024, 64, 8),
    "qwen3-30b-a3b": (2048, 768, 128, 8), "deepseek-v2-lite": (2048, 1408, 64, 6), "granite-3b": (1536, 512, 40, 8)}
TOKENS = [512, 4096, 16384, 32768]
ROUTINGS = ["balanced", "random", "zipf", "one-empty", "one-overfull"]


def add_flags(parser):
    parser.add_argument("--shapes", nargs="+", default=[], metavar="T,D,F,E,k")
    parser.add_argument("--model", nargs="+", default=[], choices=MODELS, help="shapes of models, each with each of --tokens")
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS, metavar="T")


def chosen(args, default):
    """The shapes that the flags name, T,D,F,E,k by what cases call them; `default` where they name none."""
    shapes = {shape: tuple(map(int, shape.split(","))) for shape in args.shapes or ([] if args.model else default)}
    return shapes | {f"{model},{tokens}": (tokens, *MODELS[model]) for model in args.model for tokens in args.tokens}


def random_bits(counter):
    """64 random bits of `counter`: SplitMix64 (Steele, Lea, Flood 2014)."""
    bits = counter * 0x9e3779b97f4a7c15 % 2**64
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94d049bb133111eb % 2**64
    return bits ^ bits >> 31


@functools.cache
def group_sizes(tokens, experts, top_k, routing):
    """How many rows each expert has."""
    if routing == "one-empty" and top_k == experts:
        raise ValueError(f"one-empty: each token chooses all {experts} experts, so that none is empty")
    weights = {"zipf": [2**32 // (expert + 1) for expert in range(experts)],
               "one-empty": [int(expert != experts // 2) for expert in range(experts)]}.get(routing, [1] * experts)
    sums = list(itertools.accumulate(weights))
    draws = (bisect.bisect_right(sums, random_bits(i) % sums[-1]) for i in itertools.count())
    sizes = [0] * experts
    for token in range(tokens):
        experts_of_token = {experts // 2} if routing == "one-overfull" else set()
        if routing == "balanced":
            experts_of_token = {(token * top_k + j) % experts for j in range(top_k)}
        while len(experts_of_token) < top_k:
            experts_of_token.add(next(draws))
        for expert in experts_of_token:
            sizes[expert] += 1
    return sizes
