#!/usr/bin/env python3
"""Writes the goldens of tokenizer.json, and compares a program's ids with those of Hugging Face's tokenizers.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python test/runtime/data/tokenizer/make_goldens.py write [--alpaca alpaca.json]
    venv/bin/python test/runtime/data/tokenizer/make_goldens.py strings COUNT SEED FILE
    venv/bin/python test/runtime/data/tokenizer/make_goldens.py compare TOKENIZER_JSON STRINGS OUR_IDS

`write` trains small tokenizers in the forms of the model families, into Inputs/FORM beside this file: tokenizer.json,
tokenizer_config.json, and expected.json with what tokenizers makes of Inputs/strings.json (ids; a hash of the text that they
decode to), of the prompt and output of each record of --alpaca (a hash of the ids), and around a text.

`strings` writes many more awkward strings, as a JSON array; `compare` reads ids, a JSON array a line, which a program made
of such a file, and says which differ.
"""
import argparse
import json
import pathlib
import random
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
SAMPLE = HERE.parents[3] / "examples/tiny/alpaca_sample.json"
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
LANGUAGES = ["Grüße aus München, schöne Straße", "naïve café déjà vu", "Привет, как дела?", "東京都は日本の首都です。",
             "한국어 예시입니다", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "😀👨‍👩‍👧‍👦🏳️‍🌈", "x² + ½ … “quotes”", "١٢٣ ५६ ๑๒"]


def texts():
    records = json.loads(SAMPLE.read_text(encoding="utf-8"))
    return [record[key] for record in records for key in ("instruction", "input", "output") if record.get(key)] + 9 * LANGUAGES


def add_tokens(tokenizer):
    """Every kind of added token, some of which contain others."""
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)
                                  for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("[R]", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False),
        AddedToken("straße", single_word=True, normalized=True), AddedToken("é!", normalized=True),
        AddedToken("<|im", normalized=False), AddedToken("   ", normalized=True), AddedToken("ﬁn", normalized=True),
        AddedToken(" lead", normalized=False), AddedToken("\n\n\n", normalized=False, rstrip=True),
        AddedToken("<sp>", special=True, normalized=True, lstrip=True)])


def byte_level(normalizer, pre_tokenizer, post_processor=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(), trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    add_tokens(tokenizer)
    if post_processor:
        tokenizer.post_processor = post_processor(tokenizer)
    return tokenizer


def split_and_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama_post_processor(tokenizer):
    bos = "<|im_start|>"
    template = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                             special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])


def sentence_piece(normalizer, pre_tokenizer):
    """As converted SentencePiece models are: characters, bytes for those that have no token, no cuts."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    english = [text for text in texts() if text not in LANGUAGES]  # so that there are characters without a token
    trained.train_from_iterator(english, trainers.BpeTrainer(
        vocab_size=480, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]))
    form = json.loads(trained.to_str())
    form["added_tokens"] = form["added_tokens"][:3]  # the bytes are ordinary tokens
    form["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(form))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    add_tokens(tokenizer)
    return tokenizer


def forms():
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    mistral = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    digits = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(False),
                                      pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    behaviors = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(r"[.,!?]+"), "merged_with_previous"),
                 pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.Split(Regex(r"\p{Lu}"), "contiguous"),
                 pre_tokenizers.Split(Regex(r"[^'-]+"), "removed", invert=True)]
    changes = normalizers.Sequence([normalizers.NFKD(), normalizers.Replace(Regex(r"\p{Mn}+"), ""), normalizers.Replace("ss", "ß")])
    eos = {"eos_token": "<|endoftext|>"}
    return {
        "olmoe": (byte_level(normalizers.NFC(), plain), eos),
        "qwen": (byte_level(normalizers.NFC(), split_and_bytes(QWEN), lambda _: processors.ByteLevel(trim_offsets=False)),
                 {"eos_token": {"__type": "AddedToken", "content": "<|im_end|>"}, "add_bos_token": False}),
        "llama": (byte_level(None, split_and_bytes(LLAMA), llama_post_processor, ignore_merges=True), eos),
        "mixtral": (sentence_piece(mistral, None), {"eos_token": "</s>", "add_bos_token": True}),
        "metaspace": (sentence_piece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)), {"eos_token": "</s>"}),
        "digits": (byte_level(normalizers.NFKC(), digits), eos),
        "behaviors": (byte_level(changes, pre_tokenizers.Sequence(
            behaviors + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])), eos),
    }


SPACES = [9, 10, 11, 12, 13, 32, 0x85, 0xa0, 0x1680, 0x180e, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202f, 0x205f, 0x2060,
          0x3000, 0xfeff]
MARKS = [c for c in range(0x110000) if unicodedata.combining(chr(c))]
DIGITS = [c for c in range(0x110000) if unicodedata.category(chr(c))[0] == "N"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<mask>", "[R]", "<both>", "word", "straße", "é!", "e\u0301!", "<|im",
          "   ", "ﬁn", "fin", " lead", "\n\n\n", "<sp>", "<s>", "</s>", "<unk>", "<0x0A>", "▁", "wordy", "STRASSE"]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'rE", "'ve", "'m", "'ll", "'LL", "'lL", "'d", "’s", "'ſ", "'st"]
EMOJI = ["👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇺🇸", "❤️", "☺", "1️⃣", "🧑🏻‍🤝‍🧑🏿"]
WORDS = ["the", "Hello", "naïve", "I", "don", "foo_bar", "HTTPServer", "2nd", "3.14", "1,000,000", "e=mc²", "東京", "한국어",
         "नमस्ते", "ไทย", "Ὀδυσσεύς", "ǅ", "İstanbul", "ßẞ", "ﬃ", "\u212b", "Ω", "१२३", "٣٤", "Ⅷ", "½", "①", "a\u0301\u0323",
         "שלום", "مرحبا", "\u202eabc\u202c", "ﷺ", "\U00010d50", "\U00016d42x", "\U00011de0", "\U0001ccf0"]
CODE = ["if (x<3) {\n\treturn foo(bar[0]); // ok\n}\r\n", "def f(*a):\n    return a\n", "http://a.b/c?d=e&f=%20#g", "\\n\\t\\\\",
        "----====++++", "#!/bin/sh\n\n\n\n"]


def any_character(source):
    ranges = [(0x20, 0x7f), (0, 0x20), (0x80, 0x250), (0x250, 0x3000), (0x3000, 0xd800), (0xe000, 0x10000), (0x10000, 0x20000),
              (0x20000, 0x33000), (0xe0000, 0xe0200), (0xe000, 0x110000)]
    return chr(source.randrange(*source.choice(ranges)))


def awkward(source, longest):
    """A string of some pieces, the longest of them repeated as often as said."""
    def run(characters, most):
        return "".join(chr(source.choice(characters)) for _ in range(source.randrange(1, most)))
    kinds = [
        lambda: "".join(any_character(source) for _ in range(source.randrange(1, 14))),
        lambda: chr(source.choice(SPACES)) * source.choice([1, 2, 3, 4, longest]),
        lambda: run(SPACES, 9),
        lambda: source.choice("aeoquxAS가ᄀ") + run(MARKS, 7),
        lambda: run(DIGITS, 9),
        lambda: str(source.randrange(10 ** source.randrange(1, 12))),
        lambda: source.choice(WORDS) + source.choice(CONTRACTIONS),
        lambda: source.choice(TOKENS),
        lambda: source.choice([" ", "", "  ", "\n"]) + source.choice(TOKENS) + source.choice([" ", "", "  ", "x"]),
        lambda: source.choice(EMOJI),
        lambda: source.choice(CODE),
        lambda: run([*range(0x1100, 0x1200), *range(0xac00, 0xac80)], 8),
        lambda: source.choice(["\r\n", "\n", "\r", "\n\r", "\x0b", "\x0c", "\x85", "\u2028"]) * source.randrange(1, 5),
        lambda: run(list(range(0x21, 0x30)) + list(range(0x3a, 0x41)), 10),
        lambda: " ".join(source.choice(WORDS) for _ in range(source.randrange(1, 5))),
        lambda: source.choice(["a", "é", "中", "🙂", "\u0301", "-", "0"]) * source.choice([1, 5, longest]),
    ]
    return "".join(source.choice(kinds)() for _ in range(source.choice([1, 1, 2, 3, 4])))


def fnv1a(data):
    value = 0x811c9dc5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return value


def hash_of_ids(ids):
    return fnv1a(struct.pack(f"<{len(ids)}i", *ids))


def alpaca_text(record):
    given = record.get("input")
    head = ("Below is an instruction that describes a task, paired with an input that provides further context. Write a response "
            if given else "Below is an instruction that describes a task. Write a response ")
    middle = f"\n\n### Input:\n{given}" if given else ""
    return (f"{head}that appropriately completes the request.\n\n### Instruction:\n{record['instruction']}{middle}\n\n"
            f"### Response: {record['output']}")


def dump(path, value, **options):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), **options) + "\n", encoding="utf-8")


def write(args):
    source = random.Random(1)
    strings = [""] + [awkward(source, 17) for _ in range(299)]
    inputs = HERE / "Inputs"
    inputs.mkdir(exist_ok=True)
    dump(inputs / "strings.json", strings)
    records = json.loads(pathlib.Path(args.alpaca).read_text(encoding="utf-8")) if args.alpaca else None
    for name, (tokenizer, config) in forms().items():
        folder = inputs / name
        folder.mkdir(exist_ok=True)
        dump(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
        dump(folder / "tokenizer_config.json", config)
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in strings]
        eos = config["eos_token"]
        around = tokenizer.encode("x").ids
        inside = tokenizer.encode("x", add_special_tokens=False).ids
        at = around.index(inside[0])
        expected = {"tokenizers": tokenizers.__version__, "before": around[:at], "behind": around[at + len(inside):] + [
            tokenizer.token_to_id(eos if isinstance(eos, str) else eos["content"])], "ids": ids,
            "decoded": [fnv1a(tokenizer.decode(one).encode()) for one in ids]}
        if records:
            expected["alpaca"] = [hash_of_ids(tokenizer.encode(alpaca_text(record), add_special_tokens=False).ids)
                                  for record in records]
        dump(folder / "expected.json", expected)


def strings(args):
    source = random.Random(args.seed)
    pathlib.Path(args.file).write_text(json.dumps([awkward(source, 200) for _ in range(args.count)]), encoding="utf-8")


def compare(args):
    tokenizer = Tokenizer.from_file(args.tokenizer)
    given = json.loads(pathlib.Path(args.strings).read_text(encoding="utf-8"))
    ours = [json.loads(line) for line in pathlib.Path(args.ids).read_text(encoding="utf-8").splitlines()]
    differing = [text for text, ids in zip(given, ours, strict=True)
                 if tokenizer.encode(text, add_special_tokens=False).ids != ids]
    print(f"{len(given)} strings, {sum(map(len, ours))} ids, {len(differing)} differ", *map(repr, differing[:5]), sep="\n")
    return 1 if differing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("write")
    command.add_argument("--alpaca")
    command.set_defaults(run=write)
    command = commands.add_parser("strings")
    command.add_argument("count", type=int)
    command.add_argument("seed", type=int)
    command.add_argument("file")
    command.set_defaults(run=strings)
    command = commands.add_parser("compare")
    for name in ("tokenizer", "strings", "ids"):
        command.add_argument(name)
    command.set_defaults(run=compare)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
