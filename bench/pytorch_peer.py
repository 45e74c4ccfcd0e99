"""The network of `tbg bench` in plain PyTorch, timed: the peer that bench/compare_pytorch.sh divides by.

Owns a straightforward batched implementation (dense pairs, autograd, single precision) of the field in docs and SPEC: published
field plus, as `tbg bench` measures it, edge features of bonded pairs, the harmonic rate and its direct term. Exact divergence
in two ways: one reverse pass per direction (the published way) and vmap over forward-mode directions (PyTorch's best).
--vectors FILE checks the published part against a vector file before anything is timed. --device cuda --compile --bf16 is the
peer of tools/gpu/check.sh: torch.compile, and bf16 products for training (velocities and divergences stay in single precision, as
densities need). Not part of the product.
"""
import argparse
import json
import time

import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, hidden, layers, edge_features, harmonic, tanh=True, attention=True):
        super().__init__()
        act = nn.SiLU()
        self.edge_mlp = nn.Sequential(nn.Linear(2 * hidden + 1 + edge_features, hidden), act, nn.Linear(hidden, hidden), act)
        self.att_mlp = nn.Sequential(nn.Linear(hidden, 1), nn.Sigmoid()) if attention else None
        last = nn.Linear(hidden, 1, bias=False)
        nn.init.xavier_uniform_(last.weight, gain=0.001)
        self.coord_mlp = nn.Sequential(nn.Linear(hidden, hidden), act, last)
        self.node_mlp = nn.Sequential(nn.Linear(2 * hidden, hidden), act, nn.Linear(hidden, hidden))
        self.harmonic_gate = nn.Linear(hidden, 1) if harmonic else None
        self.range, self.tanh = 15.0 / layers, tanh

    def forward(self, h, x, e, push, mask):
        n = h.shape[-2]
        d = x.unsqueeze(-2) - x.unsqueeze(-3)
        r2 = (d * d).sum(-1, keepdim=True)
        u = d / (torch.sqrt(r2 + 1e-8) + 1)
        shape = h.shape[:-2] + (n, n, h.shape[-1])
        m = self.edge_mlp(torch.cat([h.unsqueeze(-2).expand(shape), h.unsqueeze(-3).expand(shape), r2, e], -1))
        if self.att_mlp is not None:
            m = m * self.att_mlp(m)
        m = m * mask
        s = self.coord_mlp(m)
        s = (torch.tanh(s) * self.range if self.tanh else s) * mask
        x = x + (u * s).sum(-2)
        if self.harmonic_gate is not None:
            x = x + (self.harmonic_gate(m) * push).sum(-2)
        return h + self.node_mlp(torch.cat([h, m.sum(-2)], -1)), x


class Field(nn.Module):
    """improved: bonded edge features and harmonic term; classes, mean, width: [N][N] of the molecule."""

    def __init__(self, features, hidden, layers, improved, n_time, tanh=True, attention=True):
        super().__init__()
        self.embedding = nn.Linear(features + n_time, hidden)
        self.improved, self.n_time = improved, n_time
        for k in range(layers):
            self.add_module(f"gcl_{k}", Layer(hidden, layers, 7 if improved else 1, improved, tanh, attention))
        self.layers = [getattr(self, f"gcl_{k}") for k in range(layers)]

    def forward(self, t, x, f, classes=None, mean=None, width=None):
        n = x.shape[-2]
        mask = (1 - torch.eye(n, dtype=x.dtype, device=x.device)).unsqueeze(-1)
        d = x.unsqueeze(-2) - x.unsqueeze(-3)
        r2 = (d * d).sum(-1, keepdim=True)
        e, push = r2, None
        if self.improved:
            r = torch.sqrt(r2.squeeze(-1) + (1 - mask.squeeze(-1)))
            tt = t.reshape(t.shape + (1, 1))
            lam = (tt * width**2 - 2 * (1 - tt)) / (2 * (1 - tt) ** 2 + tt**2 * width**2 + 1e-12)
            bonded = ((classes == 1) | (classes == 2)).to(x.dtype)
            rho = torch.clamp(mean + lam * (r - tt * mean), -8, 8) * bonded
            flags = torch.stack([(classes == k).to(x.dtype) for k in (1, 2, 3)] + [mean], -1).expand(r.shape + (4,))
            e = torch.cat([r2, flags, torch.stack([torch.tanh(3 * (r - mean)) * bonded, torch.tanh(rho)], -1)], -1)
            push = (rho / r).unsqueeze(-1) * d
        times = t.reshape(t.shape + (1, 1)).expand(x.shape[:-1] + (1,))
        h = self.embedding(torch.cat([f.expand(x.shape[:-1] + f.shape[-1:])] + [times] * self.n_time, -1))
        y = x
        for layer in self.layers:
            h, y = layer(h, y, e, push, mask)
        v = y - x
        return v - v.mean(-2, keepdim=True)


def best_rate(run, items, seconds, device="cpu"):
    """Items per second, the best repeat; in processor time on one thread, as bench_network measures."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def work():
        run()
        if device != "cpu":
            torch.cuda.synchronize()

    work()
    best, start = 0.0, clock()
    while True:
        a = clock()
        work()
        now = clock()
        best = max(best, items / (now - a))
        if now - start > seconds:
            return best


def check(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        meta = file.metadata()
        get = {k: file.get_tensor(k).double() for k in file.keys()}
    weights = {k[len("param.egnn."):]: v for k, v in get.items() if k.startswith("param.egnn.") and "embedding_out" not in k}
    hidden = weights["embedding.bias"].shape[0]
    layers = 1 + max(int(k.split(".")[0][4:]) for k in weights if k.startswith("gcl_"))
    on = lambda key: str(meta.get(key, "1")).lower() in ("1", "true")
    f = get["node_features"]
    field = Field(f.shape[1], hidden, layers, False, 1, on("tanh"), on("attention")).double()
    field.load_state_dict(weights)
    with torch.no_grad():
        v = field(get["t"], get["x"], f)
    error = float((v - get["velocity"]).abs().max() / get["velocity"].abs().max())
    if not error < 1e-9:
        raise SystemExit(f"pytorch_peer.py: velocity differs from {path} by {error:g}")
    return error


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--atoms", type=int, default=22)
    p.add_argument("--hidden", type=int, default=64)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--device", default="cpu")
    p.add_argument("--compile", action="store_true", help="torch.compile")
    p.add_argument("--bf16", action="store_true", help="bf16 products in training")
    p.add_argument("--vectors", help="vector file that the published part must reproduce")
    o = p.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    out = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": o.device, "compile": o.compile, "bf16": o.bf16}
    if o.vectors:
        out["vector_error"] = check(o.vectors)
    torch.manual_seed(1)
    torch.set_default_device(o.device)
    n, b = o.atoms, o.batch
    field = Field(21, o.hidden, o.layers, True, 2)
    fast = torch.compile(field) if o.compile else field
    f = torch.eye(n)[:, :21].contiguous() if n >= 21 else torch.eye(21)[:n]
    i = torch.arange(n)
    classes = (i[:, None] - i[None]).abs()
    classes = torch.where(classes <= 3, classes, torch.zeros_like(classes))
    bonded = ((classes == 1) | (classes == 2)).float()
    mean, width = bonded * 0.8, bonded * 0.05
    x, target, t = torch.randn(b, n, 3), torch.randn(b, n, 3), torch.rand(b)

    def train():
        for q in field.parameters():
            q.grad = None
        with torch.autocast(o.device, torch.bfloat16, enabled=o.bf16):
            v = fast(t, x, f, classes, mean, width)
        ((v - target) ** 2).mean().backward()

    def velocity():
        with torch.no_grad():
            fast(t, x, f, classes, mean, width)

    few = 4 if o.device == "cpu" else 64

    def reverse():
        y = x[:few].clone().requires_grad_(True)
        v = field(t[:few], y, f, classes, mean, width)
        total = torch.zeros(few)
        for k in range(3 * n):
            g = torch.autograd.grad(v.reshape(few, -1)[:, k].sum(), y, retain_graph=True)[0]
            total += g.reshape(few, -1)[:, k]
        return total

    def forward():
        basis = torch.eye(3 * n).reshape(3 * n, n, 3)
        y = x[:1]

        def along(e):
            v_dot = torch.func.jvp(lambda z: field(t[:1], z, f, classes, mean, width), (y,), (e.unsqueeze(0),))[1]
            return (v_dot[0] * e).sum()

        with torch.no_grad():
            return torch.func.vmap(along)(basis).sum()

    for q in field.parameters():
        q.requires_grad_(True)
    out["train_molecules_per_s"] = best_rate(train, b, o.seconds, o.device)
    out["velocities_per_s"] = best_rate(velocity, b, o.seconds, o.device)
    for q in field.parameters():
        q.requires_grad_(False)
    a, c = reverse()[0], forward()
    if not torch.allclose(a, c, rtol=1e-3, atol=1e-3):
        raise SystemExit(f"pytorch_peer.py: the two divergences differ: {a} and {c}")
    out["divergences_per_s_reverse"] = best_rate(reverse, few, o.seconds, o.device)
    out["divergences_per_s_forward"] = best_rate(forward, 1, o.seconds, o.device)
    out["exact_divergences_per_s"] = max(out["divergences_per_s_reverse"], out["divergences_per_s_forward"])
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
