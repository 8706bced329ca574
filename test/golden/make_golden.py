#!/usr/bin/env python3
"""Writes a golden folder: a small MoE checkpoint and what transformers does with it in a few training steps.

    python3 -m venv venv && venv/bin/pip install torch==2.11 transformers==5.17 safetensors
    venv/bin/python test/golden/make_golden.py mixtral test/golden/mixtral-tiny
    venv/bin/python test/golden/make_golden.py olmoe test/golden/olmoe-tiny

float32 on the CPU, eager attention and experts, random tokens, two micro-batches of uneven length a step. The form is
described in README.md beside this file.
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

STEPS, MICRO, LENGTH = 4, 2, 24
HYPERPARAMETERS = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "max_grad_norm": 1.0,
                   "gradient_accumulation_steps": MICRO,
                   "loss": "mean over micro-batches of (mean CE over unmasked shifted tokens + coef*aux)"}


def make_model(family):
    common = dict(vocab_size=160, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=64, output_router_logits=True)
    if family == "mixtral":
        config = transformers.MixtralConfig(num_local_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.02,
                                            sliding_window=None, **common)
        model = transformers.MixtralForCausalLM
    else:
        config = transformers.OlmoeConfig(num_experts=8, num_experts_per_tok=3, router_aux_loss_coef=0.01,
                                          norm_topk_prob=False, **common)
        model = transformers.OlmoeForCausalLM
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    torch.manual_seed(11)
    model = model(config).to(torch.float32).train()
    with torch.no_grad():  # norm weights of exactly one would hide a missing product
        for name, parameter in model.named_parameters():
            parameter.copy_(1 + 0.1 * torch.randn_like(parameter) if "norm" in name
                            else 0.08 * torch.randn_like(parameter))
    return model


def make_batches(vocabulary):
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, vocabulary, (STEPS, MICRO, LENGTH), generator=generator)
    lengths = torch.randint(8, LENGTH + 1, (STEPS, MICRO), generator=generator)
    labels = ids.clone()
    labels[:, :, :4] = -100
    for step in range(STEPS):
        for micro in range(MICRO):
            labels[step, micro, lengths[step, micro]:] = -100
    return {"input_ids": ids, "labels": labels, "lengths": lengths}


def train(model, batches, folder):
    optimizer = torch.optim.AdamW(model.parameters(), lr=HYPERPARAMETERS["lr"], betas=HYPERPARAMETERS["betas"],
                                  eps=HYPERPARAMETERS["eps"], weight_decay=HYPERPARAMETERS["weight_decay"])
    steps = []
    for step in range(STEPS):
        losses, aux = [], []
        for micro in range(MICRO):
            length = batches["lengths"][step, micro]
            out = model(input_ids=batches["input_ids"][step, micro, :length][None],
                        labels=batches["labels"][step, micro, :length][None], use_cache=False)
            if step == 0 and micro == 0:
                logits = out.logits[0].detach().clone()
            (out.loss / MICRO).backward()
            losses.append(out.loss.item())
            aux.append(out.aux_loss.item())
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
            save_file({**gradients, "__logits_step0_micro0": logits}, folder / "grads_step0.safetensors")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), HYPERPARAMETERS["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        steps.append({"step": step, "loss": sum(losses) / MICRO, "micro_losses": losses,
                      "aux_loss": sum(aux) / MICRO, "grad_norm": norm.item()})
    return steps


def main():
    family, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    model = make_model(family)
    model.save_pretrained(folder)
    batches = make_batches(model.config.vocab_size)
    save_file(batches, folder / "batches.safetensors")
    steps = train(model, batches, folder)
    model.save_pretrained(folder / "final")
    source = f"transformers {transformers.__version__}, torch {torch.__version__}, float32 CPU, eager attention"
    (folder / "expected.json").write_text(
        json.dumps({"source": source, "hyperparameters": HYPERPARAMETERS, "steps": steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()
