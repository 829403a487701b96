"""data/adapters.py - reference adapters and losses, from PEFT and PyTorch in float64.

    python3 data/adapters.py data/adapters      (needs torch, transformers, peft; test_gpt reads it)

The model is that of data/reference.bin. Its adapters of rank 3 on all four matrices of a block are
initialized by PEFT, but B is random too; PEFT saves them in the folder. They are then trained for
ten steps on the reference's first batch, and losses.txt gets the ten losses.
"""
import sys
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

raw = open("data/reference.bin", "rb").read()
_, _, T, V, L, NH, C, VP, B, _ = np.frombuffer(raw, "<i4", 10)
at = 1024


def take(kind, *shape):
    global at
    x = np.frombuffer(raw, kind, int(np.prod(shape)), at).reshape(shape)
    at += x.nbytes
    return torch.tensor(x)


torch.manual_seed(1)
model = GPT2LMHeadModel(GPT2Config(vocab_size=int(V), n_positions=int(T), n_embd=int(C),
                                   n_layer=int(L), n_head=int(NH), resid_pdrop=0, embd_pdrop=0,
                                   attn_pdrop=0, bos_token_id=0, eos_token_id=0))
gpt = model.transformer
gpt.wte.weight.data = take("<f4", VP, C)[:V].clone()
gpt.wpe.weight.data = take("<f4", T, C)
model.tie_weights()
for name, shape in [("ln_1.weight", (C,)), ("ln_1.bias", (C,)), ("attn.c_attn.weight", (3 * C, C)),
                    ("attn.c_attn.bias", (3 * C,)), ("attn.c_proj.weight", (C, C)),
                    ("attn.c_proj.bias", (C,)), ("ln_2.weight", (C,)), ("ln_2.bias", (C,)),
                    ("mlp.c_fc.weight", (4 * C, C)), ("mlp.c_fc.bias", (4 * C,)),
                    ("mlp.c_proj.weight", (C, 4 * C)), ("mlp.c_proj.bias", (C,))]:
    for layer, x in zip(gpt.h, take("<f4", L, *shape)):
        layer.get_parameter(name).data = x.T.contiguous() if len(shape) > 1 else x
gpt.ln_f.weight.data, gpt.ln_f.bias.data = take("<f4", C), take("<f4", C)
tokens, targets, _ = (take("<i4", B, T).long() for _ in range(3))
weights = take("<f4", B * T).double()

model = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, task_type="CAUSAL_LM",
                                         target_modules=["c_attn", "c_proj", "c_fc"]))
trained = [p for p in model.parameters() if p.requires_grad]
for name, p in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(p, std=0.1)
model.save_pretrained(sys.argv[1])
model = model.double()
optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
with open(sys.argv[1] + "/losses.txt", "w") as file:
    for step in range(10):
        logits = model(tokens).logits
        loss = (weights * torch.nn.functional.cross_entropy(
            logits.view(-1, int(V)), targets.view(-1), reduction="none")).sum()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in trained))
        for p in trained:
            p.grad *= min(1.0, 1.0 / norm.item())
        optimizer.step()
        file.write(f"{loss.item():.10f}\n")
