"""In which type a model in this process computes."""

from __future__ import annotations

from typing import Any


def multiplies_bfloat16(device: str) -> bool:
    """Tell whether a device multiplies in bfloat16: a CPU by AVX-512 BF16 or AMX, a GPU from Ampere on."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":  # `auto` may move weights later, and of others we know nothing
        return False
    of_this_cpu: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.13 and later
    return any(of_this_cpu.get(name) for name in ("avx512_bf16", "amx_bf16"))


def to_bfloat16(model: Any) -> None:
    """Turn float32 weights into bfloat16, in place; buffers stay: angles of positions must be exact."""
    import torch

    for weight in model.parameters():
        if weight.dtype == torch.float32:  # else quantized
            weight.data = weight.data.bfloat16()
