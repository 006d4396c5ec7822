"""The difference between two models of one shape as a LoRA adapter: small enough to ship with the package.

RFT, RL and the meta RM each train an adapter of their own and merge it. Their sum is one matrix of low rank
per layer, which a truncated singular value decomposition gives back; what is lost (nothing but rounding,
where the ranks add up to no more than RANK) is measured and printed. A meta RM's head goes with its adapter.

    python recipes/smollm2/ship.py --model runs/smollm2/rft/model --out src/spct/adapters/grm
    python recipes/smollm2/ship.py --model runs/smollm2/meta-rm/model --out src/spct/adapters/meta_rm
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

RANK = 24  # 14.7 MB in bfloat16 with all linear layers of the embedded model
ALPHA = 24  # so that the factor alpha / rank is 1
PREFIX = "base_model.model."


def write_adapter(base: Path, model: Path, out: Path, rank: int = RANK) -> dict[str, Any]:
    """Write OUT/adapter_model.safetensors and OUT/adapter_config.json.

    Args:
        base: Folder of the model that the adapter is for.
        model: Folder of the trained model.
        out: Folder to write.
        rank: Of the adapter.

    Returns:
        Size in bytes, layers, and the share of the difference (in squared norm) that was lost.
    """
    import torch
    from safetensors.torch import load_file, save_file

    first, second = load_file(base / "model.safetensors"), load_file(model / "model.safetensors")
    tensors, targets, lost, total = {}, set(), 0.0, 0.0
    for name in sorted(first.keys() & second.keys()):  # a classifier lacks the layer that writes tokens
        delta = second[name].float() - first[name].float()
        norm = float(delta.pow(2).sum())
        total += norm
        if not name.endswith("_proj.weight"):
            lost += norm
            continue
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(delta, q=min(rank + 8, *delta.shape), niter=4)
        a = (s[:rank].sqrt()[:, None] * v[:, :rank].T).to(torch.bfloat16)
        b = (u[:, :rank] * s[:rank].sqrt()).to(torch.bfloat16)
        lost += float((delta - b.float() @ a.float()).pow(2).sum())
        layer = PREFIX + name.removesuffix(".weight")
        tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"] = a.contiguous(), b.contiguous()
        targets.add(name.split(".")[-2])
    layers, head = len(tensors) // 2, second.get("score.weight")
    if head is not None:
        tensors[f"{PREFIX}score.weight"] = head.float().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "modules_to_save": None if head is None else ["score"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "r": rank,
        "lora_alpha": ALPHA * rank // RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(targets),
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    size = (out / "adapter_model.safetensors").stat().st_size
    return {"bytes": size, "layers": layers, "lost": lost / total if total else 0.0}


def main() -> None:
    """Read the command line and write the adapter."""
    from spct.backends.embedded import locate

    parser = argparse.ArgumentParser(description="a trained model as an adapter of the embedded one")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=None, help="[the embedded model]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=RANK)
    args = parser.parse_args()
    print(json.dumps(write_adapter(args.base or Path(locate()), args.model, args.out, args.rank), indent=2))


if __name__ == "__main__":
    main()
