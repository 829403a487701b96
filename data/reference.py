"""data/reference.py - reference results: a small GPT-2 in PyTorch, in float64, with autograd only.

    python3 data/reference.py data/reference.bin      (needs PyTorch and numpy; test_gpt reads it)

The file begins with 256 int32: magic 20240607, version 1, T, V, L, NH, C, Vp, B, the number of
batches. Then come the parameters as fp32, in the order of a model file. Then, for each batch,
tokens, targets and doc_start as int32 (B*T each), and the targets' weights in the loss as fp32
(B*T). Then, as float64: of batch 1 the logits (B*T*V), the losses (B*T) and the gradients of all
parameters; of ten steps of AdamW the losses, the gradient norms before clipping, and all
parameters afterwards; of 50 steps with label smoothing the losses, and all parameters afterwards.
"""
import math
import sys
import numpy as np
import torch
import torch.nn.functional as F

T, V, L, NH, C, VP, B, BATCHES = 16, 97, 2, 4, 32, 104, 3, 10
LAYER = [("ln1_w", (C,)), ("ln1_b", (C,)), ("qkv_w", (3 * C, C)), ("qkv_b", (3 * C,)),
         ("attproj_w", (C, C)), ("attproj_b", (C,)), ("ln2_w", (C,)), ("ln2_b", (C,)),
         ("fc_w", (4 * C, C)), ("fc_b", (4 * C,)), ("fcproj_w", (C, 4 * C)), ("fcproj_b", (C,))]
SHAPES = [("wte", (VP, C)), ("wpe", (T, C))] + [(n, (L,) + s) for n, s in LAYER] \
       + [("lnf_w", (C,)), ("lnf_b", (C,))]
random = np.random.default_rng(1)


def first_weights():
    """First parameters: larger than GPT-2's, so that no layer is nearly linear; rounded to fp32."""
    w = {}
    for name, shape in SHAPES:
        x = random.normal(0, 0.12, shape) + ("ln" in name and name.endswith("w"))
        if name == "wte":
            x[V:] = 0
        w[name] = x.astype(np.float32)
    return w


def batch(packed):
    """Rows of T tokens: one text in which every target counts or, packed, documents in which only
    the last targets count."""
    tokens, targets = (random.integers(0, V, (B, T)) for _ in range(2))
    doc_start, weights = np.zeros((B, T), int), np.ones((B, T))
    for b in range(B * packed):
        t = 0
        while t < T:
            end = min(T, t + random.integers(2, 9))
            doc_start[b, t:end] = t
            weights[b, t:random.integers(t, end)] = 0
            t = end
    return tokens, targets, doc_start, (weights / weights.sum()).astype(np.float32)


def forward(w, tokens, doc_start):
    t = torch.arange(T)
    x = w["wte"][tokens] + w["wpe"][t - doc_start]
    seen = (t[None, None, :] <= t[None, :, None]) & (t[None, None, :] >= doc_start[:, :, None])
    for l in range(L):
        p = {name: w[name][l] for name, _ in LAYER}
        y = F.layer_norm(x, (C,), p["ln1_w"], p["ln1_b"], 1e-5)
        qkv = y @ p["qkv_w"].T + p["qkv_b"]
        q, k, v = (z.view(B, T, NH, C // NH).transpose(1, 2) for z in qkv.split(C, 2))
        scores = (q @ k.transpose(2, 3) / math.sqrt(C // NH)).masked_fill(~seen[:, None], -math.inf)
        y = (scores.softmax(3) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + y @ p["attproj_w"].T + p["attproj_b"]
        y = F.layer_norm(x, (C,), p["ln2_w"], p["ln2_b"], 1e-5)
        y = F.gelu(y @ p["fc_w"].T + p["fc_b"], approximate="tanh")
        x = x + y @ p["fcproj_w"].T + p["fcproj_b"]
    return F.layer_norm(x, (C,), w["lnf_w"], w["lnf_b"], 1e-5) @ w["wte"][:V].T


def losses(logits, targets, smoothing=0.0):
    return F.cross_entropy(logits.view(-1, V), targets.view(-1), reduction="none",
                           label_smoothing=smoothing)


def weights_from(arrays):
    return {n: torch.tensor(a, dtype=torch.float64, requires_grad=True) for n, a in arrays.items()}


def train(w, batches, steps, lr, warmup, smoothing):
    """AdamW with decay 0.1 on matrices only, clipping to norm 1, warmup, then a cosine to lr/10."""
    def decays(name):
        return name in ("wte", "wpe") or (name.endswith("_w") and not name.startswith("ln"))
    groups = [{"params": [p for n, p in w.items() if decays(n) == d], "weight_decay": 0.1 * d}
              for d in (False, True)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    out = []
    for step in range(steps):
        tokens, targets, doc_start, weights = batches[step % len(batches)]
        loss = (weights * losses(forward(w, tokens, doc_start), targets, smoothing)).sum()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in w.values()))
        for p in w.values():
            p.grad *= min(1.0, 1.0 / norm.item())
        rate = (step + 1) / warmup if step < warmup else \
            0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.step()
        out.append((loss.item(), norm.item()))
    return np.array(out).T


def main(path):
    arrays = first_weights()
    raw = [batch(packed=i > 0) for i in range(BATCHES)]
    batches = [(*map(torch.tensor, (a, b, c)), torch.tensor(d).double().view(-1))
               for a, b, c, d in raw]
    with open(path, "wb") as file:
        def put(kind, *values):
            for value in values:
                file.write(np.asarray(value, kind).tobytes())
        header = np.zeros(256, "<i4")
        header[:10] = 20240607, 1, T, V, L, NH, C, VP, B, BATCHES
        put("<i4", header)
        put("<f4", *arrays.values())
        for a, b, c, d in raw:
            put("<i4", a, b, c)
            put("<f4", d)
        w = weights_from(arrays)
        tokens, targets, doc_start, weights = batches[1]
        logits = forward(w, tokens, doc_start)
        loss = losses(logits, targets)
        (weights * loss).sum().backward()
        put("<f8", logits.detach(), loss.detach(), *(p.grad for p in w.values()))
        for steps, lr, warmup, smoothing in (10, 1e-2, 3, 0.0), (50, 2e-3, 5, 0.1):
            w = weights_from(arrays)
            loss, norm = train(w, batches, steps, lr, warmup, smoothing)
            print(f"{steps} steps: loss {loss[0]:.4f} to {loss[-1]:.4f}, "
                  f"gradient {norm[0]:.3f} to {norm[-1]:.3f}")
            put("<f8", loss, norm if steps == 10 else [], *(p.detach() for p in w.values()))


main(sys.argv[1])
